package group

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/check"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/topology"
	"github.com/perdure/perdure/internal/watch"
)

// Request is a wish for a change.
type Request struct {
	Accept Accept
	Remove []string // members that leave the cluster
	Method string   // of provisioning new members; default Auto
	DryRun bool     // decide, and do nothing
	Actor  string   // who asks, for the journal
}

// Apply makes the cluster what spec wants. It returns the plan it started, or,
// with DryRun, the plan it would start. If the same change is running already,
// that plan is returned. A *plan.RefusedError says that nothing was changed.
func (g *Group) Apply(ctx context.Context, spec api.Spec, r Request) (plan.Plan, error) {
	running, err := g.resumable(ctx, spec, r)
	if err != nil || running.ID != "" {
		return running, err
	}
	c, _, err := g.doc.Get(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	a, err := g.examine(ctx, spec, c, r)
	if err != nil {
		return plan.Plan{}, err
	}
	p, err := decideApply(a)
	if err != nil {
		return p, err
	}
	return g.start(ctx, p, r)
}

func (g *Group) start(ctx context.Context, p plan.Plan, r Request) (plan.Plan, error) {
	p.Actor = r.Actor
	if r.DryRun {
		return p, nil
	}
	return g.submit(ctx, p)
}

// resumable returns the plan that runs, if it leads to what spec wants. The
// members are in flux while it runs, so nothing else can be decided then.
func (g *Group) resumable(ctx context.Context, spec api.Spec, r Request) (plan.Plan, error) {
	cur, _, err := g.current.Get(ctx)
	if err != nil || cur.Plan == "" || r.DryRun {
		return plan.Plan{}, err
	}
	p, err := g.Plan(ctx, cur.Plan)
	if err != nil || p.State.Over() {
		return plan.Plan{}, nil // it is about to be cleared
	}
	if leadsTo(p, spec) {
		return p, nil
	}
	return plan.Plan{}, plan.Refuse("wait for it with `perdure op watch "+p.ID+"`",
		"another plan is running: %s (%s). Nothing was changed.", p.Title, p.ID)
}

// leadsTo tells whether a plan ends in the cluster that spec describes.
func leadsTo(p plan.Plan, spec api.Spec) bool {
	if p.State != plan.Running {
		return false
	}
	var last *Cluster
	for _, s := range p.Steps {
		if s.Verb == record {
			if c, err := recorded(s); err == nil {
				last = &c
			}
		}
	}
	if last == nil || last.Name != spec.Cluster || !slices.Equal(sorted(last.Names()), sorted(names(spec.Members))) {
		return false
	}
	return fmt.Sprint(deref(last.Spec)) == fmt.Sprint(deref(withDefaults(spec.Group)))
}

// deref makes two specs comparable by their text.
func deref(g api.Group) (api.Group, int) {
	expel := *g.ExpelTimeout
	g.ExpelTimeout = nil
	return g, expel
}

// examine looks at every server of spec and cluster, with a watcher of its
// own: servers that are not members yet are nobody else's business.
func (g *Group) examine(ctx context.Context, spec api.Spec, c Cluster, r Request) (ask, error) {
	a := ask{spec: spec, cluster: c, accept: r.Accept, remove: r.Remove, method: r.Method, seeds: map[string]string{}, stacks: map[string]string{}}
	if a.method == "" {
		a.method = Auto
	}
	all := c.Instances()
	for _, m := range spec.Members {
		if k, known := c.Member(m.Name); !known || k.Address != m.Address {
			all = append(all, Known{Member: m}.instance())
		}
	}
	var err error
	if a.view, err = g.glance(ctx, topology.Expect{Cluster: spec.Cluster, Group: c.Group}, all); err != nil {
		return a, err
	}
	for _, m := range spec.Members {
		x, _ := a.view.Member(m.Name)
		_, known := c.Member(m.Name)
		if known || x.Report == nil || x.Failure != topology.Answers {
			continue
		}
		server, err := g.server(Known{Member: m})
		if err != nil {
			return a, err
		}
		_, findings, err := check.Server(ctx, server)
		if err != nil {
			return a, err
		}
		a.findings = append(a.findings, findings...)
		vars, err := server.Variables(ctx, "group_replication_group_seeds", "group_replication_communication_stack")
		if err != nil {
			return a, err
		}
		a.seeds[m.Name], a.stacks[m.Name] = vars["group_replication_group_seeds"], vars["group_replication_communication_stack"]
	}
	return a, nil
}

// glance makes one View of servers, now. It takes at most a few seconds.
func (g *Group) glance(ctx context.Context, want topology.Expect, all []topology.Instance) (*topology.View, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := watch.New(g.Open, slog.New(slog.DiscardHandler)) // its changes are no news
	w.Watch(want, all)
	var run sync.WaitGroup
	run.Go(func() { _ = w.Run(ctx) })
	defer run.Wait()
	defer cancel()
	limited, stop := context.WithTimeoutCause(ctx, 2*lookLimit, errors.New("the servers did not answer in time"))
	defer stop()
	v, err := w.Look(limited)
	if err != nil {
		return v, fmt.Errorf("look at the servers: %w", err)
	}
	// A server in the middle of joining or leaving is judged by several looks.
	for range 2 {
		if v, err = w.Look(limited); err != nil {
			return v, fmt.Errorf("look at the servers: %w", err)
		}
	}
	return v, nil
}

// settled reads the cluster document and a fresh View of it.
func (g *Group) settled(ctx context.Context) (Cluster, *topology.View, error) {
	c, _, err := g.doc.Get(ctx)
	if err != nil {
		return c, nil, err
	}
	if c.Empty() {
		return c, nil, plan.Refuse("`perdure apply`", "there is no cluster yet")
	}
	v, err := g.glance(ctx, topology.Expect{Cluster: c.Name, Group: c.Group}, c.Instances())
	return c, v, err
}

// AddMember lets one more server into the cluster.
func (g *Group) AddMember(ctx context.Context, m api.Member, r Request) (plan.Plan, error) {
	c, _, err := g.doc.Get(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	if c.Empty() {
		return plan.Plan{}, plan.Refuse("`perdure apply`", "there is no cluster yet")
	}
	if k, known := c.Member(m.Name); known && k.Address != m.Address {
		return plan.Plan{}, plan.Refuse("choose another name", "%s is already a member, at %s. Nothing was changed.", m.Name, k.Address)
	} else if known {
		return plan.Plan{}, plan.Refuse("`perdure member rejoin "+m.Name+"` brings it back if it is out", "%s is already a member. Nothing was changed.", m.Name)
	}
	spec := specOfCluster(c)
	spec.Members = append(spec.Members, m)
	return g.Apply(ctx, spec, r)
}

// RemoveMember takes a server out of the cluster for good.
func (g *Group) RemoveMember(ctx context.Context, name string, r Request) (plan.Plan, error) {
	if _, err := g.memberOf(ctx, name); err != nil {
		return plan.Plan{}, err
	}
	c, _, err := g.doc.Get(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	spec := specOfCluster(c.without(name))
	r.Remove = append(r.Remove, name)
	return g.Apply(ctx, spec, r)
}

func specOfCluster(c Cluster) api.Spec {
	s := api.Spec{Cluster: c.Name, Group: c.Spec}
	for _, m := range c.Members {
		s.Members = append(s.Members, m.Member)
	}
	return s
}

// StopMember takes a member out of the group until StartMember.
func (g *Group) StopMember(ctx context.Context, name string, r Request) (plan.Plan, error) {
	m, err := g.memberOf(ctx, name)
	if err != nil {
		return plan.Plan{}, err
	}
	c, v, err := g.settled(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	if m.Stopped {
		return newPlan("stop", name+" is stopped already", nil), nil
	}
	x, _ := v.Member(name)
	others := 0
	for _, o := range v.In(topology.Online) {
		if o.Name != name {
			others++
		}
	}
	if x.State == topology.Online && others == 0 {
		return plan.Plan{}, plan.Refuse("`perdure group stop` stops the whole cluster", "%s is the last member that is ONLINE. Nothing was changed.", name)
	}
	steps := []plan.Step{
		c.with(name, func(k *Known) { k.Stopped = true }).record(),
		{Verb: drain, Member: name},
		{Verb: leave, Member: name},
		{Verb: undrain, Member: name}, // it takes no clients outside the group
	}
	return g.start(ctx, newPlan("stop", "stop "+name, steps), r)
}

// StartMember brings a member back that was stopped or fell out.
func (g *Group) StartMember(ctx context.Context, name string, r Request) (plan.Plan, error) {
	if _, err := g.memberOf(ctx, name); err != nil {
		return plan.Plan{}, err
	}
	c, v, err := g.settled(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	if err := soleGroup(v); err != nil {
		return plan.Plan{}, err
	}
	x, _ := v.Member(name)
	switch {
	case x.State == topology.Online:
		return newPlan("rejoin", name+" is ONLINE already", nil), nil
	case v.Quorum == topology.NoGroup:
		return plan.Plan{}, plan.Refuse("`perdure group start`", "no member of the cluster is in a group: %s. Nothing was changed.", states(v))
	case v.Quorum != topology.HasQuorum:
		return plan.Plan{}, plan.Refuse("`perdure status`", "the group's quorum is %s: %s. Nothing was changed.", v.Quorum, states(v))
	case x.State == topology.Down || x.State == topology.Unknown:
		return plan.Plan{}, plan.Refuse("start mysqld on "+name+", then run the command again", "%s cannot join: %s. Nothing was changed.", name, x.Why)
	}
	if r.Method == "" {
		r.Method = Auto
	}
	a := ask{accept: r.Accept, method: r.Method}
	steps := []plan.Step{
		c.with(name, func(k *Known) { k.Stopped = false }).record(),
	}
	if x.State == topology.Recovering && x.Report != nil && stuck(x.Report) {
		steps = append(steps, plan.Step{Verb: leave, Member: name})
	}
	steps = append(steps, plan.Step{Verb: configure, Member: name})
	steps = append(steps, a.letIn(name)...)
	steps = append(steps, plan.Step{Verb: verify, Member: name})
	return g.start(ctx, newPlan("rejoin", "bring "+name+" back into the group", steps), r)
}

// StopGroup stops the whole cluster so that any member can start it again.
func (g *Group) StopGroup(ctx context.Context, r Request) (plan.Plan, error) {
	c, v, err := g.settled(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	if v.Quorum == topology.NoGroup && c.Stopped {
		return newPlan("stop-group", "cluster "+c.Name+" is stopped already", nil), nil
	}
	if v.Quorum != topology.HasQuorum {
		return plan.Plan{}, plan.Refuse("`perdure status`", "the group's quorum is %s: %s. Nothing was changed.", v.Quorum, states(v))
	}
	c.Stopped = true
	steps := []plan.Step{{Verb: quiesce}, c.record()}
	in := v.In(topology.Online, topology.Recovering)
	slices.SortStableFunc(in, func(a, b topology.Member) int { // a primary is the last to go
		return strings.Compare(string(b.Role), string(a.Role))
	})
	for i, m := range in { // when the last one goes there is no group to come back to
		steps = append(steps, plan.Step{Verb: leave, Member: m.Name, Final: i == len(in)-1})
	}
	return g.start(ctx, newPlan("stop-group", "stop cluster "+c.Name, steps), r)
}

// StartGroup starts a cluster of which no member is in the group: after a stop,
// or after all of them went down. The member that holds most begins.
func (g *Group) StartGroup(ctx context.Context, r Request) (plan.Plan, error) {
	c, v, err := g.settled(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	if err := soleGroup(v); err != nil {
		return plan.Plan{}, err
	}
	if v.Quorum == topology.HasQuorum && len(outside(v, specOfCluster(c).Members)) == 0 {
		return newPlan("start-group", "cluster "+c.Name+" is running already", nil), nil
	}
	seed, before, err := choose(c, v, r.Accept)
	if err != nil {
		return plan.Plan{}, err
	}
	if r.Accept.loses(v, seed) {
		c = c.fork()
	}
	c.Stopped = false
	for i := range c.Members {
		c.Members[i].Stopped = false
	}
	steps := []plan.Step{c.record()}
	rest := []plan.Step{}
	a := ask{accept: r.Accept, method: Auto}
	for _, m := range c.Members {
		if slices.Contains(r.Accept.Missing, m.Name) {
			c = c.with(m.Name, func(k *Known) { k.Stopped = true }) // known, and not waited for
			continue
		}
		steps = append(steps, plan.Step{Verb: configure, Member: m.Name})
		if m.Name != seed {
			rest = append(rest, stands(a.letIn(m.Name))...)
		}
	}
	steps[0] = c.record()
	steps = append(steps, merges(seed, before)...)
	steps = append(steps, stands([]plan.Step{r.Accept.step(seed), {Verb: account, Member: seed}})...)
	steps = append(append(steps, rest...), plan.Step{Verb: verify})
	return g.start(ctx, newPlan("start-group", fmt.Sprintf("start cluster %s: %s holds most and begins", c.Name, seed), steps), r)
}

// stands keeps what such steps have brought about, whatever becomes of those that
// follow: a group of fewer is better than none, and who was not let in can be dealt
// with while it runs.
func stands(steps []plan.Step) []plan.Step {
	steps[len(steps)-1].Keep = true
	return steps
}

// SetGroup changes settings or the mode of the group.
func (g *Group) SetGroup(ctx context.Context, edit func(*api.Group), r Request) (plan.Plan, error) {
	c, err := g.Cluster(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	if c.Empty() {
		return plan.Plan{}, plan.Refuse("`perdure apply`", "there is no cluster yet")
	}
	spec := specOfCluster(c)
	edit(&spec.Group)
	return g.Apply(ctx, spec, r)
}
