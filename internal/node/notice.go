package node

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/alarm"
	"github.com/perdure/perdure/internal/check"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/group"
	"github.com/perdure/perdure/internal/hook"
	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/notify"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/rule"
	"github.com/perdure/perdure/internal/run"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
	"github.com/perdure/perdure/internal/trace"
	"github.com/perdure/perdure/internal/watch"
)

// notice is what a node does about what happens: it keeps events, watches
// conditions, and brings news to people and programs. Nothing that heals,
// routes or accepts writes waits for any of it.
type notice struct {
	events *jet.Events
	teller *watch.Teller
	plans  *plan.Teller
	alarms *alarm.Alarms
	rules  *rule.Rules
	hooks  map[string]*hook.Hook
	last   atomic.Pointer[alarm.Facts] // as last read
	trace  *trace.Tracer               // nil unless the environment asks for traces
}

// openNotice makes the parts. It touches no store.
func (n *Node) openNotice(metrics *prometheus.Registry, version string) error {
	f := n.file
	replicas := f.Streams.Replicas
	if replicas == 0 && len(f.Streams.Peers) > 0 {
		replicas = 3
	}
	log := n.log.With("part", "notice")
	n.notice.events = n.streams.Events(jet.EventsConfig{Replicas: replicas, Keep: f.Events.Keep, MaxBytes: f.Events.MaxBytes}, log)
	n.notice.plans = &plan.Teller{To: n.publisher(), Cluster: f.Cluster}
	n.notice.teller = watch.NewTeller(watch.TellerConfig{
		Watch: n.watch, Store: n.control, Hold: n.hold, To: n.publisher(), Settle: n.notice.events.Settle, Node: f.Node.Name, Log: log,
	})
	n.audit.Tell(n.tellAudit)
	var err error
	if n.notice.trace, err = trace.Open(context.Background(), f.Cluster, f.Node.Name, version); err != nil {
		return err
	}
	if n.notice.alarms, err = alarm.New(alarm.Needs{
		Config: f.Alarms, Node: f.Node.Name, Cluster: f.Cluster, Store: n.control, Hold: n.hold, Facts: n.facts,
		Metrics: metrics, To: n.publisher(), Settle: n.notice.events.Settle, Log: log,
	}); err != nil {
		return err
	}
	channels, hooks := map[string]rule.Place{}, map[string]rule.Place{}
	for _, c := range f.Notify {
		ch, err := notify.New(c, f.Secret)
		if err != nil {
			return err
		}
		channels[c.Name] = rule.Place{Target: traced{ch, n.notice.trace, "notify/" + c.Name}, Policy: rule.Policy{Timeout: ch.Timeout(), GiveUp: ch.GiveUp()}}
	}
	n.notice.hooks = map[string]*hook.Hook{}
	for _, c := range f.Hooks {
		h, err := hook.New(c, hook.Needs{Secret: f.Secret, Still: n.still, Actions: n.actions(), Post: n.post})
		if err != nil {
			return err
		}
		n.notice.hooks[c.Name] = h
		hooks[c.Name] = rule.Place{Target: traced{h, n.notice.trace, "hook/" + c.Name}, Policy: rule.Policy{Timeout: h.Timeout() + 5*time.Second, Attempts: h.Attempts()}}
	}
	n.notice.rules, err = rule.New(rule.Needs{
		Rules: f.Rules, Channels: channels, Hooks: hooks, Node: f.Node.Name, Cluster: f.Cluster, Store: n.control,
		Source: n.notice.events, Hold: n.hold, To: n.publisher(), Log: log,
	})
	if err != nil {
		return err
	}
	metrics.MustRegister(measure{n, version}, n.notice.events, n.notice.alarms, n.notice.rules, alarm.Host{
		Dirs:         []string{f.Node.Data},
		Certificates: n.certificates(),
	})
	return nil
}

// certificates are the files whose end an alarm watches: the node's own, and
// those its file names.
func (n *Node) certificates() []string {
	f := n.file
	all := []string{filepath.Join(f.Node.Data, CAFile), filepath.Join(f.Node.Data, "tls", "api.crt"), f.MySQL.CA, f.Control.CA, f.Control.Cert}
	if f.Proxy != nil {
		all = append(all, f.Proxy.Cert)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(file string) bool { return file == "" })
}

// noticing are the parts that tell. They stop after everything they tell of.
func (n *Node) noticing() []run.Part {
	return []run.Part{
		{Name: "trace", Run: n.notice.trace.Run},
		{Name: "events", Run: n.notice.events.Run},
		{Name: "lifecycle", Run: n.tellLife},
		{Name: "proxy events", Run: n.tellProxy},
		{Name: "lost events", Run: n.tellDropped},
		{Name: "teller", Run: n.notice.teller.Run},
		{Name: "drift", Run: n.followDrift},
		{Name: "alarms", Run: n.notice.alarms.Run},
		{Name: "rules", Run: n.notice.rules.Run},
	}
}

// hold waits until this node may act.
func (n *Node) hold(ctx context.Context) (context.Context, state.Fence, error) {
	held, term, err := n.lease.Hold(ctx)
	return held, term.Fence(), err
}

// publish fills in where an event comes from.
type publish func(event.Event)

// Publish implements event.Publisher.
func (p publish) Publish(e event.Event) { p(e) }

func (n *Node) publisher() event.Publisher {
	return publish(func(e event.Event) {
		if e.Cluster == "" {
			e.Cluster = n.file.Cluster
		}
		if e.Node == "" {
			e.Node = n.file.Node.Name
		}
		n.notice.events.Publish(e)
	})
}

// facts is what alarms rest on besides metrics. What the control store does not
// tell is left out: that store has an alarm of its own.
func (n *Node) facts(ctx context.Context) alarm.Facts {
	f := alarm.Facts{View: n.watch.View(), Out: map[string]bool{}, Drift: int(n.drift.Load())}
	// A store that does not answer is no news about the pause or the plan.
	if last := n.notice.last.Load(); last != nil {
		f.Paused, f.Plan = last.Paused, last.Plan
	}
	// Reads beside each other need one question to the other nodes, not three.
	var all sync.WaitGroup
	all.Go(func() {
		if c, err := n.group.Cluster(ctx); err == nil {
			f.Stopped = c.Stopped
			for _, m := range c.Members {
				f.Out[m.Name] = m.Stopped
			}
		}
	})
	all.Go(func() {
		if p, err := n.group.Paused(ctx); err == nil {
			f.Paused = p.Since
		}
	})
	all.Go(func() {
		if p, err := n.group.Current(ctx); err == nil {
			f.Plan = p.Created
		}
	})
	all.Wait()
	n.notice.last.Store(&f)
	return f
}

// driftPause is how often settings are compared.
const driftPause = 30 * time.Second

// followDrift compares the members' settings with each other, on the node that
// leads, and tells each difference once.
func (n *Node) followDrift(ctx context.Context) error {
	known := map[string]check.Finding{}
	for {
		held, _, err := n.lease.Hold(ctx)
		if err != nil {
			return err
		}
		for held.Err() == nil {
			n.tellDrift(held, known)
			select {
			case <-held.Done():
			case <-time.After(driftPause):
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

func (n *Node) tellDrift(ctx context.Context, known map[string]check.Finding) {
	all, now := map[string]check.Facts{}, map[string]check.Finding{}
	last := n.notice.last.Load()
	changing := last == nil || !last.Plan.IsZero()
	for _, m := range n.watch.View().In(topology.Online) {
		server, err := n.Open(m.Instance)
		if err != nil {
			continue
		}
		facts, _, err := check.Server(ctx, server)
		if err == nil {
			all[m.Name] = facts
		}
		if !changing && err == nil {
			n.astray(ctx, server, now)
		}
		_ = server.Close()
	}
	asked := map[string]bool{} // settings that are said already, of the member that has them wrong
	for _, f := range now {
		asked[f.Subject] = true
	}
	for _, f := range check.Compare(all) {
		if f.Kind == check.Drift && !asked[f.Subject] {
			now[f.Member+"/"+f.Subject] = f
		}
	}
	n.drift.Store(int64(len(now)))
	for key, f := range now {
		if _, was := known[key]; !was {
			e := event.New(event.DriftFound, "member/"+f.Member, f.Text)
			e.Member = f.Member
			n.publisher().Publish(e.With("setting", f.Subject))
		}
		known[key] = f
	}
	for key, f := range known {
		if _, asked := all[f.Member]; !asked {
			continue // it is away: nobody knows
		}
		if _, is := now[key]; !is {
			e := event.New(event.DriftGone, "member/"+f.Member, f.Subject+" is as it should be again")
			e.Member = f.Member
			n.publisher().Publish(e)
			delete(known, key)
		}
	}
}

// astray adds the settings of a member that are not what the cluster wants.
func (n *Node) astray(ctx context.Context, server *mysql.Server, to map[string]check.Finding) {
	settings, err := n.group.Astray(ctx, server)
	if err != nil {
		return // not to be told is no drift; that it does not answer is told elsewhere
	}
	for _, s := range settings {
		to[server.Name()+"/"+s.Name] = check.Finding{
			Member: server.Name(), Kind: check.Drift, Subject: s.Name,
			Text: fmt.Sprintf("%s on %s is %s, and %s was asked for", s.Name, server.Name(), s.Have, s.Want),
		}
	}
}

// still reads the truth again before a hook acts.
func (n *Node) still(ctx context.Context, e event.Event) (bool, error) {
	v, err := n.watch.Look(ctx)
	if err != nil {
		return false, err
	}
	return watch.Still(v, e), nil
}

// actions are what hooks can do without a command. Each looks first: it may be
// called again.
func (n *Node) actions() map[string]hook.Action {
	about := func(e event.Event, with map[string]string) (string, error) {
		if m := with["member"]; m != "" {
			return m, nil
		}
		if e.Member == "" {
			return "", fmt.Errorf("the event %s is about no member: name one with `with: {member: NAME}`", e.Kind)
		}
		return e.Member, nil
	}
	return map[string]hook.Action{
		"rejoin": func(ctx context.Context, _ string, e event.Event, with map[string]string) (string, error) {
			m, err := about(e, with)
			if err != nil {
				return "", err
			}
			p, err := n.group.StartMember(ctx, m, group.Request{Actor: "hook"})
			if err != nil {
				return "", err
			}
			return p.Title + " (" + p.ID + ")", nil
		},
		"drain": func(ctx context.Context, _ string, e event.Event, with map[string]string) (string, error) {
			m, err := about(e, with)
			if err != nil {
				return "", err
			}
			return "drained " + m, n.Drain(ctx, m)
		},
		"undrain": func(ctx context.Context, _ string, e event.Event, with map[string]string) (string, error) {
			m, err := about(e, with)
			if err != nil {
				return "", err
			}
			return "undrained " + m, n.Undrain(ctx, m)
		},
	}
}

// postLimit is the time the hook has: its own limit counts, not a channel's.
func postLimit(ctx context.Context) time.Duration {
	if d, ok := ctx.Deadline(); ok {
		return max(time.Until(d), time.Millisecond)
	}
	return 30 * time.Second
}

// post sends an event as a webhook channel would.
func (n *Node) post(ctx context.Context, to hook.HTTP, id string, e event.Event) (string, error) {
	ch, err := notify.New(notify.Config{Name: "hook", Timeout: event.Duration(postLimit(ctx)), Webhook: &notify.Webhook{URL: to.URL, Secret: to.Secret, Headers: to.Headers, CA: to.CA}}, n.file.Secret)
	if err != nil {
		return "", err
	}
	return ch.Attempt(ctx, id, 1, e)
}
