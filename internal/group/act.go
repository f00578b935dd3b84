package group

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
)

// Limits of single steps. A member that takes longer is not coming.
const (
	onlineLimit = 10 * time.Minute // for recovery from binary logs; progress extends it
	expelLimit  = 60 * time.Second // the group needs up to 25 s to expel a dead member
	lookLimit   = 3 * time.Second
)

// actor does the steps of plans. It looks before it acts, every time.
type actor struct {
	*Group
	fence state.Fence
}

// Do implements plan.Actor.
func (a *actor) Do(ctx context.Context, s *plan.Step, j plan.Journal) error {
	switch s.Verb {
	case record:
		return a.record(ctx, s, j)
	case switchTo:
		return a.switchMode(ctx, s.Args["to"], j)
	case verify:
		return a.verify(ctx, s.Member, j)
	case quiesce:
		return a.quiesce(ctx, j)
	case force:
		return a.forceGroup(ctx, s, j)
	case protocol:
		return a.raiseProtocol(ctx, j)
	}
	c, m, err := a.known(ctx, s.Member)
	if err != nil {
		return err
	}
	switch s.Verb {
	case configure:
		return a.configure(ctx, c, m, s, j)
	case bootstrap:
		return a.bootstrap(ctx, c, m, s, j)
	case account:
		return a.account(ctx, m)
	case provision:
		return a.provision(ctx, c, m, s, j)
	case join:
		return a.join(ctx, c, m, s, j)
	case leave:
		return a.leave(ctx, m, clientsOf(s), j)
	case drop:
		return a.drop(ctx, m)
	case drain:
		return a.drainMember(ctx, m, j)
	case undrain:
		return a.undrainMember(ctx, m)
	case handover:
		return a.handoverMember(ctx, m, s, j)
	case forget:
		return a.forgetReceived(ctx, m, j)
	case salvage:
		return a.salvage(ctx, m, j)
	case merge:
		return a.mergeFrom(ctx, c, m, s, j)
	}
	return fmt.Errorf("this version does not know the step %q", s.Verb)
}

// Undo implements plan.Actor.
func (a *actor) Undo(ctx context.Context, s *plan.Step, j plan.Journal) error {
	switch s.Verb {
	case record:
		return a.unrecord(ctx, s)
	case switchTo:
		return a.switchMode(ctx, s.Args["from"], j)
	case quiesce:
		return a.reopen(ctx)
	case verify, force, forget, salvage, merge, handover, undrain, protocol: // nothing to take back, or nothing that could be
		return nil
	}
	c, m, err := a.known(ctx, s.Member)
	if err != nil {
		return err
	}
	switch s.Verb {
	case configure:
		return a.unconfigure(ctx, m, s)
	case bootstrap:
		return a.unbootstrap(ctx, m, j)
	case account:
		return a.unaccount(ctx, m)
	case provision: // a copy cannot be taken back; it is outside the group and read-only
		return nil
	case join: // it may have clients by now
		if err := a.drainMember(ctx, m, j); err != nil {
			j.Note("%v", err)
		}
		return errors.Join(a.unslow(ctx, s), a.leave(ctx, m, clientsOf(s), j), a.undrainMember(ctx, m))
	case leave:
		return a.join(ctx, c, m, s, j)
	case drop:
		return a.account(ctx, m)
	case drain:
		return a.undrainMember(ctx, m)
	}
	return fmt.Errorf("this version does not know the step %q", s.Verb)
}

// known reads the cluster document and the member a step is about.
func (a *actor) known(ctx context.Context, name string) (Cluster, Known, error) {
	c, _, err := a.doc.Get(ctx)
	if err != nil {
		return c, Known{}, err
	}
	m, ok := c.Member(name)
	if !ok {
		return c, m, fmt.Errorf("%s is not a member of cluster %s", name, c.Name)
	}
	return c, m, nil
}

// record writes the cluster document, and keeps the one before for the undo.
func (a *actor) record(ctx context.Context, s *plan.Step, j plan.Journal) error {
	want, err := recorded(*s)
	if err != nil {
		return err
	}
	now, rev, err := a.doc.Get(ctx)
	if err != nil || same(now, want) {
		return err
	}
	if s.Before == nil {
		b, err := json.Marshal(now)
		if err != nil {
			return err
		}
		s.Before = map[string]string{"cluster": string(b)}
		if err := j.Save(); err != nil {
			return err
		}
	}
	if want.Created.IsZero() {
		want.Created = time.Now().UTC().Truncate(time.Second)
	}
	for i, m := range want.Members { // seen since the plan was made
		if k, ok := now.Member(m.Name); ok && m.UUID == "" {
			want.Members[i].UUID = k.UUID
		}
	}
	if _, err := a.doc.Put(ctx, want, rev, a.fence); err != nil {
		return err
	}
	a.aim(want)
	return nil
}

// recorded reads the cluster that a record step writes.
func recorded(s plan.Step) (Cluster, error) {
	var c Cluster
	err := json.Unmarshal([]byte(s.Args["cluster"]), &c)
	return c, err
}

func (a *actor) unrecord(ctx context.Context, s *plan.Step) error {
	if s.Before == nil {
		return nil
	}
	var was Cluster
	if err := json.Unmarshal([]byte(s.Before["cluster"]), &was); err != nil {
		return err
	}
	_, err := a.doc.Change(ctx, a.fence, func(c *Cluster) error { *c = was; return nil })
	return err
}

// inGroup reads a fresh View and says whether the member is in the group. All
// members are asked: what the group is, and whom it lists, is for the others to
// say, and a node that just started has not heard them yet.
func (a *actor) inGroup(ctx context.Context, name string) (*topology.View, topology.Member, bool, error) {
	v, err := a.look(ctx, nil)
	if err != nil {
		return v, topology.Member{}, false, err
	}
	m, _ := v.Member(name)
	return v, m, m.State == topology.Online || m.State == topology.Recovering, nil
}

// bootstrap makes the first member of the group, if the guard lets it.
func (a *actor) bootstrap(ctx context.Context, c Cluster, m Known, s *plan.Step, j plan.Journal) error {
	v, err := a.look(ctx, c.Names())
	if err != nil {
		return err
	}
	if x, _ := v.Member(m.Name); v.Group == c.Group && (x.State == topology.Online || x.State == topology.Recovering) {
		// Done before this node was killed, maybe in the middle of it.
		server, err := a.server(m)
		if err == nil {
			err = server.ForgetBootstrap(ctx)
		}
		if err != nil {
			return err
		}
		return a.opened(ctx, m, s, j)
	}
	chosen, err := guard(c.Names(), v, Accept{Missing: list(s.Args["missing"]), CloneOver: list(s.Args["clone-over"])})
	if err != nil {
		return err
	}
	if chosen != m.Name {
		return plan.Refuse("run the command again", "meanwhile %s holds more than %s, which was to start the group", chosen, m.Name)
	}
	server, err := a.server(m)
	if err != nil {
		return err
	}
	j.Note("every known member answered, none is in a group, %s holds everything", m.Name)
	if err := a.trusted(ctx); err != nil {
		return err
	}
	if err := server.Bootstrap(ctx); err != nil {
		return a.withLog(ctx, err, m)
	}
	return a.opened(ctx, m, s, j)
}

// opened waits until a member is ONLINE, applied what it had, and is seen.
func (a *actor) opened(ctx context.Context, m Known, s *plan.Step, j plan.Journal) error {
	v, err := a.waitOnline(ctx, m, s, j)
	if err != nil {
		return err
	}
	x, _ := v.Member(m.Name)
	if x.Report.OfflineMode { // a member that gave up closes itself, and the group never opens it
		server, err := a.server(m)
		if err == nil {
			err = server.AcceptClients(ctx)
		}
		if err != nil {
			return err
		}
	}
	_, err = a.doc.Change(ctx, a.fence, func(c *Cluster) error {
		*c = c.with(m.Name, func(k *Known) { k.UUID, k.Stopped, k.GivenUp = x.UUID, false, "" })
		return nil
	})
	return err
}

// unbootstrap takes a group apart that has only its first member.
func (a *actor) unbootstrap(ctx context.Context, m Known, j plan.Journal) error {
	v, _, in, err := a.inGroup(ctx, m.Name)
	if err != nil || !in {
		return err
	}
	if others := len(v.In(topology.Online, topology.Recovering)); others > 1 {
		return fmt.Errorf("the group has %d members by now; it is left running", others)
	}
	return a.leave(ctx, m, goOn, j)
}

// configure persists the settings a member needs and remembers what they were.
func (a *actor) configure(ctx context.Context, c Cluster, m Known, s *plan.Step, j plan.Journal) error {
	server, err := a.server(m)
	if err != nil {
		return err
	}
	d, err := server.Dialect(ctx)
	if err != nil {
		return err
	}
	_, _, in, err := a.inGroup(ctx, m.Name)
	if err != nil {
		return err
	}
	if d.RDS {
		j.Note("the settings belong to the DB parameter group")
		return nil
	}
	if err := server.InstallPlugins(ctx); err != nil {
		return err
	}
	want, err := settings(&c, m)
	if err != nil {
		return err
	}
	var ask []string
	for _, w := range want {
		ask = append(ask, w.name)
	}
	have, err := server.Variables(ctx, ask...)
	if err != nil {
		return err
	}
	fleeting, err := server.Fleeting(ctx, ask...)
	if err != nil {
		return err
	}
	todo := differing(want, have)
	if s.Before == nil {
		s.Before = map[string]string{}
		for _, t := range todo {
			s.Before[t.name] = have[t.name]
		}
		if err := j.Save(); err != nil {
			return err
		}
	}
	var done []string
	kept := 0
	for _, t := range todo {
		if in && !t.online {
			if !strings.HasSuffix(t.name, "_mode") && !strings.HasSuffix(t.name, "_checks") { // the step "mode" does those
				kept++
			}
			continue
		}
		if err := server.Persist(ctx, map[string]string{t.name: t.value}); err != nil {
			return err
		}
		done = append(done, t.name)
	}
	// What is right now must be right after a restart too: somebody may have set
	// it with SET GLOBAL, or an undo could not take it out of the running server.
	for _, t := range want {
		if fleeting[t.name] && sameValue(have[t.name], t.value) {
			if err := server.PersistOnly(ctx, map[string]string{t.name: t.value}); err != nil {
				return err
			}
			done = append(done, t.name)
		}
	}
	// Safety rule 1: read-only from the first breath of the next start.
	if err := server.PersistOnly(ctx, map[string]string{"super_read_only": "ON"}); err != nil {
		return err
	}
	if !in {
		if err := server.SetReadOnly(ctx); err != nil {
			return err
		}
	}
	said := fmt.Sprintf("%d settings changed", len(done))
	if n := len(done); n > 0 && n <= 3 {
		said += ": " + strings.Join(done, ", ")
	}
	if kept > 0 {
		said += fmt.Sprintf(", %d wait for the next time the member is out of its group", kept)
	}
	j.Note("%s", said)
	return nil
}

// unconfigure puts back what configure changed.
func (a *actor) unconfigure(ctx context.Context, m Known, s *plan.Step) error {
	if len(s.Before) == 0 {
		return nil
	}
	server, err := a.server(m)
	if err != nil {
		return err
	}
	c, _, err := a.doc.Get(ctx)
	if err != nil {
		return err
	}
	order, err := settings(&c, m)
	if err != nil {
		return err
	}
	var left []error
	taken := map[string]bool{}
	for _, o := range slices.Backward(order) { // the server refuses some pairs in between
		name := o.name
		value, changed := s.Before[name]
		if !changed || taken[name] {
			continue
		}
		taken[name] = true
		if value == "" { // was never set; the server refuses most empty values
			left = append(left, server.Unpersist(ctx, name))
			_ = server.SetGlobal(ctx, map[string]string{name: value})
			continue
		}
		left = append(left, server.Persist(ctx, map[string]string{name: value}))
	}
	return errors.Join(left...)
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// trusted refuses to act when the term ended between looking and acting.
func (a *actor) trusted(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// withLog adds what the server wrote to its error log to a failure: START
// GROUP_REPLICATION itself only says that it failed.
func (a *actor) withLog(ctx context.Context, err error, m Known) error {
	if server, e := a.server(m); e == nil {
		ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookLimit)
		defer cancel()
		if said, e := server.LoggedErrors(ask, logAge); e == nil && said != "" {
			err = fmt.Errorf("%w; its error log says: %s", err, said)
		}
	}
	return &plan.HintedError{Err: err, Hint: "if the cause cannot be removed: `perdure member rejoin " + m.Name + " --clone-over " + m.Name + "` replaces its data with a copy"}
}

// logAge is how old lines of the error log may be to explain a failure: a START
// that waits for a group takes a minute.
const logAge = 70 * time.Second
