package group

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/topology"
)

// recoveryAccount is the account a member recovers with. Every member has its
// own, with a password that is known to MySQL alone: it is made anew whenever
// it is needed, so no file and no store of ours ever holds it.
func recoveryAccount(m Known) mysql.Account {
	return mysql.Account{User: fmt.Sprintf("perdure_recovery_%d", m.Slot), Host: "%"}
}

// account gives a member a recovery account with a new password.
func (a *actor) account(ctx context.Context, m Known) error {
	v, err := a.look(ctx, []string{m.Name})
	if err != nil {
		return err
	}
	writer, err := a.writer(ctx, v)
	if err != nil {
		return err
	}
	server, err := a.server(m)
	if err != nil {
		return err
	}
	password := newPassword()
	if err := writer.SetRecoveryAccount(ctx, recoveryAccount(m), password); err != nil {
		return err
	}
	return server.UseRecoveryAccount(ctx, recoveryAccount(m).User, password)
}

func (a *actor) unaccount(ctx context.Context, m Known) error {
	v, err := a.look(ctx, nil)
	if err != nil || len(writable(v)) == 0 { // the group is gone, and the account with it
		return err
	}
	writer, err := a.writer(ctx, v)
	if err != nil {
		return err
	}
	return writer.DropAccount(ctx, recoveryAccount(m))
}

// drop removes what a member that left had in the group, and the group from
// what that member remembers.
func (a *actor) drop(ctx context.Context, m Known) error {
	if err := a.unaccount(ctx, m); err != nil {
		return err
	}
	v, err := a.look(ctx, []string{m.Name})
	if err != nil {
		return err
	}
	if x, _ := v.Member(m.Name); x.State != topology.Offline && x.State != topology.Error {
		return nil // it does not answer; the bootstrap guard still asks its peers
	}
	server, err := a.server(m)
	if err != nil {
		return err
	}
	for _, name := range []string{"group_replication_group_name", "group_replication_group_seeds"} {
		if err := server.Unpersist(ctx, name); err != nil {
			return err
		}
	}
	return server.SetGlobal(ctx, map[string]string{"group_replication_group_seeds": ""})
}

func writable(v *topology.View) []topology.Member {
	var out []topology.Member
	for _, m := range v.Members {
		if m.Writable {
			out = append(out, m)
		}
	}
	return out
}

// writer returns a member that accepts writes now.
func (a *actor) writer(ctx context.Context, v *topology.View) (*mysql.Server, error) {
	if len(writable(v)) == 0 {
		ctx, cancel := context.WithTimeoutCause(ctx, expelLimit, errors.New("no member accepts writes"))
		defer cancel()
		ctx, stop := context.WithCancelCause(ctx)
		defer stop(nil)
		var err error
		lost := time.Time{}
		if v, err = a.watch.Until(ctx, func(v *topology.View) bool {
			switch {
			case v.Quorum != topology.LostQuorum:
				lost = time.Time{}
			case lost.IsZero():
				lost = time.Now()
			case time.Since(lost) > lostFor: // whoever can help that waits for this plan to end
				stop(errors.New("the group lost its majority"))
			}
			return len(writable(v)) > 0
		}); err != nil {
			return nil, fmt.Errorf("wait for a writable member: %w (%s)", err, states(v))
		}
	}
	k, err := a.memberOf(ctx, writable(v)[0].Name)
	if err != nil {
		return nil, err
	}
	return a.server(k)
}

// provision makes sure that the server's data are such that it can join: by a
// clone where replaying the group's history would not do.
func (a *actor) provision(ctx context.Context, c Cluster, m Known, s *plan.Step, j plan.Journal) error {
	v, x, in, err := a.inGroup(ctx, m.Name)
	if err != nil {
		return err
	}
	if in {
		j.Note("it is in the group already")
		return nil
	}
	if x.Report == nil || (x.State != topology.Offline && x.State != topology.Error) {
		return fmt.Errorf("%s cannot join: %s", m.Name, x.Why)
	}
	donor, err := a.donor(v)
	if err != nil {
		return err
	}
	cloned, err := a.clonedBefore(ctx, m, s, j)
	if err != nil {
		return err
	}
	if cloned {
		if c, err = a.forgive(ctx, m); err != nil {
			return err
		}
	}
	facts, err := a.provisioning(ctx, c, v, x, donor)
	if err != nil {
		return err
	}
	facts.cloned = cloned
	why, err := needsClone(facts, s.Args["method"], s.Args["over"] == "yes")
	if err != nil {
		return err
	}
	if facts.cloned && why == "" { // by this step, before this node was killed
		return a.describeCloned(ctx, m, j)
	}
	if why == "" {
		// It has nothing but what the group has, and from here on gets more only from
		// the group. Were it still marked as given up, and killed before it is ONLINE,
		// what it got meanwhile would pass for its own.
		if m.GivenUp != "" {
			if _, err := a.forgive(ctx, m); err != nil {
				return err
			}
		}
		j.Note("it replays %d transactions from %s", facts.missing.Count(), donor.Name)
		return nil
	}
	j.Note("it is cloned from %s: %s", donor.Name, why)
	if x.State == topology.Error { // a plugin in ERROR still counts as running, and CLONE refuses
		server, err := a.server(m)
		if err == nil {
			err = server.Leave(ctx)
		}
		if err != nil {
			return err
		}
	}
	if err := a.clone(ctx, m, donor, j); err != nil {
		return err
	}
	_, err = a.forgive(ctx, m)
	return err
}

// forgive takes a member back that the group was forced to go on without: it is
// a copy of the others now, or has nothing that they have not.
func (a *actor) forgive(ctx context.Context, m Known) (Cluster, error) {
	return a.doc.Change(ctx, a.fence, func(c *Cluster) error {
		*c = c.with(m.Name, func(k *Known) { k.GivenUp = "" })
		return nil
	})
}

// clonedBefore tells whether this very step has cloned the server already. The
// server remembers its last clone; which that was is noted before the first.
func (a *actor) clonedBefore(ctx context.Context, m Known, s *plan.Step, j plan.Journal) (bool, error) {
	server, err := a.server(m)
	if err != nil {
		return false, err
	}
	p, err := server.CloneProgress(ctx)
	if err != nil {
		return false, err
	}
	if s.Before == nil {
		s.Before = map[string]string{"clone": p.Begun}
		return false, j.Save()
	}
	return p.State == "Completed" && p.Begun != s.Before["clone"], nil
}

func (a *actor) describeCloned(ctx context.Context, m Known, j plan.Journal) error {
	server, err := a.server(m)
	if err != nil {
		return err
	}
	p, err := server.CloneProgress(ctx)
	if err == nil {
		j.Note("%s", describeClone(p))
	}
	return err
}

// copying is what decides between clone and replay.
type copying struct {
	member, donor string
	errant        gtid.Set // the server has, the group has not
	missing       gtid.Set // the group has, the server has not
	lost          gtid.Set // of those missing, what the donor's binary logs no longer have
	empty         bool     // the server executed nothing, ever
	complete      bool     // the group's history is complete in its binary logs
	cloned        bool     // this very step cloned it already
}

// replayMost is how many transactions a new server replays before a clone is
// the faster way, at some thousand a second against a restart of 6 s.
const replayMost = 50_000

// needsClone says why a server has to be cloned, or "" if it can replay.
func needsClone(c copying, method string, over bool) (string, error) {
	if !c.errant.IsEmpty() && !over {
		return "", plan.Refuse(
			fmt.Sprintf("look at them: `mysqlbinlog --include-gtids=...` on %s; if they may be lost: repeat with --clone-over %s, which replaces its data with a copy", c.member, c.member),
			"%s has transactions the group does not have: %s. Nothing was changed.", c.member, describe(c.errant))
	}
	why := ""
	switch {
	case !c.errant.IsEmpty():
		why = "its own transactions were given up: " + describe(c.errant)
	case over && !c.cloned:
		why = "its data were given up"
	case method == Clone && !c.cloned:
		why = "as asked"
	case !c.lost.IsEmpty():
		why = fmt.Sprintf("the binary logs of %s no longer have %d transactions it misses", c.donor, c.lost.Count())
	case c.empty && !c.complete:
		why = "it is empty, and not all data of the group need be in its binary logs"
	case c.empty && c.missing.Count() > replayMost:
		why = fmt.Sprintf("%d transactions are faster copied than replayed", c.missing.Count())
	}
	if why != "" && method == Incremental {
		return "", plan.Refuse("repeat without --method incremental", "%s cannot join by replaying: %s. Nothing was changed.", c.member, why)
	}
	return why, nil
}

// provisioning reads what needsClone wants to know.
func (a *actor) provisioning(ctx context.Context, c Cluster, v *topology.View, x topology.Member, donor Known) (copying, error) {
	f := copying{member: x.Name, donor: donor.Name, complete: c.Spec.CompleteHistory}
	var group gtid.Set
	for _, o := range v.In(topology.Online) {
		group = group.Union(o.Report.Holds())
	}
	// What it received from a group of former days it would apply when it starts.
	f.errant = x.Report.Holds().Subtract(group)
	if m, ok := c.Member(x.Name); ok {
		f.errant = f.errant.Union(m.beyond(x.Report))
	}
	f.missing = group.Subtract(x.Report.Executed)
	f.empty = x.Report.Executed.IsEmpty()
	from, err := a.server(donor)
	if err != nil {
		return f, err
	}
	purged, err := from.Purged(ctx)
	if err != nil {
		return f, err
	}
	f.lost = purged.Intersect(f.missing)
	return f, nil
}

// donor picks an ONLINE member to copy from: not the only writer if there is
// a choice.
func (a *actor) donor(v *topology.View) (Known, error) {
	online := v.In(topology.Online)
	if len(online) == 0 {
		return Known{}, errors.New("no member is ONLINE to copy from")
	}
	best := online[0]
	for _, m := range online {
		if m.Role == topology.Secondary {
			best = m
		}
	}
	return Known{Member: specOf(best)}, nil
}

// clone copies donor's data into m and waits until m is back.
func (a *actor) clone(ctx context.Context, m, donor Known, j plan.Journal) error {
	server, err := a.server(m)
	if err != nil {
		return err
	}
	if p, err := server.CloneProgress(ctx); err == nil && p.State == "In Progress" {
		return a.cloned(ctx, server, m, j, nil) // begun before this node was killed
	}
	v, err := a.look(ctx, nil)
	if err != nil {
		return err
	}
	writer, err := a.writer(ctx, v)
	if err != nil {
		return err
	}
	from, err := a.server(donor)
	if err != nil {
		return err
	}
	password := newPassword()
	if err := writer.SetRecoveryAccount(ctx, recoveryAccount(m), password); err != nil {
		return err
	}
	// The donor may be another member: it must know the account before it is asked.
	at, err := writer.Executed(ctx)
	if err != nil {
		return err
	}
	if err := from.WaitExecuted(ctx, at); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- server.Clone(ctx, donor.Address, recoveryAccount(m).User, password) }()
	return a.cloned(ctx, server, m, j, done)
}

// cloned reports a clone's progress and returns when the server is back on the
// copied data. done, if not nil, has the result of the CLONE statement.
func (a *actor) cloned(ctx context.Context, server *mysql.Server, m Known, j plan.Journal, done chan error) error {
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	ended := time.Time{} // when the copy was complete
	for {
		select {
		case <-ctx.Done():
			if done != nil {
				<-done //nolint:errcheck // the statement ends with its context; whoever goes on looks at the copy
			}
			return context.Cause(ctx)
		case err := <-done:
			if err != nil {
				return err
			}
			done, ended = nil, time.Now()
			server.Forget()
		case <-tick.C:
		}
		ask, cancel := context.WithTimeout(ctx, lookLimit)
		p, err := server.CloneProgress(ask)
		cancel()
		switch {
		case err != nil && !ended.IsZero() && time.Since(ended) > expelLimit:
			return &plan.HintedError{
				Err:  fmt.Errorf("%s copied all data and stopped, and nothing started it again", m.Name),
				Hint: "start mysqld on " + m.Name + ", then run the command again; a service manager that restarts it on exit code 16 (MYSQLD_PARENT_PID set) does this by itself",
			}
		case err != nil:
			server.Forget()
		case p.State == "Failed":
			return fmt.Errorf("clone into %s failed: %s", m.Name, p.Error)
		case p.State == "Completed" && done == nil:
			j.Note("%s", describeClone(p))
			return nil
		case p.State == "In Progress":
			j.Note("%s", describeClone(p))
		}
	}
}

// describeClone says bytes, rate and estimate.
func describeClone(p mysql.CloneState) string {
	const mb = 1 << 20
	rate := float64(p.Copied) / max(p.Elapsed.Seconds(), 0.001)
	if p.State == "Completed" {
		return fmt.Sprintf("cloned %d MB in %s (%d MB/s)", p.Copied/mb, p.Elapsed.Round(100*time.Millisecond), int(rate)/mb)
	}
	if p.Total <= p.Copied || rate < 1 {
		return fmt.Sprintf("%s: %d MB", p.Stage, p.Copied/mb)
	}
	left := time.Duration(float64(p.Total-p.Copied) / rate * float64(time.Second))
	return fmt.Sprintf("%s: %d of %d MB, %d MB/s, %s left", p.Stage, p.Copied/mb, p.Total/mb, int(rate)/mb, left.Round(time.Second))
}

// join lets a provisioned server into the group and waits until it is ONLINE
// and caught up.
func (a *actor) join(ctx context.Context, c Cluster, m Known, s *plan.Step, j plan.Journal) error {
	v, x, in, err := a.inGroup(ctx, m.Name)
	if err != nil {
		return err
	}
	if !in {
		if v.Quorum != topology.HasQuorum {
			return plan.Refuse("`perdure status`", "%s cannot join: the group's quorum is %s (%s)", m.Name, v.Quorum, states(v))
		}
		if x.State == topology.Isolated {
			return plan.Refuse("STOP GROUP_REPLICATION on "+m.Name+", then `perdure member rejoin "+m.Name+"`", "%s is in a group of its own: %s", m.Name, x.Why)
		}
		if x, err = a.expelled(ctx, m, j); err != nil {
			return err
		}
		facts, err := a.provisioning(ctx, c, v, x, Known{Member: specOf(v.In(topology.Online)[0])})
		if err != nil {
			return err
		}
		if _, err := needsClone(facts, Auto, false); err != nil {
			return err
		}
		server, err := a.server(m)
		if err != nil {
			return err
		}
		if x.State == topology.Error { // START refuses while the plugin still runs
			if err := server.Leave(ctx); err != nil {
				return err
			}
		}
		if err := a.trusted(ctx); err != nil {
			return err
		}
		listed := func(v *topology.View) bool { x, _ := v.Member(m.Name); return listedByOthers(v, x.UUID) }
		if err := a.changing(ctx, clientsOf(s), func() error { return server.Join(ctx) }, listed); err != nil {
			return a.withLog(ctx, err, m)
		}
	}
	return a.opened(ctx, m, s, j)
}

// expelled waits until the group no longer lists a server that is outside: it
// would refuse it as an old incarnation.
func (a *actor) expelled(ctx context.Context, m Known, j plan.Journal) (topology.Member, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, expelLimit, errors.New("the group still lists it"))
	defer cancel()
	var x topology.Member
	_, err := a.watch.Until(ctx, func(v *topology.View) bool {
		x, _ = v.Member(m.Name)
		if (x.State == topology.Offline || x.State == topology.Error) && !listedByOthers(v, x.UUID) {
			return true
		}
		j.Note("it waits to be expelled: %s", x.Why)
		return false
	})
	if err != nil {
		return x, fmt.Errorf("%s cannot join: it is %s, %s: %w", m.Name, x.State, x.Why, err)
	}
	return x, nil
}

// listedByOthers tells whether a member of the group lists that server.
func listedByOthers(v *topology.View, uuid string) bool {
	return topology.Listed(v.In(topology.Online, topology.Recovering), uuid)
}

// waitOnline waits until the member is ONLINE. As long as it makes progress it
// has time. If it does not come nearer to the others, they write less for a
// while.
func (a *actor) waitOnline(ctx context.Context, m Known, s *plan.Step, j plan.Journal) (v *topology.View, err error) {
	if err := a.unslow(ctx, s); err != nil { // what a killed node left
		a.Log.Warn("writers may be slowed down still", "member", m.Name, "err", err)
	}
	var progress uint64
	last := time.Now()
	stuck := errors.New("it makes no progress")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var behind catchUp
	defer func() { err = errors.Join(err, a.pace(ctx, v, m, &behind, 0, s, j)) }()
	want := 0
	for {
		v, err = a.watch.Until(ctx, func(v *topology.View) bool {
			x, _ := v.Member(m.Name)
			if x.Report != nil {
				if n := x.Report.Executed.Count(); n != progress {
					progress, last = n, time.Now()
				}
			}
			if x.State == topology.Online {
				return true
			}
			if at, ok := lacking(v, m.Name); ok {
				j.Note("it is %s, %d transactions applied, %d to go", x.State, progress, at.lacks)
				if want = behind.pace(at); want != behind.quota {
					return true
				}
			}
			limit := onlineLimit
			if x.State == topology.Offline || x.State == topology.Error {
				limit = 10 * time.Second // it fell out again; the report may lag behind
			}
			if time.Since(last) > limit {
				cancel(stuck)
			}
			return false
		})
		x, _ := v.Member(m.Name)
		if err != nil {
			return v, fmt.Errorf("%s did not become ONLINE, it is %s (%s): %w", m.Name, x.State, x.Why, err)
		}
		if x.State == topology.Online {
			err = a.pace(ctx, v, m, &behind, 0, s, j)
			j.Note("ONLINE with %d transactions", progress)
			return v, err
		}
		if err := a.pace(ctx, v, m, &behind, want, s, j); err != nil {
			return v, err
		}
	}
}

// leave takes a member out of the group, or waits until a dead one is out.
func (a *actor) leave(ctx context.Context, m Known, clients clients, j plan.Journal) error {
	_, x, in, err := a.inGroup(ctx, m.Name)
	if err != nil {
		return err
	}
	// A server that is OFFLINE may be in the middle of a START whose caller was
	// killed: STOP waits for it, and does nothing where there is nothing to stop.
	starting := x.State == topology.Offline && x.Report.GroupName != ""
	if in || starting || x.State == topology.Isolated || x.State == topology.Error {
		server, err := a.server(m)
		if err != nil {
			return err
		}
		if err := a.trusted(ctx); err != nil {
			return err
		}
		unlisted := func(v *topology.View) bool { return !listedByOthers(v, x.UUID) }
		if err := a.changing(ctx, clients, func() error { return server.Leave(ctx) }, unlisted); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, expelLimit, errors.New("the group still lists it"))
	defer cancel()
	_, err = a.watch.Until(ctx, func(v *topology.View) bool {
		x, _ := v.Member(m.Name)
		gone := x.State == topology.Offline || x.State == topology.Down || x.State == topology.Unknown || x.State == topology.Error
		if !gone {
			j.Note("it is still %s", x.State)
		}
		return gone && !listedByOthers(v, x.UUID)
	})
	if err != nil {
		return fmt.Errorf("%s did not leave the group: %w", m.Name, err)
	}
	j.Note("nobody lists it any more")
	return nil
}
