package group

import (
	"context"
	"errors"
	"fmt"
	"maps"
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

// A member that joins applies what it missed while the others go on writing. If
// they write as fast as it applies it never becomes ONLINE, and until then the
// group can lose less than it should. Measured with three members and 32 writers
// on two processors: 1,300 writes a second, and after half a minute the member
// lacks more than at its start. Group Replication's own flow control begins at
// 25,000 waiting transactions, takes a tenth away and forgives the rest. With a
// quarter of their writes the member has caught up with 43,000 transactions
// after 7 seconds.
const (
	slowAfter = 5 * time.Second  // most members are ONLINE before that
	slowSoon  = 15 * time.Second // a member that will be there by then needs no help
	slowSpan  = 3 * time.Second  // what a speed is read from
	slowAgain = 10 * time.Second // until the writers' share is halved
	slowMost  = 2 * time.Minute  // for all of one join
	slowShare = 4                // writers keep a quarter, then an eighth, ...
	slowLeast = 20               // writes a second that nobody takes away
)

// catchUp is what was seen of a member that catches up, and what its group was
// told to write meanwhile.
type catchUp struct {
	marks   []mark // of the last slowSpan and one before
	begun   time.Time
	slowed  time.Time // since when the group writes less, zero if it never did
	changed time.Time // when quota was set to what it is
	quota   int       // writes a second, 0 without limit
}

// mark is how much the member lacks at one moment, and how much there is.
type mark struct {
	at             time.Time
	lacks, written uint64
}

// pace says how many writes a second the group may do from now on, 0 for as
// many as it can. It reads nothing but its arguments.
func (c *catchUp) pace(m mark) int {
	if c.begun.IsZero() {
		c.begun = m.at
	}
	if n := len(c.marks); n > 0 && !m.at.After(c.marks[n-1].at) {
		return c.quota
	}
	c.marks = append(c.marks, m)
	for len(c.marks) > 2 && m.at.Sub(c.marks[1].at) >= slowSpan {
		c.marks = c.marks[1:]
	}
	first := c.marks[0]
	span := m.at.Sub(first.at)
	if m.at.Sub(c.begun) < slowAfter || span < slowSpan || m.written < first.written {
		return c.quota
	}
	left := slowMost
	if !c.slowed.IsZero() {
		left -= m.at.Sub(c.slowed)
	}
	if left <= 0 {
		return 0
	}
	rate := float64(m.written-first.written) / span.Seconds()
	nearer := (float64(first.lacks) - float64(m.lacks)) / span.Seconds()
	applied := max(nearer+rate, 0)
	switch {
	case nearer*slowSoon.Seconds() >= float64(m.lacks): // soon there
	case rate*slowShare < applied: // writers are not what holds it up
	case applied*slowShare*left.Seconds() < float64(m.lacks): // not there in time, whatever they do
	case c.quota == 0 && rate > slowLeast:
		return max(int(rate)/slowShare, slowLeast)
	case c.quota > slowLeast && m.at.Sub(c.changed) >= slowAgain:
		return max(c.quota/2, slowLeast)
	}
	return c.quota
}

// now notes what the group was told.
func (c *catchUp) now(quota int, at time.Time) {
	c.quota, c.changed = quota, at
	if quota > 0 && c.slowed.IsZero() {
		c.slowed = at
	}
}

// giveUp lets the writers have what they had, for good.
func (c *catchUp) giveUp() { c.quota, c.slowed = 0, time.Time{}.Add(1) }

// lacking reads a mark about a member from a View; ok is false if there is none.
func lacking(v *topology.View, name string) (mark, bool) {
	x, _ := v.Member(name)
	if x.State != topology.Recovering || x.Report == nil {
		return mark{}, false
	}
	all := x.Report.Executed
	others := v.In(topology.Online)
	for _, m := range others {
		all = all.Union(m.Report.Executed)
	}
	return mark{at: x.Heard, lacks: all.Count() - x.Report.Executed.Count(), written: all.Count()}, len(others) > 0
}

// quotas are the settings that hold a group to so many writes a second: from a
// hundred waiting transactions on, that many and no more.
func quotas(quota int) map[string]string {
	q := strconv.Itoa(quota)
	return map[string]string{
		"group_replication_flow_control_mode":                "QUOTA",
		"group_replication_flow_control_applier_threshold":   "100",
		"group_replication_flow_control_certifier_threshold": "100",
		"group_replication_flow_control_min_quota":           q,
		"group_replication_flow_control_max_quota":           q,
	}
}

// slow lets the group write no more than quota a second, or as much as it can
// with 0. What the settings were is in the journal before they are changed; they
// are not persisted, so that a server that restarts has its own again.
func (a *actor) slow(ctx context.Context, v *topology.View, m Known, quota int, s *plan.Step, j plan.Journal) error {
	if quota == 0 {
		return a.unslow(ctx, s)
	}
	server, err := a.server(m)
	if err != nil {
		return err
	}
	if d, err := server.Dialect(ctx); err != nil {
		return err
	} else if d.RDS {
		return errors.New("flow control belongs to the DB parameter group")
	}
	members := v.In(topology.Online, topology.Recovering)
	if err := a.before(ctx, members, s); err != nil {
		return err
	}
	if err := j.Save(); err != nil {
		return err
	}
	if err := a.trusted(ctx); err != nil {
		return err
	}
	return a.onEach(members, func(x topology.Member, server *mysql.Server) error {
		return setQuotas(ctx, server, quotas(quota))
	})
}

// before adds to the step what the settings that slow changes are now.
func (a *actor) before(ctx context.Context, members []topology.Member, s *plan.Step) error {
	if s.Before == nil {
		s.Before = map[string]string{}
	}
	names := slices.Sorted(maps.Keys(quotas(0)))
	for _, x := range members {
		if _, known := s.Before[x.Name+" "+names[0]]; known {
			continue
		}
		server, err := a.server(Known{Member: specOf(x)})
		if err != nil {
			return err
		}
		have, err := server.Variables(ctx, names...)
		if err != nil {
			return err
		}
		for name, value := range have {
			s.Before[x.Name+" "+name] = value
		}
	}
	return nil
}

// setQuotas sets what quotas names, in an order that the server accepts: it
// refuses a least quota above the most.
func setQuotas(ctx context.Context, server *mysql.Server, values map[string]string) error {
	const least = "group_replication_flow_control_min_quota"
	rest := maps.Clone(values)
	delete(rest, least)
	for _, o := range []map[string]string{{least: "0"}, rest, {least: values[least]}} {
		if err := server.SetGlobal(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// unslow gives every member back what slow changed. A member that cannot be
// reached is tried for a moment; then drift tells of it.
func (a *actor) unslow(ctx context.Context, s *plan.Step) error {
	was := map[string]map[string]string{}
	for k, value := range s.Before {
		if member, name, ok := strings.Cut(k, " "); ok {
			if was[member] == nil {
				was[member] = map[string]string{}
			}
			was[member][name] = value
		}
	}
	if len(was) == 0 {
		return nil
	}
	// Whoever broke the step off wants it to end, and the writers to go on.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*lookLimit)
	defer cancel()
	v := a.watch.View()
	var members []topology.Member
	for _, x := range v.Members {
		// A server that does not run loses the settings by itself.
		if was[x.Name] != nil && x.State != topology.Down {
			members = append(members, x)
		}
	}
	err := a.onEach(members, func(x topology.Member, server *mysql.Server) error {
		for {
			ask, cancel := context.WithTimeout(ctx, lookLimit)
			err := setQuotas(ask, server, was[x.Name])
			cancel()
			if err == nil || ctx.Err() != nil {
				return err
			}
			select {
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond):
			}
		}
	})
	if err == nil {
		maps.DeleteFunc(s.Before, func(k, _ string) bool { return strings.Contains(k, " ") })
	}
	return err
}

// onEach does something on several members at once.
func (a *actor) onEach(members []topology.Member, do func(topology.Member, *mysql.Server) error) error {
	failed := make([]error, len(members))
	var all sync.WaitGroup
	for i, x := range members {
		all.Go(func() {
			server, err := a.server(Known{Member: specOf(x)})
			if err == nil {
				err = do(x, server)
			}
			failed[i] = err
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

// pace makes the group write as much as catchUp wants, and says so. A group that
// cannot be slowed down is none the worse: the member goes on as it did.
func (a *actor) pace(ctx context.Context, v *topology.View, m Known, c *catchUp, quota int, s *plan.Step, j plan.Journal) error {
	was := c.quota
	if quota == was {
		return nil
	}
	c.now(quota, time.Now())
	if err := a.slow(ctx, v, m, quota, s, j); err != nil {
		if unwritten(err) {
			return err
		}
		a.Log.Warn("writers could not be slowed down, or are still", "member", m.Name, "writes_per_second", quota, "err", err)
		j.Note("%v", err)
		if quota > 0 {
			c.giveUp()
			return a.unslow(ctx, s)
		}
	}
	x, _ := v.Member(m.Name)
	last := c.marks[len(c.marks)-1]
	kind, text := event.GroupFullSpeed, fmt.Sprintf("writers are not slowed down any more: %s is %s", m.Name, x.State)
	switch {
	case quota > 0:
		kind, text = event.GroupSlowed, fmt.Sprintf("for a while the group accepts %d writes a second, so that %s catches up: it lacks %d transactions and does not come nearer", quota, m.Name, last.lacks)
	case x.State == topology.Recovering:
		text += fmt.Sprintf(", it lacks %d transactions", last.lacks)
	}
	a.Log.Info(text, "member", m.Name)
	j.Note("%s", text)
	if a.Tell == nil {
		return nil
	}
	e := event.New(kind, "group", text).With("writes_per_second", strconv.Itoa(quota))
	e.Member = m.Name
	a.Tell.Publish(e)
	return nil
}

// unwritten tells an error of the journal, or of the right to act, from one of a
// server: the plan goes on elsewhere then.
func unwritten(err error) bool {
	return errors.Is(err, state.ErrStale) || errors.Is(err, state.ErrUnavailable) || errors.Is(err, state.ErrConflict)
}
