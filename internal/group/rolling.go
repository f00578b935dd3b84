package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/topology"
)

// Gate keeps clients away from where a plan is at work. Package node answers
// for the proxies.
type Gate interface {
	// Drain takes a member out of use and returns when its sessions have left,
	// or after a while with an error that says how many have not.
	Drain(ctx context.Context, member string) error
	// Undrain puts it back.
	Undrain(ctx context.Context, member string) error
	// Hold lets running transactions finish and keeps new ones waiting until
	// release is called. It returns when nothing is running any more, or after
	// a moment.
	Hold(ctx context.Context) (release func(), err error)
}

// handoverLimit is how long a server may be away for a restart or an upgrade.
const handoverLimit = 10 * time.Minute

// RestartGroup restarts every member, one after the other, without an error for
// a client of the proxies.
func (g *Group) RestartGroup(ctx context.Context, r Request) (plan.Plan, error) {
	return g.roll(ctx, "restart", "restart every member of cluster %s, one after the other", "", r)
}

// UpgradeGroup hands every member over to whatever replaces its programs, one
// after the other, and raises the group's protocol at the end. Members that run
// version to already are left alone; with an empty version, none is.
func (g *Group) UpgradeGroup(ctx context.Context, to string, r Request) (plan.Plan, error) {
	if g.Handover == nil {
		return plan.Plan{}, plan.Refuse("set service.restart in perdure.yaml to the command that upgrades and restarts the server of a member",
			"this node does not know how to replace a server's programs. Nothing was changed.")
	}
	if to != "" {
		if _, err := mysql.ParseVersion(to); err != nil {
			return plan.Plan{}, plan.Refuse("such as 9.7.5", "%v. Nothing was changed.", err)
		}
	}
	return g.roll(ctx, "upgrade", "upgrade every member of cluster %s, one after the other", to, r)
}

// roll plans a tour over all members.
func (g *Group) roll(ctx context.Context, kind, title, to string, r Request) (plan.Plan, error) {
	c, v, err := g.settled(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	if err := soleGroup(v); err != nil {
		return plan.Plan{}, err
	}
	if out := outside(v, specOfCluster(c).Members); len(out) > 0 || v.Quorum != topology.HasQuorum {
		return plan.Plan{}, plan.Refuse("bring every member back first: `perdure status`", "a tour over the members begins only with all of them: %s; quorum %s. Nothing was changed.", orNobody(out), v.Quorum)
	}
	if len(c.Members) < 2 {
		return plan.Plan{}, plan.Refuse("`perdure group stop`, restart the server, `perdure group start`", "a group of one member cannot be restarted without an outage. Nothing was changed.")
	}
	var steps []plan.Step
	for _, m := range tour(v) {
		if to != "" && m.Report != nil && strings.HasPrefix(m.Report.Version, to) {
			continue
		}
		held := map[string]string{"clients": string(wait)}
		steps = append(steps,
			plan.Step{Verb: drain, Member: m.Name},
			plan.Step{Verb: leave, Member: m.Name, Args: held},
			plan.Step{Verb: handover, Member: m.Name, Args: map[string]string{"to": to}},
			plan.Step{Verb: configure, Member: m.Name},
			plan.Step{Verb: join, Member: m.Name, Args: held},
			plan.Step{Verb: undrain, Member: m.Name, Keep: true},
		)
	}
	if len(steps) == 0 {
		return newPlan(kind, "nothing to do: every member runs "+to, nil), nil
	}
	if kind == "upgrade" {
		steps = append(steps, plan.Step{Verb: protocol, Final: true})
	}
	steps = append(steps, plan.Step{Verb: verify})
	return g.start(ctx, newPlan(kind, fmt.Sprintf(title, c.Name), steps), r)
}

// tour is the order of a rolling plan: the only primary comes last, so that it
// moves once.
func tour(v *topology.View) []topology.Member {
	ms := v.In(topology.Online)
	slices.SortStableFunc(ms, func(a, b topology.Member) int { return strings.Compare(string(b.Role), string(a.Role)) })
	return ms
}

// drainMember takes the member's clients away.
func (a *actor) drainMember(ctx context.Context, m Known, j plan.Journal) error {
	if a.Gate == nil {
		return nil
	}
	if err := a.Gate.Drain(ctx, m.Name); err != nil {
		return err
	}
	j.Note("no session is left there")
	return nil
}

func (a *actor) undrainMember(ctx context.Context, m Known) error {
	if a.Gate == nil {
		return nil
	}
	return a.Gate.Undrain(ctx, m.Name)
}

// clients says what clients of the proxies do while the group's membership
// changes.
type clients string

const (
	goOn clients = ""     // nothing
	wait clients = "wait" // they wait a moment: see changing
)

func clientsOf(s *plan.Step) clients { return clients(s.Args["clients"]) }

// changing runs a statement that changes the group's membership. Clients that
// are to wait do so from when nothing of theirs runs until seen says that the
// group has changed. Under writes, members may give one transaction different
// GTIDs when a member leaves and comes back (MySQL bug 121063).
func (a *actor) changing(ctx context.Context, c clients, do func() error, seen func(*topology.View) bool) error {
	if c != wait || a.Gate == nil {
		return do()
	}
	release, err := a.Gate.Hold(ctx)
	if err != nil {
		return err
	}
	watched, cancel := context.WithTimeout(ctx, 5*time.Second)
	released := make(chan struct{})
	go func() {
		defer close(released)
		_, _ = a.watch.Until(watched, seen)
		release()
	}()
	err = do()
	if err != nil {
		cancel()
	}
	<-released
	cancel()
	return err
}

// handoverMember lets the server be replaced or restarted, and waits for it.
func (a *actor) handoverMember(ctx context.Context, m Known, s *plan.Step, j plan.Journal) error {
	v, x, in, err := a.inGroup(ctx, m.Name)
	if err != nil {
		return err
	}
	if in {
		return plan.Refuse("`perdure status`", "%s is in the group; it must have left before it is restarted (quorum %s)", m.Name, v.Quorum)
	}
	if s.Before == nil {
		if x.Report == nil || x.Failure != topology.Answers {
			return fmt.Errorf("%s does not answer before it is restarted: %s", m.Name, x.Why)
		}
		s.Before = map[string]string{"version": x.Report.Version, "uptime": x.Report.Uptime.String()}
		if err := j.Save(); err != nil {
			return err
		}
	}
	was, err := livedUntil(s.Before)
	if err != nil {
		return err
	}
	if !was.restarted(x) {
		if x.Report != nil {
			was = life{uptime: x.Report.Uptime, at: x.Heard}
		}
		if err := a.trusted(ctx); err != nil {
			return err
		}
		if err := a.restart(ctx, m, j); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeoutCause(ctx, handoverLimit, errors.New("it did not come back within "+handoverLimit.String()))
	defer cancel()
	v, err = a.watch.Until(limited, func(v *topology.View) bool {
		x, _ := v.Member(m.Name)
		return x.State == topology.Offline && x.Failure == topology.Answers && was.restarted(x)
	})
	if err != nil {
		return fmt.Errorf("%s after its restart: %w", m.Name, err)
	}
	x, _ = v.Member(m.Name)
	return sameOrNewer(x, s.Before["version"], s.Args["to"], j)
}

// restart hands the server over to the configured command, or asks the server
// itself.
func (a *actor) restart(ctx context.Context, m Known, j plan.Journal) error {
	server, err := a.server(m)
	if err != nil {
		return err
	}
	if a.Handover != nil {
		j.Note("handed over")
		limited, cancel := context.WithTimeoutCause(ctx, handoverLimit, errors.New("the command did not finish within "+handoverLimit.String()))
		defer cancel()
		err := a.Handover(limited, m.Member)
		server.Forget()
		return err
	}
	if err := server.Restart(ctx); err != nil {
		return &plan.HintedError{Err: err, Hint: "set service.restart in perdure.yaml to the command that restarts the server of a member"}
	}
	return nil
}

// life is how long a server's process had lived, at least, at a moment of this
// node's own monotonic clock.
type life struct {
	uptime time.Duration
	at     time.Time
}

// livedUntil reads it from the journal. Another node may have written it, so that
// its moment says nothing here; but the same process is no younger now.
func livedUntil(before map[string]string) (life, error) {
	up, err := time.ParseDuration(before["uptime"])
	if err != nil {
		return life{}, fmt.Errorf("the journal does not say how long the server had run: %w", err)
	}
	return life{uptime: up, at: time.Now()}, nil
}

// uptimeSlack is what two uptimes, in whole seconds each, and the ways of two
// answers may make of no difference.
const uptimeSlack = 3 * time.Second

// restarted tells whether the server began anew since: whether it is younger than
// a process that was there before would be. Wall clocks are not asked, as somebody
// may have set them meanwhile.
func (l life) restarted(x topology.Member) bool {
	if x.Report == nil {
		return false
	}
	elapsed := max(x.Heard.Sub(l.at)-uptimeSlack, 0)
	return x.Report.Uptime < l.uptime+elapsed
}

// sameOrNewer stops a plan whose server came back as something else than was
// meant.
func sameOrNewer(x topology.Member, was, to string, j plan.Journal) error {
	before, err := mysql.ParseVersion(was)
	if err != nil {
		return err
	}
	now, err := mysql.ParseVersion(x.Report.Version)
	if err != nil {
		return err
	}
	switch {
	case now.Compare(before) < 0:
		return plan.Refuse("put the newer programs back", "%s came back with the older version %s, it ran %s", x.Name, now, before)
	case to != "" && now.String() != to:
		return plan.Refuse("look at what the command of service.restart installs", "%s came back with version %s, wanted is %s", x.Name, now, to)
	}
	j.Note("version %s, was %s", now, before)
	return nil
}

// raiseProtocol lets the group use what its oldest member knows.
func (a *actor) raiseProtocol(ctx context.Context, j plan.Journal) error {
	v, err := a.look(ctx, nil)
	if err != nil {
		return err
	}
	var oldest mysql.Version
	for i, m := range v.In(topology.Online) {
		w, err := mysql.ParseVersion(m.Report.Version)
		if err != nil {
			return err
		}
		if i == 0 || w.Compare(oldest) < 0 {
			oldest = w
		}
	}
	writer, err := a.writer(ctx, v)
	if err != nil {
		return err
	}
	if err := writer.RaiseProtocol(ctx, oldest); err != nil {
		return err
	}
	j.Note("the group speaks the protocol of %s", oldest)
	return nil
}
