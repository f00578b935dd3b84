package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/lease"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
	"github.com/perdure/perdure/internal/watch"
)

// Lease says when this node may act.
type Lease interface {
	// Hold waits until this node may act. The context ends with the right to.
	Hold(ctx context.Context) (context.Context, lease.Term, error)
}

// Config is what a Group needs.
type Config struct {
	Node  string // this node's name, for the journal
	Store state.Store
	Lease Lease
	Watch *watch.Watcher
	// Open connects to a member with the account that may change it.
	Open func(topology.Instance) (*mysql.Server, error)
	Log  *slog.Logger
	// Heal lets this node mend the group by itself; without it, it only does
	// what people ask for.
	Heal bool
	// Gate keeps clients away where a plan is at work. Without it nobody is kept.
	Gate Gate
	// Handover restarts the server of a member, or replaces its programs and
	// restarts it. Without it servers are asked to restart themselves.
	Handover func(ctx context.Context, m api.Member) error
	// Salvage is the directory for transactions of members that are rebuilt, and
	// Binlog finds mysqlbinlog to save them with. Without both, a member with
	// transactions of its own is left to people.
	Salvage string
	Binlog  func() (string, error)
	// Tell, if set, hears what healing does and asks.
	Tell event.Publisher
	// Written, if set, is called after every write of a plan's journal.
	Written func(plan.Plan)
}

// Group changes one cluster. Its methods may be called on every node; plans
// are carried out by the node that holds the lease.
type Group struct {
	Config
	doc      state.Doc[Cluster]
	current  state.Doc[current]
	pause    state.Doc[Pause]
	question state.Doc[Question]
	asking   atomic.Pointer[string]
	decided  atomic.Pointer[time.Time]
	watch    *watch.Watcher

	mu      sync.Mutex
	servers map[string]*mysql.Server // by address
}

// current names the plan that runs. There is at most one.
type current struct {
	Plan  string `json:"plan,omitempty"`
	Abort string `json:"abort,omitempty"` // who wants it taken back
}

const (
	clusterKey = "cluster"
	currentKey = "plans/current"
	planPrefix = "plans/by-id/"
)

// New returns a Group. It does nothing before Run.
func New(c Config) *Group {
	return &Group{
		Config: c, watch: c.Watch,
		doc:      state.NewDoc[Cluster](c.Store, clusterKey),
		current:  state.NewDoc[current](c.Store, currentKey),
		pause:    state.NewDoc[Pause](c.Store, pauseKey),
		question: state.NewDoc[Question](c.Store, questionKey),
		servers:  map[string]*mysql.Server{},
	}
}

// Cluster reads the cluster document.
func (g *Group) Cluster(ctx context.Context) (Cluster, error) {
	c, _, err := g.doc.Get(ctx)
	return c, err
}

// Run watches the cluster document, and carries out plans while this node
// holds the lease, until ctx ends.
func (g *Group) Run(ctx context.Context) error {
	defer g.closeServers()
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all.Go(func() {
		for c := range g.doc.Watch(ctx) {
			g.aim(c)
		}
	})
	all.Go(func() {
		for q := range g.question.Watch(ctx) {
			g.asking.Store(&q.Text)
		}
	})
	for {
		held, term, err := g.Lease.Hold(ctx)
		if err != nil {
			return err
		}
		g.Log.Info("this node acts", "epoch", term.Epoch)
		err = g.lead(held, term.Fence())
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		g.Log.Warn("this node acts no longer", "epoch", term.Epoch, "err", err)
	}
}

// aim points the watcher at the members of a cluster.
func (g *Group) aim(c Cluster) {
	g.watch.Watch(topology.Expect{Cluster: c.Name, Group: c.Group}, c.Instances())
}

// lead carries out plans and fences second groups until ctx ends.
func (g *Group) lead(ctx context.Context, fence state.Fence) error {
	changes, end := g.watch.Changes()
	defer end()
	plans := make(chan struct{}, 1)
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all.Go(func() {
		for range g.current.Watch(ctx) {
			select {
			case plans <- struct{}{}:
			default:
			}
		}
	})
	// The View changes without a change of judgement too, and patience runs out.
	retry := time.NewTicker(retryPause)
	defer retry.Stop()
	h := &healer{Group: g, fence: fence, tried: history{}, pulses: map[string]pulse{}, gaveUp: map[string]bool{}, period: map[string]int{}}
	for {
		began, failed := time.Now(), false
		if err := g.carryOut(ctx, fence); err != nil {
			if ctx.Err() != nil || errors.Is(err, state.ErrStale) {
				return err
			}
			g.Log.Warn("a plan waits", "err", err)
			failed = true
		}
		if err := g.fenceSecond(ctx); err != nil {
			g.Log.Warn("a second group could not be fenced", "err", err)
			failed = true
		}
		if err := h.step(ctx); err != nil && ctx.Err() == nil {
			g.Log.Warn("healing waits", "err", err)
			failed = true
		}
		for wait := true; wait; {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-plans:
				wait = false
			case <-changes:
				wait = false
			case <-retry.C:
				wait = !failed && calm(g.watch.View(), g.Asking()) && time.Since(began) < calmPause
			}
		}
	}
}

const (
	retryPause = 500 * time.Millisecond
	// calmPause is how often everything is looked at that would not tell by itself
	// that it changed, while nothing is amiss. Each look asks the control store.
	calmPause = 2 * time.Second
)

// calm tells that there is nothing that patience could run out with.
func calm(v *topology.View, asking string) bool {
	return asking == "" && len(v.Problems) == 0 && len(v.Members) > 0 && len(v.In(topology.Online)) == len(v.Members)
}

// carryOut takes the current plan, if there is one, to its end.
func (g *Group) carryOut(ctx context.Context, fence state.Fence) error {
	cur, _, err := g.current.Get(ctx)
	if err != nil || cur.Plan == "" {
		return err
	}
	c, _, err := g.doc.Get(ctx)
	if err != nil {
		return err
	}
	g.aim(c) // the watch of the document may be a moment behind
	abort, end := g.aborted(ctx, cur.Plan)
	r := plan.Runner{
		Doc: state.NewDoc[plan.Plan](g.Store, planPrefix+cur.Plan), Fence: fence, Node: g.Node,
		Actor: &actor{Group: g, fence: fence}, Written: g.Written, Abort: abort,
	}
	p, err := r.Run(ctx)
	end()
	if err != nil {
		return fmt.Errorf("plan %s: %w", cur.Plan, err)
	}
	g.Log.Info("plan ended", "plan", p.ID, "state", p.State, "title", p.Title, "err", p.Error)
	_, err = g.current.Change(ctx, fence, func(c *current) error {
		if c.Plan == cur.Plan {
			*c = current{}
		}
		return nil
	})
	return err
}

// fenceSecond makes the members of a second group read-only: one with our name,
// or one with a name we had before we went on without its members. The evidence
// is of two kinds: both groups' members said it themselves, and their lists
// have no member in common.
func (g *Group) fenceSecond(ctx context.Context) error {
	var todo []string
	for _, p := range g.watch.View().Problems {
		if p.Kind == topology.TwoGroups || p.Kind == topology.OtherGroup {
			todo = append(todo, p.Members...)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	c, err := g.Cluster(ctx)
	if err != nil {
		return err
	}
	v, err := g.look(ctx, todo) // what was read must still hold
	if err != nil {
		return err
	}
	var failed []error
	for _, p := range v.Problems {
		for _, name := range p.Members {
			m, _ := v.Member(name)
			if m.Report == nil || m.Report.SuperReadOnly {
				continue
			}
			ours := p.Kind == topology.TwoGroups || p.Kind == topology.OtherGroup && slices.Contains(c.Former, m.Report.GroupName)
			if !ours {
				continue
			}
			server, err := g.server(Known{Member: specOf(m)})
			if err == nil {
				err = server.SetReadOnly(ctx)
			}
			g.Log.Warn("fenced a member of a second group", "member", name, "text", p.Text, "err", err)
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// look returns a View that is newer than the call.
func (g *Group) look(ctx context.Context, names []string) (*topology.View, error) {
	limited, cancel := context.WithTimeoutCause(ctx, lookLimit, errors.New("the watcher did not finish a round within "+lookLimit.String()))
	defer cancel()
	v, err := g.watch.Look(limited, names...)
	if err != nil {
		return v, fmt.Errorf("look at %v: %w", names, err)
	}
	return v, nil
}

// server returns the connection to a member.
func (g *Group) server(m Known) (*mysql.Server, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.servers[m.Address]; s != nil && s.Name() == m.Name {
		return s, nil
	}
	s, err := g.Open(m.instance())
	if err != nil {
		return nil, err
	}
	if old := g.servers[m.Address]; old != nil {
		_ = old.Close()
	}
	g.servers[m.Address] = s
	return s, nil
}

func (g *Group) closeServers() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.servers {
		_ = s.Close()
	}
	clear(g.servers)
}

// memberOf returns what the cluster document says about a member.
func (g *Group) memberOf(ctx context.Context, name string) (Known, error) {
	c, _, err := g.doc.Get(ctx)
	if err != nil {
		return Known{}, err
	}
	m, ok := c.Member(name)
	if !ok {
		return m, plan.Refuse("`perdure status` lists the members", "cluster %s has no member %s; it has %v", c.Name, name, c.Names())
	}
	return m, nil
}

func specOf(m topology.Member) api.Member {
	return api.Member{Name: m.Name, Address: m.Address, Zone: m.Zone}
}

// Plans returns the plans that were made, newest first, at most limit.
func (g *Group) Plans(ctx context.Context, limit int) ([]plan.Plan, error) {
	cur, _, err := g.current.Get(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := g.Store.List(ctx, planPrefix)
	if err != nil {
		return nil, err
	}
	var out []plan.Plan
	for _, e := range entries {
		p, _, err := state.NewDoc[plan.Plan](g.Store, e.Key).Get(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, neverBegun(p, cur, time.Now()))
	}
	slices.SortFunc(out, func(a, b plan.Plan) int { return b.Created.Compare(a.Created) })
	return out[:min(limit, len(out))], nil
}

// neverBegun calls a plan by what it is whose node was killed after it wrote the
// plan and before it made it the current one: nobody will ever carry it out.
func neverBegun(p plan.Plan, cur current, now time.Time) plan.Plan {
	if p.State.Over() || p.ID == cur.Plan || p.Done() > 0 || now.Sub(p.Created) < time.Minute {
		return p
	}
	p.State, p.Error, p.Ended = plan.Undone, "it never began: the node that was asked for it was stopped", p.Created
	return p
}

// Plan returns one plan.
func (g *Group) Plan(ctx context.Context, id string) (plan.Plan, error) {
	p, rev, err := state.NewDoc[plan.Plan](g.Store, planPrefix+id).Get(ctx)
	if err == nil && rev == 0 {
		err = fmt.Errorf("there is no plan %s: %w", id, ErrNoSuchPlan)
	}
	return p, err
}

// ErrNoSuchPlan is returned for an id nobody knows.
var ErrNoSuchPlan = errors.New("no such plan")

// WaitPlan waits until the plan ended or ctx ends, and calls seen, if not nil,
// with every state of it on the way.
func (g *Group) WaitPlan(ctx context.Context, id string, seen func(plan.Plan)) (plan.Plan, error) {
	doc := state.NewDoc[plan.Plan](g.Store, planPrefix+id)
	var last plan.Plan
	for p := range doc.Watch(ctx) {
		last = p
		if seen != nil {
			seen(p)
		}
		if p.State.Over() {
			return p, nil
		}
	}
	return last, context.Cause(ctx)
}

// submit makes p the current plan. If the current plan is the same request, it
// is returned instead: asking twice is asking once.
func (g *Group) submit(ctx context.Context, p plan.Plan) (plan.Plan, error) {
	cur, _, err := g.current.Get(ctx)
	if err != nil {
		return p, err
	}
	if cur.Plan != "" {
		running, err := g.Plan(ctx, cur.Plan)
		switch {
		case err != nil && !errors.Is(err, ErrNoSuchPlan):
			return p, err
		case err == nil && !running.State.Over() && running.Kind == p.Kind && running.Title == p.Title:
			return running, nil
		case err == nil && !running.State.Over():
			return p, plan.Refuse("wait for it with `perdure op watch "+running.ID+"`",
				"another plan is running: %s (%s, step %d of %d). Nothing was changed.", running.Title, running.ID, running.Done()+1, len(running.Steps))
		}
	}
	if len(p.Steps) == 0 {
		return p, nil
	}
	if _, err := state.NewDoc[plan.Plan](g.Store, planPrefix+p.ID).Put(ctx, p, 0, state.Fence{}); err != nil {
		return p, err
	}
	_, err = g.current.Change(ctx, state.Fence{}, func(now *current) error {
		// The plan before is over a moment before it is cleared away: whoever asks
		// for the next at once finds either.
		if now.Plan != "" && now.Plan != cur.Plan {
			return plan.Refuse("run the command again", "somebody else started a plan at the same moment. Nothing was changed.")
		}
		*now = current{Plan: p.ID}
		return nil
	})
	return p, err
}

// Current returns the plan that runs, or a zero plan.
func (g *Group) Current(ctx context.Context) (plan.Plan, error) {
	cur, _, err := g.current.Get(ctx)
	if err != nil || cur.Plan == "" {
		return plan.Plan{}, err
	}
	p, err := g.Plan(ctx, cur.Plan)
	if err != nil || p.State.Over() {
		return plan.Plan{}, err
	}
	return p, nil
}
