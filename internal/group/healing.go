package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
)

// Pause is maintenance mode: while it is set, healing does nothing. Plans that
// people ask for go on.
type Pause struct {
	Since time.Time `json:"since,omitzero"`
	By    string    `json:"by,omitempty"`
	Why   string    `json:"why,omitempty"`
}

const pauseKey = "pause"

// Paused reads whether healing is paused.
func (g *Group) Paused(ctx context.Context) (Pause, error) {
	p, _, err := g.pause.Get(ctx)
	return p, err
}

// SetPause pauses healing, or, with a zero Pause, lets it go on.
func (g *Group) SetPause(ctx context.Context, p Pause) error {
	_, err := g.pause.Change(ctx, state.Fence{}, func(old *Pause) error { *old = p; return nil })
	return err
}

// Asking is what healing cannot do without a human, "" if there is nothing.
func (g *Group) Asking() string {
	if s := g.asking.Load(); s != nil {
		return *s
	}
	return ""
}

// Decided is when healing last decided on a remedy, on this node.
func (g *Group) Decided() time.Time {
	if t := g.decided.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// healer heals for one term.
type healer struct {
	*Group
	tried history
	plan  string // the plan that is a remedy, while it runs
	cure  Remedy
}

// step does the most urgent thing there is to do, if nothing else is going on.
func (h *healer) step(ctx context.Context) error {
	if err := h.learn(ctx); err != nil {
		return err
	}
	paused, err := h.Paused(ctx)
	if err != nil || !h.Heal || !paused.Since.IsZero() {
		return err
	}
	if running, err := h.Current(ctx); err != nil || running.ID != "" {
		return err
	}
	c, err := h.Cluster(ctx)
	if err != nil {
		return err
	}
	r := heal(c, h.watch.View(), h.tried, time.Now())
	ask := ""
	if r.Do == Ask {
		ask = r.Why
	}
	if ask != h.Asking() {
		h.asking.Store(&ask)
		if ask != "" {
			h.Log.Warn("healing needs a human", "why", ask)
		}
	}
	if r.Do == Nothing || r.Do == Ask {
		return nil
	}
	// What was read must still hold when it is acted upon.
	v, err := h.look(ctx, nil)
	if err != nil {
		return err
	}
	if again := heal(c, v, h.tried, time.Now()); again.Do != r.Do || again.Member != r.Member || !slices.Equal(again.Names, r.Names) {
		return nil
	}
	h.decided.Store(new(time.Now()))
	return h.cureBy(ctx, c, v, r)
}

// learn counts how the last remedy ended.
func (h *healer) learn(ctx context.Context) error {
	if h.plan == "" {
		return nil
	}
	p, err := h.Plan(ctx, h.plan)
	if err != nil || !p.State.Over() {
		return err
	}
	if p.State == plan.Done {
		delete(h.tried, h.cure.Member)
	} else {
		h.failed(h.cure, p.Error)
	}
	h.plan = ""
	return nil
}

func (h *healer) failed(r Remedy, why string) {
	t := h.tried[r.Member]
	h.tried[r.Member] = attempt{failed: t.failed + 1, last: time.Now(), why: why}
}

func (h *healer) cureBy(ctx context.Context, c Cluster, v *topology.View, r Remedy) error {
	req := Request{Actor: "healing"}
	var p plan.Plan
	var err error
	switch r.Do {
	case Expel:
		return h.setExpel(ctx, v, 0, r)
	case Relax:
		return h.setExpel(ctx, v, *c.Spec.ExpelTimeout, r)
	case Rejoin:
		p, err = h.StartMember(ctx, r.Member, req)
	case Rebuild:
		p, err = h.RebuildMember(ctx, r.Member, req)
	case Restart:
		p, err = h.StartGroup(ctx, req)
	case Force:
		p, err = h.ForceGroup(ctx, Request{Actor: req.Actor, Accept: Accept{Missing: r.Names}})
	case Recover:
		p, err = h.recoverGroup(ctx, c, r, req)
	}
	if err != nil {
		if refused, ok := errors.AsType[*plan.RefusedError](err); ok {
			h.failed(r, refused.Error())
			h.Log.Warn("a remedy was refused", "remedy", r.Do, "member", r.Member, "why", r.Why, "err", err)
			return nil
		}
		return err
	}
	h.Log.Info("healing", "remedy", r.Do, "member", r.Member, "why", r.Why, "plan", p.ID)
	if !p.State.Over() {
		h.plan, h.cure = p.ID, r
	}
	return nil
}

// setExpel changes how long the group waits for silent members, on everybody
// who can be told. It is not persisted: a restart brings the configured value
// back. There is no statement to expel a member; with a timeout of zero the
// group expels whom it suspects within a second, else after 10 to 25.
func (h *healer) setExpel(ctx context.Context, v *topology.View, seconds int, r Remedy) error {
	h.Log.Info("healing", "remedy", r.Do, "members", r.Names, "why", r.Why, "expel_timeout", seconds)
	var failed []error
	for _, m := range v.In(topology.Online) {
		server, err := h.server(Known{Member: specOf(m)})
		if err == nil {
			err = server.SetGlobal(ctx, map[string]string{"group_replication_member_expel_timeout": strconv.Itoa(seconds)})
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// RebuildMember brings a member back on a copy of the others' data, after
// saving the transactions that only it has to a file.
func (g *Group) RebuildMember(ctx context.Context, name string, r Request) (plan.Plan, error) {
	if _, err := g.memberOf(ctx, name); err != nil {
		return plan.Plan{}, err
	}
	c, v, err := g.settled(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	if v.Quorum != topology.HasQuorum {
		return plan.Plan{}, plan.Refuse("`perdure status`", "the group's quorum is %s: %s. Nothing was changed.", v.Quorum, states(v))
	}
	x, _ := v.Member(name)
	if x.State != topology.Offline && x.State != topology.Error {
		return plan.Plan{}, plan.Refuse("`perdure member stop "+name+"` takes it out first", "%s is %s; only a member outside the group is rebuilt. Nothing was changed.", name, x.State)
	}
	a := ask{accept: Accept{CloneOver: []string{name}}, method: Auto}
	steps := []plan.Step{
		c.with(name, func(k *Known) { k.Stopped = false }).record(),
		{Verb: salvage, Member: name},
		{Verb: configure, Member: name},
	}
	steps = append(append(steps, a.letIn(name)...), plan.Step{Verb: verify, Member: name})
	return g.start(ctx, newPlan("rebuild", "rebuild "+name+" from the others", steps), r)
}

// ForceGroup lets the members that are left go on without a majority. The
// others must be named in r.Accept.Missing.
func (g *Group) ForceGroup(ctx context.Context, r Request) (plan.Plan, error) {
	c, v, err := g.settled(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	if err := soleGroup(v); err != nil {
		return plan.Plan{}, err
	}
	if v.Quorum != topology.LostQuorum {
		return plan.Plan{}, plan.Refuse("`perdure status`", "the group's quorum is %s; only a group that lost it can be forced. Nothing was changed.", v.Quorum)
	}
	for _, m := range v.Members {
		if in := m.State == topology.Online || m.State == topology.Recovering; !in && !slices.Contains(r.Accept.Missing, m.Name) {
			return plan.Plan{}, plan.Refuse("bring it back, or name it: `perdure group force --accept-loss "+m.Name+"`",
				"%s is %s (%s): if it runs and is only cut off from here there would be two groups. Nothing was changed.", m.Name, m.State, m.Why)
		}
	}
	steps := []plan.Step{{Verb: force, Args: map[string]string{"missing": strings.Join(r.Accept.Missing, ",")}}}
	return g.start(ctx, newPlan("force", "go on without "+strings.Join(r.Accept.Missing, ", ")+" in cluster "+c.Name, steps), r)
}

// recoverGroup is the recipe for a transaction that no member can apply: what
// was received is forgotten, the lineage most members share goes on, and who
// executed something else is rebuilt, its own transactions saved.
func (g *Group) recoverGroup(ctx context.Context, c Cluster, r Remedy, req Request) (plan.Plan, error) {
	steps := []plan.Step{c.record()}
	for _, m := range c.Members {
		steps = append(steps, plan.Step{Verb: leave, Member: m.Name}, plan.Step{Verb: forget, Member: m.Name})
	}
	for _, name := range r.Names {
		steps = append(steps, plan.Step{Verb: salvage, Member: name})
	}
	ok := Accept{CloneOver: r.Names}
	steps = append(steps, ok.step(r.Member), plan.Step{Verb: account, Member: r.Member})
	a := ask{accept: ok, method: Auto}
	for _, m := range c.Members {
		if m.Name != r.Member {
			steps = append(steps, a.letIn(m.Name)...)
		}
	}
	steps = append(steps, plan.Step{Verb: verify})
	return g.start(ctx, newPlan("recover", fmt.Sprintf("recover cluster %s from a transaction that cannot be applied: %s begins", c.Name, r.Member), steps), req)
}
