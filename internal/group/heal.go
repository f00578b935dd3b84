package group

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/topology"
)

// Remedy is what healing wants to do next.
type Remedy struct {
	Do     Cure
	Member string   // for Rejoin and Rebuild
	Names  []string // for Expel: the dead; for Force: the lost; for Restart: those given up
	Why    string   // the evidence, one sentence
	cause  Cause    // why the member is out, as far as its server says; not decided upon
}

// Cure is a kind of remedy.
type Cure string

// Cures. Everything but Nothing, Ask, Open and the four that last for moments only
// is a plan.
const (
	Nothing Cure = ""
	Ask     Cure = "ask"     // only a human can go on: Why says what was found
	Expel   Cure = "expel"   // let the group expel dead members at once
	Relax   Cure = "relax"   // give the expel timeout back its configured value
	Quiet   Cure = "quiet"   // keep the rest of a group without majority from talking about its load
	Talk    Cure = "talk"    // let it again
	Rejoin  Cure = "rejoin"  // bring a member back
	Rebuild Cure = "rebuild" // bring it back on a copy, its own transactions saved
	Restart Cure = "restart" // start the group after a total outage
	Force   Cure = "force"   // go on without the lost majority
	Recover Cure = "recover" // every member in ERROR: a transaction that cannot be applied
	Regroup Cure = "regroup" // take a rest without majority apart: who is out of it has more
	Open    Cure = "open"    // clear offline_mode, which a member that gave up is left with
)

// Healing is patient where acting early could do harm.
const (
	outFor     = 2 * time.Second         // a member is out before it is brought back
	errorFor   = 12 * time.Second        // a member in ERROR may come back by itself: its first try follows at once
	outageFor  = 5 * time.Second         // nobody is in a group before the group is started
	lostFor    = 3 * time.Second         // the majority is lost before the rest goes on
	followFor  = 15 * time.Second        // a lost member is down while another one is back, before the rest goes on
	moreFor    = time.Minute             // the same, while the one that is back has more than the rest
	poisonFor  = 5 * time.Second         // everybody is in ERROR before that is taken apart
	leavingFor = 1500 * time.Millisecond // a member that leaves is listed a moment longer
	deadFor    = 3 * time.Second         // a silent member's silence, besides what its group says
	deniedFor  = 5 * time.Second         // a server does not let us in before a human is asked
	stuckFor   = 15 * time.Second        // a member recovers, and its recovery fails, before it is taken out and let in anew
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
	cause  Cause
	// aborted: a human took the remedy back. It is left to him.
	aborted bool
}

// settle forgets failures that are no longer true: the member is back, or its
// server was restarted since, so that somebody may have removed the cause.
func (h history) settle(v *topology.View) {
	for name, t := range h {
		m, known := v.Member(name)
		switch {
		case name == "" && v.Quorum == topology.HasQuorum, known && m.State == topology.Online:
			delete(h, name)
		case known && m.Report != nil && m.Failure == topology.Answers && m.Heard.Add(-m.Report.Uptime).After(t.last.Add(2*time.Second)):
			delete(h, name)
		}
	}
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
		if r := hurry(c, v, now); r.Do != Nothing {
			return r
		}
		return tried.limit(healLost(v, now), now)
	case topology.NoGroup:
		return tried.limit(healOutage(v, now), now)
	}
	return Remedy{} // unsure: look again
}

// healMembers is for a group that commits.
func healMembers(c Cluster, v *topology.View, tried history, now time.Time) Remedy {
	if r := hurry(c, v, now); r.Do != Nothing {
		return r
	}
	var ask Remedy
	for _, m := range v.Members {
		k, known := c.Member(m.Name)
		if !known || k.Stopped {
			continue
		}
		r := tried.limit(healMember(v, m, k, now), now)
		if r.Do == Ask && ask.Do == Nothing {
			ask = r
		} else if r.Do != Nothing && r.Do != Ask {
			return r
		}
	}
	return ask
}

// hurry decides about the expel timeout and about the group's talk alone. It is no
// plan, changes nothing that lasts, and is right while a plan runs, too.
func hurry(c Cluster, v *topology.View, now time.Time) Remedy {
	if !c.Empty() && v.Quorum == topology.LostQuorum && talking(v, true) && fresh(v, now) {
		return Remedy{Do: Quiet, Why: "the group lost its majority: what is said now has to be gone through before the rest can go on"}
	}
	if c.Empty() || v.Quorum != topology.HasQuorum {
		return Remedy{}
	}
	if talking(v, false) {
		return Remedy{Do: Talk, Why: "the group has its majority"}
	}
	dead := provenDead(v, now)
	if len(dead) > 0 && expelTimeouts(v, 0) {
		return Remedy{Do: Expel, Names: dead, Why: fmt.Sprintf("%s: neither this node nor the group reaches it", strings.Join(dead, ", "))}
	}
	if len(dead) == 0 && !lingering(v) && expelTimeouts(v, *c.Spec.ExpelTimeout) {
		return Remedy{Do: Relax, Why: "nobody is suspected any more"}
	}
	return Remedy{}
}

// lingering tells whether the group counts on somebody who is not there.
func lingering(v *topology.View) bool {
	return slices.ContainsFunc(v.Members, func(m topology.Member) bool {
		in := m.State == topology.Online || m.State == topology.Recovering
		return m.State == topology.Suspect || m.State == topology.Unreachable || !in && listedByOthers(v, m.UUID)
	})
}

// healMember is for one member that is not as it should be, beside a group that
// commits.
func healMember(v *topology.View, m topology.Member, k Known, now time.Time) Remedy {
	away := now.Sub(m.Since)
	switch {
	case m.Failure == topology.Denied && away >= deniedFor:
		return Remedy{Do: Ask, Member: m.Name, Why: fmt.Sprintf("%s is %s: %s. Give this node's account back its password and its rights there", m.Name, m.State, m.Why)}
	case m.Report == nil:
		return Remedy{}
	case m.State == topology.Recovering && away >= stuckFor && stuck(m.Report):
		return Remedy{Do: Rejoin, Member: m.Name, Why: fmt.Sprintf("%s is %s for %s and gets nothing: %s", m.Name, m.State, away.Round(time.Second), m.Report.LastError)}
	case listedByOthers(v, m.UUID): // it has to be expelled first
		return Remedy{}
	case m.State == topology.Offline && away >= outFor, m.State == topology.Error && away >= errorFor:
		return comeBack(v, m, k, away)
	}
	return Remedy{}
}

// stuck tells that a member that recovers cannot reach a donor.
func stuck(r *topology.Report) bool {
	return r.Recovery != "" && r.Recovery != "ON" && r.LastError != ""
}

// comeBack brings a member back: on its own data where the group has all of
// them, else on a copy.
func comeBack(v *topology.View, m topology.Member, k Known, away time.Duration) Remedy {
	if own := k.beyond(m.Report); !own.IsEmpty() {
		return Remedy{Do: Rebuild, Member: m.Name, Why: fmt.Sprintf("the group went on without %s, which has %s beyond what the others held", m.Name, describe(own))}
	}
	if own := itsOwn(v, m); !own.IsEmpty() {
		return Remedy{Do: Rebuild, Member: m.Name, Why: fmt.Sprintf("%s has transactions that the group does not have: %s", m.Name, describe(own))}
	}
	why := fmt.Sprintf("%s is %s for %s: %s", m.Name, m.State, away.Round(time.Second), m.Why)
	if diagnose(m.Report.LastError) == Differs { // it would stop at the same transaction again
		return Remedy{Do: Rebuild, Member: m.Name, Why: why}
	}
	return Remedy{Do: Rejoin, Member: m.Name, Why: why}
}

// itsOwn is what a member outside the group has and the group has not. It says
// nothing before every member of the group was heard long enough after the
// member left: what that one committed last may be on its way to the others.
func itsOwn(v *topology.View, m topology.Member) gtid.Set {
	var group gtid.Set
	for _, o := range v.In(topology.Online) {
		if o.Heard.Before(m.Since.Add(outFor)) {
			return gtid.Set{}
		}
		group = group.Union(o.Report.Holds())
	}
	return m.Report.Holds().Subtract(group)
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
			// One that leaves in good order is listed a moment longer, but never as
			// unreachable.
			if suspectedByOthers(v, m.UUID) || now.Sub(m.Since) >= leavingFor && listedByOthers(v, m.UUID) {
				out = append(out, m.Name)
			}
		}
	}
	return out
}

// suspectedByOthers tells whether a member of the group cannot reach that server.
func suspectedByOthers(v *topology.View, uuid string) bool {
	for _, m := range v.In(topology.Online) {
		for _, p := range m.Report.Peers {
			if p.UUID == uuid && p.State == "UNREACHABLE" {
				return true
			}
		}
	}
	return false
}

// expelTimeouts tells whether any member that could be told has another expel
// timeout than wanted.
func expelTimeouts(v *topology.View, want int) bool {
	return slices.ContainsFunc(v.In(topology.Online), func(m topology.Member) bool { return m.Report.ExpelTimeout != want })
}

// quietPeriod, in seconds, is so long that nothing is said meanwhile, and no value
// that anybody would choose: it tells whom we made quiet.
//
// Each member tells the others every second how busy it is. While the majority is
// lost such messages are not agreed upon, each waits with the turns of the lost
// members around it, and when the rest is made the group all of them have to be
// gone through one by one, seconds each. Measured with two of three killed and 4
// writers: with nine of them the rest committed again after 22 to 56 s, with none
// after 11 s.
const quietPeriod = 59

// quietWithin is how long after something changed about a lost member the rest is
// made quiet: later it helps little, and some servers cannot be told.
const quietWithin = 10 * time.Second

// fresh tells whether something changed about a lost member a moment ago.
func fresh(v *topology.View, now time.Time) bool {
	return slices.ContainsFunc(v.Members, func(m topology.Member) bool {
		return m.State != topology.Online && listedByOthers(v, m.UUID) && now.Sub(m.Since) < quietWithin
	})
}

// talking tells whether any member that could be told talks about its load, or
// whether one was made quiet.
func talking(v *topology.View, does bool) bool {
	return slices.ContainsFunc(v.In(topology.Online), func(m topology.Member) bool {
		return m.Report.StatsPeriod > 0 && (m.Report.StatsPeriod != quietPeriod) == does
	})
}

// healLost is for a group without its majority. It goes on alone only when each
// of the others is proven down: its host says nobody listens there, or it
// answers and is out of the group and read-only. Silence is no proof. Members
// the group does not list have no part in this.
func healLost(v *topology.View, now time.Time) Remedy {
	var lost, unproven []string
	var more gtid.Set // what those that answer have; theirs is known, the others' is not
	answering, down := 0, time.Duration(math.MaxInt64)
	for _, m := range v.Members {
		if in := m.State == topology.Online || m.State == topology.Recovering; in || !listedByOthers(v, m.UUID) {
			continue
		}
		lost = append(lost, m.Name)
		fenced := m.Failure == topology.Answers && m.Report != nil && m.Report.SuperReadOnly &&
			(m.State == topology.Offline || m.State == topology.Error)
		if fenced {
			answering++
			more = more.Union(m.Report.Holds())
		}
		if m.Failure != topology.Refused && !fenced {
			unproven = append(unproven, fmt.Sprintf("%s is %s: %s", m.Name, m.State, m.Why))
		}
		if now.Sub(m.Since) < lostFor {
			return Remedy{}
		}
		if m.Failure == topology.Refused {
			down = min(down, now.Sub(m.Since))
		}
	}
	left := v.In(topology.Online)
	if len(left) == 0 || len(lost) == 0 {
		return Remedy{}
	}
	if len(unproven) > 0 {
		return Remedy{Do: Ask, Names: lost, Why: fmt.Sprintf(
			"the majority is lost, and not proven down: %s. If it is: `perdure group force --accept-loss %s`", strings.Join(unproven, "; "), strings.Join(lost, ","))}
	}
	for _, o := range left {
		more = more.Subtract(o.Report.Holds())
	}
	// Some of them are back, so the others may be about to. What a majority
	// acknowledged in its last moment may be on them alone: it is looked at first.
	if answering > 0 && (down < followFor || down < moreFor && !more.IsEmpty()) {
		return Remedy{}
	}
	if answering == len(lost) && !more.IsEmpty() {
		return Remedy{Do: Regroup, Names: namesOf(left), Why: fmt.Sprintf("the majority is lost and back outside of the group, with %s that the rest lacks", describe(more))}
	}
	// The group must have noticed by itself; before that it refuses to be forced.
	for _, o := range left {
		for _, p := range o.Report.Peers {
			if x, ok := v.ByUUID(p.UUID); ok && slices.Contains(lost, x.Name) && counts(p.State) {
				return Remedy{}
			}
		}
	}
	return Remedy{Do: Force, Names: lost, Why: strings.Join(lost, ", ") + ": proven down, so that nobody but the rest can commit"}
}

func counts(state string) bool { return state == "ONLINE" || state == "RECOVERING" }

// healOutage is for a cluster of which nobody is in a group.
func healOutage(v *topology.View, now time.Time) Remedy {
	var down []string
	var errored, answering []topology.Member
	for _, m := range v.Members {
		switch {
		case m.State == topology.Offline || m.State == topology.Error:
			answering = append(answering, m)
			if m.State == topology.Error {
				errored = append(errored, m)
			}
			if now.Sub(m.Since) < outageFor {
				return Remedy{}
			}
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
	if r.Do == Rejoin && t.cause.rebuilds() && t.failed < triesMost {
		return Remedy{Do: Rebuild, Member: r.Member, Why: fmt.Sprintf("%s: %s", t.cause, t.why)}
	}
	switch {
	case t.aborted:
		return Remedy{Do: Ask, Member: r.Member, Why: strings.TrimSpace(fmt.Sprintf("%s %s was %s, so that it is left to people until its server is restarted or it is back", r.Do, r.Member, t.why))}
	case t.failed >= triesMost:
		return Remedy{Do: Ask, Member: r.Member, Why: strings.TrimSpace(fmt.Sprintf("%s %s failed %d times, the last time: %s. %s", r.Do, r.Member, t.failed, t.why, t.cause.advice()))}
	case t.failed > 0 && now.Sub(t.last) < triesPause<<(t.failed-1):
		return Remedy{}
	}
	return r
}
