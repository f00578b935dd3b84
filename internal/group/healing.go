package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/mysql"
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

// Question is what healing cannot do without a human. It is kept where every
// node finds it.
type Question struct {
	Text  string    `json:"text,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

// questionPause is how often a question is written anew of which nothing but
// times changed.
const questionPause = 10 * time.Second

const questionKey = "healing/question"

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
	fence   state.Fence
	tried   history
	pulses  map[string]pulse
	askedAt time.Time       // when the question was last written
	gaveUp  map[string]bool // members seen in ERROR: they may be left with offline_mode
	period  map[string]int  // how often members that were made quiet talked before
	plan    string          // the plan that is a remedy, while it runs
	cure    Remedy
}

// step does the most urgent thing there is to do, if nothing else is going on.
func (h *healer) step(ctx context.Context) error {
	if err := h.learn(ctx); err != nil {
		return err
	}
	paused, c, running, err := h.recall(ctx)
	if err != nil || !h.Heal || !paused.Since.IsZero() {
		return err
	}
	if running.ID != "" { // nothing else beside a plan
		return h.act(ctx, c, func(v *topology.View) Remedy { return hurry(c, v, time.Now()) })
	}
	v := h.watch.View()
	h.tried.settle(v)
	for _, m := range v.In(topology.Error) {
		h.gaveUp[m.Name] = true
	}
	decide := func(v *topology.View) Remedy {
		if r := heal(c, v, h.tried, time.Now()); r.Do != Nothing {
			return r
		}
		return leftover(v, h.gaveUp)
	}
	asking := decide(v)
	if asking.Do == Nothing {
		asking = h.ailing(ctx, v, time.Now())
	}
	if err := h.ask(ctx, asking); err != nil {
		return err
	}
	return h.act(ctx, c, decide)
}

// recall reads what healing rests on besides the View. Reads beside each other
// need one question to the other nodes, not three, and this is asked all the time.
func (h *healer) recall(ctx context.Context) (paused Pause, c Cluster, running plan.Plan, err error) {
	var all sync.WaitGroup
	var failed [3]error
	all.Go(func() { paused, failed[0] = h.Paused(ctx) })
	all.Go(func() { c, failed[1] = h.Cluster(ctx) })
	all.Go(func() { running, failed[2] = h.Current(ctx) })
	all.Wait()
	return paused, c, running, errors.Join(failed[:]...)
}

// leftover finds what a member that is back was left with. offline_mode is
// cleared only where the server set it itself, when it gave up: a human may
// have reasons of his own.
func leftover(v *topology.View, gaveUp map[string]bool) Remedy {
	for _, m := range v.In(topology.Online) {
		if gaveUp[m.Name] && m.Report.OfflineMode {
			return Remedy{Do: Open, Member: m.Name, Why: m.Name + " is back, and still closed to clients since it gave up (offline_mode)"}
		}
	}
	return Remedy{}
}

// ask keeps the question that is open now, and tells when it changed.
func (h *healer) ask(ctx context.Context, r Remedy) error {
	text := ""
	if r.Do == Ask {
		text = r.Why
	}
	was := h.Asking()
	if text == was {
		return nil
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	if subject(text) == subject(was) && now.Sub(h.askedAt) < questionPause {
		return nil
	}
	h.askedAt = now
	if _, err := h.question.Change(ctx, h.fence, func(q *Question) error { *q = Question{text, now}; return nil }); err != nil {
		return err
	}
	h.asking.Store(&text)
	// A question whose wording moves, because times in it do, is no news.
	switch asked, asks := subject(was), subject(text); {
	case asks == asked:
	case text == "":
		h.tell(event.New(event.HealingAnswered, "cluster", "healing needs no human any more"), r)
	default:
		h.Log.Warn("healing needs a human", "why", text)
		h.tell(event.New(event.HealingAsks, "cluster", "healing needs a human: "+text), r)
	}
	return nil
}

// spans are durations in a sentence.
var spans = regexp.MustCompile(`\b([0-9.]+(ms|h|m|s))+\b`)

// subject is what a question is about, however long it has been so.
func subject(text string) string { return spans.ReplaceAllString(text, "") }

func (h *healer) tell(e event.Event, r Remedy) {
	if h.Tell == nil {
		return
	}
	e.Member = r.Member
	for k, v := range map[string]string{"remedy": string(r.Do), "members": strings.Join(r.Names, ","), "why": r.Why} {
		if v != "" {
			e = e.With(k, v)
		}
	}
	h.Tell.Publish(e)
}

// act does what decide says, if it still says so of a View made now: what was
// read must still hold when it is acted upon.
func (h *healer) act(ctx context.Context, c Cluster, decide func(*topology.View) Remedy) error {
	r := decide(h.watch.View())
	if r.Do == Nothing || r.Do == Ask {
		return nil
	}
	v, err := h.look(ctx, speaking(h.watch.View()))
	if err != nil {
		return err
	}
	if again := decide(v); again.Do != r.Do || again.Member != r.Member || !slices.Equal(again.Names, r.Names) {
		return nil
	}
	h.decided.Store(new(time.Now()))
	return h.cureBy(ctx, c, v, r)
}

// speaking are the members worth asking again. One that is silent would make us
// wait for as long as a probe may take, twice; its silence goes on by itself.
func speaking(v *topology.View) []string {
	var out []string
	for _, m := range v.Members {
		if m.Failure != topology.Silent {
			out = append(out, m.Name)
		}
	}
	return out
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
	switch {
	case p.State == plan.Done:
		delete(h.tried, h.cure.Member)
	case p.Aborted != "": // a human does not want it
		h.tried[h.cure.Member] = attempt{failed: triesMost, last: time.Now(), why: p.Error, aborted: true}
	default:
		h.failed(h.cure, p.Error)
	}
	h.plan = ""
	return nil
}

func (h *healer) failed(r Remedy, why string) {
	t := h.tried[r.Member]
	cause := diagnose(why)
	if cause == Unclear { // what it says about the attempt may hide what it said before
		cause = r.cause
	}
	h.tried[r.Member] = attempt{failed: t.failed + 1, last: time.Now(), why: why, cause: cause}
}

func (h *healer) cureBy(ctx context.Context, c Cluster, v *topology.View, r Remedy) error {
	req := Request{Actor: "healing"}
	r.cause = h.cause(ctx, v, r)
	if r.cause != Unclear {
		r.Why += " (" + string(r.cause) + ")"
	}
	var p plan.Plan
	var err error
	decided := time.Now() // some of what follows blocks until it has helped
	switch r.Do {
	case Expel:
		err = h.setExpel(ctx, v, 0)
	case Relax:
		err = h.setExpel(ctx, v, *c.Spec.ExpelTimeout)
	case Quiet, Talk:
		return h.talk(ctx, v, r)
	case Open:
		err = h.open(ctx, v, r.Member)
	case Rejoin:
		p, err = h.StartMember(ctx, r.Member, req)
	case Rebuild:
		p, err = h.RebuildMember(ctx, r.Member, req)
	case Restart:
		p, err = h.StartGroup(ctx, req)
	case Regroup:
		p, err = h.regroup(ctx, r, req)
	case Force:
		p, err = h.ForceGroup(ctx, Request{Actor: req.Actor, Accept: Accept{Missing: r.Names}})
	case Recover:
		p, err = h.recoverGroup(ctx, c, v, r, req)
	}
	if err != nil {
		if refused, ok := errors.AsType[*plan.RefusedError](err); ok {
			h.failed(r, refused.Error())
			h.Log.Warn("a remedy was refused", "remedy", r.Do, "member", r.Member, "why", r.Why, "err", err)
			return nil
		}
		return err
	}
	h.Log.Info("healing", "remedy", r.Do, "member", r.Member, "members", r.Names, "why", r.Why, "plan", p.ID)
	e := event.New(event.HealingActs, "cluster", fmt.Sprintf("%s: %s", r.Do.words(), r.Why))
	e.Time = decided.UTC()
	if r.Member != "" {
		e.Subject = "member/" + r.Member
	}
	if r.cause != Unclear {
		e = e.With("cause", string(r.cause))
	}
	h.tell(e.With("plan", p.ID), r)
	if p.ID != "" && !p.State.Over() {
		h.plan, h.cure = p.ID, r
	}
	return nil
}

// causeAge is how long before a member fell out the reason may have been logged.
const causeAge = 5 * time.Second

// cause reads what the server that is to be helped says about its trouble.
func (h *healer) cause(ctx context.Context, v *topology.View, r Remedy) Cause {
	m, ok := v.Member(r.Member)
	if !ok || m.Report == nil || r.Do != Rejoin && r.Do != Rebuild {
		return Unclear
	}
	said := []string{m.Report.LastError, r.Why}
	if server, err := h.server(Known{Member: specOf(m)}); err == nil {
		ask, cancel := context.WithTimeout(ctx, lookLimit)
		defer cancel()
		if lines, err := server.LoggedErrors(ask, time.Since(m.Since)+causeAge); err == nil {
			said = append(said, lines)
		}
	}
	return diagnose(said...)
}

// words say what a cure does.
func (c Cure) words() string {
	switch c {
	case Expel:
		return "the group expels dead members at once"
	case Relax:
		return "the group is as patient as it was"
	case Open:
		return "clients are let in again"
	case Rejoin:
		return "a member is brought back"
	case Rebuild:
		return "a member is rebuilt from the others"
	case Restart:
		return "the group is started again"
	case Regroup:
		return "what is left of the group is stopped, to be started with those that hold more"
	case Force:
		return "the rest goes on without the lost majority"
	case Recover:
		return "the group is recovered from a transaction that cannot be applied"
	}
	return string(c)
}

// setExpel changes how long the group waits for silent members, on everybody
// who can be told. There is no statement to expel a member; with a timeout of zero
// the group expels whom it suspects within a second, else after 10 to 25.
func (h *healer) setExpel(ctx context.Context, v *topology.View, seconds int) error {
	return h.setOnline(ctx, v, "group_replication_member_expel_timeout", func(topology.Member) int { return seconds })
}

// talk keeps the members from talking about their load, or lets them again, as
// often as they did before. Who made them quiet may have been another node: then
// they get the server's own default.
func (h *healer) talk(ctx context.Context, v *topology.View, r Remedy) error {
	err := h.setOnline(ctx, v, "group_replication_flow_control_period", func(m topology.Member) int {
		if r.Do == Quiet {
			if m.Report.StatsPeriod != quietPeriod {
				h.period[m.Name] = m.Report.StatsPeriod
			}
			return quietPeriod
		}
		return cmp.Or(h.period[m.Name], 1)
	})
	if err == nil {
		h.Log.Info("healing", "remedy", r.Do, "why", r.Why)
	}
	return err
}

// setOnline sets a variable on everybody who can be told. It is not persisted: a
// restart brings the configured value back.
func (h *healer) setOnline(ctx context.Context, v *topology.View, variable string, value func(topology.Member) int) error {
	online := v.In(topology.Online)
	failed := make([]error, len(online))
	var all sync.WaitGroup
	for i, m := range online { // at once: one of them may have begun to hang, too
		to := strconv.Itoa(value(m))
		all.Go(func() {
			server, err := h.server(Known{Member: specOf(m)})
			if err == nil {
				err = server.SetGlobal(ctx, map[string]string{variable: to})
			}
			if _, managed := errors.AsType[*mysql.ErrManaged](err); !managed { // there the parameter group has it
				failed[i] = err
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

func (h *healer) open(ctx context.Context, v *topology.View, name string) error {
	m, _ := v.Member(name)
	server, err := h.server(Known{Member: specOf(m)})
	if err != nil {
		return err
	}
	delete(h.gaveUp, name)
	return server.AcceptClients(ctx)
}

// regroup takes what is left of a group apart, so that it can be started with
// the members that hold more.
func (g *Group) regroup(ctx context.Context, r Remedy, req Request) (plan.Plan, error) {
	var steps []plan.Step
	for _, name := range r.Names {
		steps = append(steps, plan.Step{Verb: leave, Member: name, Final: true})
	}
	return g.start(ctx, newPlan("regroup", "stop what is left of the group: "+strings.Join(r.Names, ", "), steps), req)
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
		if in := m.State == topology.Online || m.State == topology.Recovering; !in && listedByOthers(v, m.UUID) && !slices.Contains(r.Accept.Missing, m.Name) {
			return plan.Plan{}, plan.Refuse("bring it back, or name it: `perdure group force --accept-loss "+m.Name+"`",
				"%s is %s (%s): if it runs and is only cut off from here there would be two groups. Nothing was changed.", m.Name, m.State, m.Why)
		}
	}
	steps := []plan.Step{{Verb: force, Final: true, Args: map[string]string{"missing": strings.Join(r.Accept.Missing, ",")}}}
	return g.start(ctx, newPlan("force", "go on without "+strings.Join(r.Accept.Missing, ", ")+" in cluster "+c.Name, steps), r)
}

// recoverGroup is the recipe for a transaction that no member can apply: what
// was received is forgotten, the lineage most members share goes on, and who
// executed something else is rebuilt, its own transactions saved.
func (g *Group) recoverGroup(ctx context.Context, c Cluster, v *topology.View, r Remedy, req Request) (plan.Plan, error) {
	// The group will give the numbers of what they have beyond the others again.
	seed, _ := v.Member(r.Member)
	for _, name := range r.Names {
		c = c.with(name, func(k *Known) { k.GivenUp = seed.Report.Executed.String() })
	}
	steps := []plan.Step{c.record()}
	for _, m := range c.Members {
		steps = append(steps, plan.Step{Verb: leave, Member: m.Name})
	}
	for _, m := range c.Members {
		steps = append(steps, plan.Step{Verb: forget, Member: m.Name, Final: true})
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
