package group

import (
	"fmt"
	"slices"
	"strings"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/topology"
)

// Accept is what a human takes the blame for, member by member.
type Accept struct {
	Missing   []string // not reached: what only they have is lost
	CloneOver []string // have transactions nobody else has: those are lost
}

// guard decides which member may bootstrap the group, or refuses. It is the
// only thing that stands between a restarted server and a second group, so it
// knows no exceptions of its own:
//
//   - every known member answered just now, or a human named it as lost;
//   - none of them is in a group, and none says a group still lists it;
//   - one of them holds every transaction that any of them holds, counting
//     those a member received from the group and did not apply yet.
//
// view must be fresh, and must cover every known member.
func guard(known []string, v *topology.View, ok Accept) (string, error) {
	asked, err := answering(known, v, ok)
	if err != nil {
		return "", err
	}
	return richest(asked, ok)
}

// answering returns the known members that answer, once nothing forbids to start
// one of them.
func answering(known []string, v *topology.View, ok Accept) ([]topology.Member, error) {
	var asked []topology.Member
	var missing, living []string
	for _, name := range known {
		m, there := v.Member(name)
		switch {
		case !there || m.State == topology.Down || m.State == topology.Unknown:
			if !slices.Contains(ok.Missing, name) {
				missing = append(missing, fmt.Sprintf("%s (%s)", name, m.Why))
			}
		case m.State == topology.Offline, m.State == topology.Error:
			asked = append(asked, m)
		default:
			living = append(living, fmt.Sprintf("%s is %s", name, m.State))
		}
	}
	if len(living) > 0 {
		return nil, plan.Refuse("see `perdure status`; let the others in with `perdure member rejoin NAME`",
			"the group is not gone: %s; a bootstrap now would make a second group with the same name. Nothing was changed.", strings.Join(living, ", "))
	}
	if len(missing) > 0 {
		return nil, plan.Refuse("start the servers that are missing and try again; if they are lost for good, name them: `perdure group start --accept-loss NAME`",
			"not every known member answers: %s; each may hold transactions the others lack, or be in a group right now. Nothing was changed.", strings.Join(missing, ", "))
	}
	if len(asked) == 0 {
		return nil, plan.Refuse("start at least one server of the cluster", "no member answers. Nothing was changed.")
	}
	return asked, nil
}

// loses tells whether a group that seed bootstraps goes on without something:
// members nobody could ask, or transactions that were given up.
func (ok Accept) loses(v *topology.View, seed string) bool {
	s, _ := v.Member(seed)
	for _, m := range v.Members {
		asked := m.Report != nil && (m.State == topology.Offline || m.State == topology.Error)
		if slices.Contains(ok.Missing, m.Name) && !asked {
			return true
		}
		if slices.Contains(ok.CloneOver, m.Name) && asked && !s.Report.Holds().Contains(m.Report.Holds()) {
			return true
		}
	}
	return false
}

// richest returns the member that holds what all others hold.
func richest(ms []topology.Member, ok Accept) (string, error) {
	var all gtid.Set
	for _, m := range ms {
		if !slices.Contains(ok.CloneOver, m.Name) {
			all = all.Union(m.Report.Holds())
		}
	}
	best := ""
	var bestExecuted uint64
	for _, m := range ms {
		if slices.Contains(ok.CloneOver, m.Name) || !m.Report.Holds().Contains(all) {
			continue
		}
		// Among equals, the one that has least left to apply opens soonest.
		if n := m.Report.Executed.Count(); best == "" || n > bestExecuted {
			best, bestExecuted = m.Name, n
		}
	}
	if best == "" {
		return "", plan.Refuse("decide whose transactions may be lost, and name that member: `--clone-over NAME` replaces its data with a copy",
			"no member holds everything: %s. Nothing was changed.", strings.Join(alone(ms), "; "))
	}
	return best, nil
}

// alone says for each member what nobody else holds.
func alone(ms []topology.Member) []string {
	var out []string
	for i, m := range ms {
		var others gtid.Set
		for k, o := range ms {
			if k != i {
				others = others.Union(o.Report.Holds())
			}
		}
		if extra := m.Report.Holds().Subtract(others); !extra.IsEmpty() {
			out = append(out, fmt.Sprintf("%s alone has %s", m.Name, describe(extra)))
		}
	}
	return out
}

// describe names a set of transactions: one by one while they are few.
func describe(s gtid.Set) string {
	const few = 20
	if s.Count() > few {
		return fmt.Sprintf("%d transactions (%s)", s.Count(), s)
	}
	var out []string
	for g := range s.All() {
		out = append(out, g.String())
	}
	return strings.Join(out, ", ")
}
