package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/topology"
)

// fetch is transactions that the member which is to start the group takes from
// another one before.
type fetch struct {
	from string
	set  gtid.Set
}

// choose decides which member starts the group, as guard does, and what it
// fetches from others before. Servers that are killed in the same instant can
// each have a transaction that no other has: the group had agreed on both, one
// server had written down the one and one the other. No member is the richest
// then, and yet nothing has to be lost.
func choose(c Cluster, v *topology.View, ok Accept) (seed string, before []fetch, err error) {
	asked, err := answering(c.Names(), v, ok)
	if err != nil {
		return "", nil, err
	}
	if seed, err = richest(asked, ok); err == nil {
		return seed, nil, nil
	}
	if united, before := unite(c, asked, ok); united != "" {
		return united, before, nil
	}
	return "", nil, err
}

// unite finds a member that can fetch from others what it lacks, without
// conflict: all members are of this group, none was given up, and every
// transaction that is to be fetched was numbered by the group, which certified
// each against all before it; the order between two that no member has both of
// does not matter. It is fetched from the binary logs of a member that executed
// it: what a member only received comes with that member as the one to start.
func unite(c Cluster, asked []topology.Member, ok Accept) (string, []fetch) {
	var ms []topology.Member
	var all gtid.Set
	for _, m := range asked {
		if slices.Contains(ok.CloneOver, m.Name) {
			continue
		}
		if k, known := c.Member(m.Name); !known || k.GivenUp != "" || m.Report.GroupName != c.Group {
			return "", nil
		}
		ms = append(ms, m)
		all = all.Union(m.Report.Holds())
	}
	if !descended(c.Group, ms) {
		return "", nil
	}
	// Who lacks least begins.
	slices.SortStableFunc(ms, func(a, b topology.Member) int {
		return int(all.Subtract(a.Report.Holds()).Count()) - int(all.Subtract(b.Report.Holds()).Count()) //nolint:gosec // a handful
	})
	for _, m := range ms {
		if before, complete := fetches(m, ms, all); complete {
			return m.Name, before
		}
	}
	return "", nil
}

// fetches says what m takes from whom to have all.
func fetches(m topology.Member, ms []topology.Member, all gtid.Set) (before []fetch, complete bool) {
	left := all.Subtract(m.Report.Holds())
	for _, o := range ms {
		part := left.Intersect(o.Report.Executed)
		if part.IsEmpty() {
			continue
		}
		before = append(before, fetch{o.Name, part})
		left = left.Subtract(part)
	}
	return before, left.IsEmpty()
}

// descended tells whether members differ in nothing but what their group
// numbered. With anything else, on whichever side, only a human can say that it
// belongs together: no member ever certified the one against the other.
func descended(group string, ms []topology.Member) bool {
	for _, m := range ms {
		for _, o := range ms {
			for _, id := range m.Report.Holds().Subtract(o.Report.Holds()).UUIDs() {
				if !strings.EqualFold(id.String(), group) {
					return false
				}
			}
		}
	}
	return true
}

// merges are the steps that do the fetches.
func merges(seed string, before []fetch) []plan.Step {
	var steps []plan.Step
	for _, f := range before {
		steps = append(steps, plan.Step{Verb: merge, Member: seed, Whole: true, Args: map[string]string{"from": f.from, "set": f.set.String()}})
	}
	return steps
}

// mergeLimit is how long a handful of transactions may take to be fetched.
const mergeLimit = 2 * time.Minute

// mergeFrom lets a member that is in no group fetch transactions from another
// one over an ordinary channel. Both stay read-only; numbers are kept. What the
// other has besides comes along; it is checked again that all of it is the
// group's.
func (a *actor) mergeFrom(ctx context.Context, c Cluster, m Known, s *plan.Step, j plan.Journal) error {
	want, err := gtid.Parse(s.Args["set"])
	if err != nil {
		return err
	}
	from, known := c.Member(s.Args["from"])
	if !known {
		return fmt.Errorf("%s is not a member of cluster %s", s.Args["from"], c.Name)
	}
	server, err := a.server(m)
	if err != nil {
		return err
	}
	v, err := a.look(ctx, c.Names())
	if err != nil {
		return err
	}
	x, _ := v.Member(m.Name)
	if x.Report != nil && x.Report.Executed.Contains(want) { // done before this node was killed
		j.Note("it has %s", describe(want))
		return server.EndFetch(ctx)
	}
	for _, o := range v.Members {
		if o.State != topology.Offline && o.State != topology.Error && o.State != topology.Down {
			return plan.Refuse("`perdure status`", "%s is %s: nothing is fetched beside a group that may be alive", o.Name, o.State)
		}
	}
	y, _ := v.Member(from.Name)
	if y.Report == nil || !y.Report.Executed.Contains(want) || !y.Report.SuperReadOnly || !x.Report.SuperReadOnly {
		return plan.Refuse("run the command again", "%s and %s are not what they were: nothing is fetched", m.Name, from.Name)
	}
	if !descended(c.Group, []topology.Member{x, y}) {
		return plan.Refuse("run the command again", "%s has transactions that are not the group's by now", from.Name)
	}
	if err := a.trusted(ctx); err != nil {
		return err
	}
	limited, cancel := context.WithTimeoutCause(ctx, mergeLimit, errors.New("it took longer than "+mergeLimit.String()))
	defer cancel()
	donor, err := a.server(from)
	if err != nil {
		return err
	}
	if err := server.Fetch(limited, donor, want); err != nil {
		return fmt.Errorf("fetch %s from %s: %w", describe(want), from.Name, err)
	}
	j.Note("fetched %s from %s", describe(want), from.Name)
	return nil
}
