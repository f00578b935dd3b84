package group

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/topology"
)

// Remedy is what healing wants to do next.
type Remedy struct {
	Do     Cure
	Member string   // for Rejoin and Rebuild
	Names  []string // for Expel: the dead; for Force: the lost; for Restart: those given up
	Why    string   // the evidence, one sentence
}

// Cure is a kind of remedy.
type Cure string

// Cures. Everything but Nothing, Ask and the two about the expel timeout is a
// plan.
const (
	Nothing Cure = ""
	Ask     Cure = "ask"     // only a human can go on: Why says what was found
	Expel   Cure = "expel"   // let the group expel dead members at once
	Relax   Cure = "relax"   // give the expel timeout back its configured value
	Rejoin  Cure = "rejoin"  // bring a member back
	Rebuild Cure = "rebuild" // bring it back on a copy, its own transactions saved
	Restart Cure = "restart" // start the group after a total outage
	Force   Cure = "force"   // go on without the lost majority
	Recover Cure = "recover" // every member in ERROR: a transaction that cannot be applied
)

// Healing is patient where acting early could do harm.
const (
	outFor     = 2 * time.Second         // a member is out before it is brought back
	errorFor   = 12 * time.Second        // a member in ERROR may come back by itself: its first try follows at once
	outageFor  = 5 * time.Second         // nobody is in a group before the group is started
	lostFor    = 3 * time.Second         // the majority is lost before the rest goes on
	poisonFor  = 5 * time.Second         // everybody is in ERROR before that is taken apart
	leavingFor = 1500 * time.Millisecond // a member that leaves is listed a moment longer
	deadFor    = 3 * time.Second         // a silent member's silence, besides what its group says
	triesMost  = 3                       // failures of one remedy before a human is asked
	triesPause = 20 * time.Second        // between two tries, doubled each time
)

// history is what healing remembers of what it tried, by member ("" is the
// group). It is lost with the term: a new leader begins to count anew.
type history map[string]attempt

type attempt struct {
	failed int
	last   time.Time
	why    string
}

// heal decides what to do about the cluster now. It reads nothing but its
// arguments. The order matters: what helps everybody comes first.
func heal(c Cluster, v *topology.View, tried history, now time.Time) Remedy {
	switch {
	case c.Empty() || c.Stopped || len(v.Members) == 0:
		return Remedy{}
	case slices.ContainsFunc(v.Problems, func(p topology.Problem) bool { return p.Kind == topology.TwoGroups || p.Kind == topology.OtherGroup }):
		return Remedy{Do: Ask, Why: "members live in different groups"}
	}
	switch v.Quorum {
	case topology.HasQuorum:
		return healMembers(c, v, tried, now)
	case topology.LostQuorum:
		return tried.limit(healLost(c, v, now), now)
	case topology.NoGroup:
		return tried.limit(healOutage(c, v, now), now)
	}
	return Remedy{} // unsure: look again
}

// healMembers is for a group that commits.
func healMembers(c Cluster, v *topology.View, tried history, now time.Time) Remedy {
	dead := provenDead(v, now)
	if len(dead) > 0 && expelTimeouts(v, 0) {
		return Remedy{Do: Expel, Names: dead, Why: fmt.Sprintf("%s: neither this node nor the group reaches it", strings.Join(dead, ", "))}
	}
	if len(dead) == 0 && len(v.In(topology.Unreachable, topology.Suspect)) == 0 && expelTimeouts(v, *c.Spec.ExpelTimeout) {
		return Remedy{Do: Relax, Why: "nobody is suspected any more"}
	}
	var ask Remedy
	for _, m := range v.Members {
		k, known := c.Member(m.Name)
		if !known || k.Stopped || listedByOthers(v, m.UUID) {
			continue
		}
		r := healMember(v, m, now)
		if own := k.beyond(m.Report); r.Do == Rejoin && !own.IsEmpty() {
			r = Remedy{Do: Rebuild, Member: m.Name, Why: fmt.Sprintf("the group went on without %s, which has %s beyond what the others held", m.Name, describe(own))}
		}
		if r = tried.limit(r, now); r.Do == Ask && ask.Do == Nothing {
			ask = r
		} else if r.Do != Nothing && r.Do != Ask {
			return r
		}
	}
	return ask
}

// healMember is for one member outside a group that commits.
func healMember(v *topology.View, m topology.Member, now time.Time) Remedy {
	away := now.Sub(m.Since)
	patience := outFor
	switch m.State {
	case topology.Error:
		patience = errorFor
	case topology.Offline:
	default:
		return Remedy{}
	}
	if away < patience || m.Report == nil {
		return Remedy{}
	}
	for _, p := range v.Problems {
		if p.Kind == topology.Errant && slices.Contains(p.Members, m.Name) {
			return Remedy{Do: Rebuild, Member: m.Name, Why: p.Text}
		}
	}
	return Remedy{Do: Rejoin, Member: m.Name, Why: fmt.Sprintf("%s is %s for %s: %s", m.Name, m.State, away.Round(time.Second), m.Why)}
}

// provenDead lists members that are still counted in, so that every commit of
// the others waits for them, and whose death we have two kinds of evidence for:
// the group cannot reach them and neither can we; or the server itself says,
// restarted, that it is in no group while the group still lists it.
func provenDead(v *topology.View, now time.Time) []string {
	var out []string
	for _, m := range v.Members {
		switch m.State {
		case topology.Unreachable:
			if m.Failure == topology.Refused || (m.Failure != topology.Answers && now.Sub(m.Heard) >= deadFor) {
				out = append(out, m.Name)
			}
		case topology.Offline:
			if now.Sub(m.Since) >= leavingFor && listedByOthers(v, m.UUID) {
				out = append(out, m.Name)
			}
		}
	}
	return out
}

// expelTimeouts tells whether any member that could be told has another expel
// timeout than wanted.
func expelTimeouts(v *topology.View, want int) bool {
	return slices.ContainsFunc(v.In(topology.Online), func(m topology.Member) bool { return m.Report.ExpelTimeout != want })
}

// healLost is for a group without its majority. It goes on alone only when each
// of the others is proven down: its host says nobody listens there, or it
// answers and is out of the group and read-only. Silence is no proof.
func healLost(c Cluster, v *topology.View, now time.Time) Remedy {
	var lost, unproven []string
	for _, m := range v.Members {
		k, _ := c.Member(m.Name)
		if k.Stopped || m.State == topology.Online || m.State == topology.Recovering {
			continue
		}
		lost = append(lost, m.Name)
		fenced := m.Failure == topology.Answers && m.Report != nil && m.Report.SuperReadOnly &&
			(m.State == topology.Offline || m.State == topology.Error)
		if m.Failure != topology.Refused && !fenced {
			unproven = append(unproven, fmt.Sprintf("%s is %s: %s", m.Name, m.State, m.Why))
		}
		if now.Sub(m.Since) < lostFor {
			return Remedy{}
		}
	}
	if len(v.In(topology.Online)) == 0 || len(lost) == 0 {
		return Remedy{}
	}
	if len(unproven) > 0 {
		return Remedy{Do: Ask, Names: lost, Why: fmt.Sprintf(
			"the majority is lost, and not proven down: %s. If it is: `perdure group force --accept-loss %s`", strings.Join(unproven, "; "), strings.Join(lost, ","))}
	}
	// The group must have noticed by itself; before that it refuses to be forced.
	for _, o := range v.In(topology.Online) {
		for _, p := range o.Report.Peers {
			if x, ok := v.ByUUID(p.UUID); ok && slices.Contains(lost, x.Name) && counts(p.State) {
				return Remedy{}
			}
		}
	}
	return Remedy{Do: Force, Names: lost, Why: fmt.Sprintf("%s are proven down; the rest holds everything that was acknowledged", strings.Join(lost, ", "))}
}

func counts(state string) bool { return state == "ONLINE" || state == "RECOVERING" }

// healOutage is for a cluster of which nobody is in a group.
func healOutage(c Cluster, v *topology.View, now time.Time) Remedy {
	var down []string
	var errored, answering []topology.Member
	for _, m := range v.Members {
		k, _ := c.Member(m.Name)
		switch {
		case m.State == topology.Offline || m.State == topology.Error:
			answering = append(answering, m)
			if m.State == topology.Error {
				errored = append(errored, m)
			}
			if now.Sub(m.Since) < outageFor {
				return Remedy{}
			}
		case k.Stopped && m.State == topology.Down:
		default:
			down = append(down, fmt.Sprintf("%s is %s", m.Name, m.State))
		}
	}
	switch {
	case len(down) > 0:
		return Remedy{Do: Ask, Why: fmt.Sprintf("nobody is in the group, and not everybody answers: %s. Start them, or name what may be lost: `perdure group start --accept-loss NAME`", strings.Join(down, ", "))}
	case len(errored) > 1 && 2*len(errored) > len(answering):
		lineage, out := majority(answering)
		if lineage == "" {
			return Remedy{Do: Ask, Why: "every member stopped with an error and no majority has the same transactions: " + strings.Join(alone(answering), "; ")}
		}
		return Remedy{Do: Recover, Member: lineage, Names: out, Why: "the members stopped on a transaction they could not apply: " + errored[0].Why}
	}
	return Remedy{Do: Restart, Why: "nobody is in the group and every member answers"}
}

// majority finds the transactions that most of the members executed, and those
// members that executed others.
func majority(ms []topology.Member) (lineage string, out []string) {
	for _, a := range ms {
		set := a.Report.Executed
		same := 0
		var others []string
		for _, b := range ms {
			if set.Contains(b.Report.Executed) {
				same++
			} else {
				others = append(others, b.Name)
			}
		}
		if 2*same > len(ms) {
			if lineage == "" || len(others) < len(out) {
				lineage, out = a.Name, others
			}
		}
	}
	return lineage, out
}

// limit holds a remedy back that failed before: longer each time, and after the
// last try a human is asked.
func (h history) limit(r Remedy, now time.Time) Remedy {
	if r.Do == Nothing || r.Do == Ask {
		return r
	}
	t := h[r.Member]
	switch {
	case t.failed >= triesMost:
		return Remedy{Do: Ask, Member: r.Member, Why: fmt.Sprintf("%s failed %d times, the last time: %s", r.Do, t.failed, t.why)}
	case t.failed > 0 && now.Sub(t.last) < triesPause<<(t.failed-1):
		return Remedy{}
	}
	return r
}
