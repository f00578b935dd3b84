package topology

import (
	"fmt"
	"net"
	"strconv"
	"time"
)

// Expect is what the configuration says and no server can know.
type Expect struct {
	Cluster string
	Group   string // name (UUID) of the cluster's group, empty if not made yet
	// Patience is how old an answer may be and still count as the server's
	// word. A server that says nothing for longer is Suspect.
	Patience time.Duration
}

// DefaultPatience keeps a hung server's traffic off within 1.5 s: one missed
// probe of 400 ms, the second counted as it should have begun, and the pace of
// the judge. Shorter, and a garbage-collected hypervisor looks like a dead one.
const DefaultPatience = time.Second

// Judge turns what was heard from the instances into a View. It reads nothing
// but its arguments. prev is the View before, its zero value at the start.
//
// What a server says about itself is never enough: it is Online only in a camp
// of servers that list each other, and a camp that was contradicted by members
// it lists has no say.
func Judge(prev View, now time.Time, want Expect, obs []Observation) View {
	if want.Patience == 0 {
		want.Patience = DefaultPatience
	}
	voters := inGroup(now, want, obs)
	heard := map[string]bool{}
	for _, o := range obs {
		if o.Report != nil && (o.Failure == Refused || fresh(o, now, want)) {
			heard[o.Report.UUID] = true
		}
	}
	all := camps(voters, heard, want.Group)
	v := View{At: now, Cluster: want.Cluster, Group: want.Group, Quorum: NoGroup}
	var main *camp
	if len(all) > 0 && (want.Group == "" || all[0].group == want.Group) {
		main = &all[0]
		v.Group, v.Quorum = main.group, main.quorum
		v.Mode = main.mode()
	}
	for i, o := range obs {
		m := judgeOne(now, want, o, i, main, all)
		if old, ok := prev.Member(m.Name); ok && old.State == m.State {
			m.Since = old.Since
		} else {
			m.Since = now
		}
		v.Members = append(v.Members, m)
	}
	if v.Quorum == NoGroup && (silentAll(v.Members) || lastlyInside(v.Members, now)) {
		v.Quorum = Unsure
	}
	v.Problems = problems(v, main, all)
	v.Number = prev.Number
	if v.Number == 0 || differs(&prev, &v) {
		v.Number++
	}
	return v
}

// fresh tells whether an observation's report still speaks for the server.
func fresh(o Observation, now time.Time, want Expect) bool {
	return o.Report != nil && o.Failure != Refused && o.Failure != Denied && now.Sub(o.Heard) <= want.Patience
}

// inGroup returns the servers that answered just now and say they are in.
func inGroup(now time.Time, want Expect, obs []Observation) []voter {
	var out []voter
	for i, o := range obs {
		if !fresh(o, now, want) {
			continue
		}
		self, ok := o.Report.Self()
		if !ok || !counts(self.State) {
			continue
		}
		lists := map[string]string{}
		for _, p := range o.Report.Peers {
			lists[p.UUID] = p.State
		}
		out = append(out, voter{at: i, report: o.Report, lists: lists})
	}
	return out
}

func (c *camp) mode() Mode {
	single := 0
	for _, v := range c.voters {
		if v.report.SinglePrimary {
			single++
		}
	}
	if 2*single > len(c.voters) {
		return SinglePrimary
	}
	return MultiPrimary
}

// judgeOne says what one instance is, given the camp that is the group.
func judgeOne(now time.Time, want Expect, o Observation, at int, main *camp, all []camp) Member {
	m := Member{Instance: o.Instance, Report: o.Report, Heard: o.Heard, Failure: o.Failure}
	if o.Report != nil {
		m.UUID = o.Report.UUID
	}
	l, listed := listing{}, false
	if main != nil {
		l, listed = main.find(o)
		if listed && m.UUID == "" {
			m.UUID = l.peer.UUID
		}
	}
	if !fresh(o, now, want) {
		m.State, m.Why = judgeSilent(now, o, l, listed)
		return m
	}
	self, in := o.Report.Self()
	switch {
	case main != nil && main.has(at):
		m.judgeInside(o.Report, self, l, main)
	case in && self.State == "RECOVERING" && main != nil && o.Report.GroupName == main.group:
		m.State, m.Why = Recovering, "it joins; the others do not list it yet"
	case in && counts(self.State):
		m.State, m.Why = Isolated, isolation(o, main, all)
	case in && self.State == "ERROR":
		m.State, m.Why = Error, "it left its group with an error"
	default:
		m.State, m.Why = Offline, "it is in no group"
	}
	if listed && (m.State == Offline || m.State == Error) {
		m.Why += "; the group still lists it and has to expel it first"
	}
	if o.Report.LastError != "" && (m.State == Offline || m.State == Error) {
		m.Why += ": " + o.Report.LastError
	}
	return m
}

// judgeInside fills in a member that the group and itself call a member.
func (m *Member) judgeInside(r *Report, self Peer, l listing, main *camp) {
	m.Role = self.Role
	switch {
	case self.State == "RECOVERING":
		m.State, m.Why = Recovering, "it fetches the transactions it missed"
		return
	case l.unreachable > l.reached:
		m.State, m.Why = Unreachable, "it answers us, the other members cannot reach it"
		return
	}
	m.State = Online
	committing := main.quorum != LostQuorum
	m.Readable = committing && !r.OfflineMode
	m.Writable = committing && !r.OfflineMode && !r.ReadOnly && !r.SuperReadOnly
	switch {
	case !committing:
		m.Why = "its group lost the majority: commits block"
	case r.OfflineMode:
		m.Why = "offline_mode is ON: it accepts no clients"
	case main.quorum == Unsure:
		m.Why = "no other member confirms it: we reach too few of them"
	case self.Role == Primary && r.SuperReadOnly:
		m.Why = "it is read-only although it is a primary"
	}
}

// judgeSilent is for a server whose word we do not have.
func judgeSilent(now time.Time, o Observation, l listing, listed bool) (State, string) {
	why := silence(now, o)
	switch {
	case listed && l.unreachable >= l.reached:
		return Unreachable, why + "; its group cannot reach it either"
	case listed:
		return Suspect, why + "; its group still counts on it"
	case o.Report == nil && o.Failure == Answers:
		return Unknown, "it was not heard from yet"
	case o.Failure == Denied:
		return Unknown, why
	}
	return Down, why
}

func silence(now time.Time, o Observation) string {
	switch {
	case o.Failure == Refused:
		return "nothing listens at " + o.Instance.Address
	case o.Failure == Denied:
		return "it does not let us in: " + o.Error
	case o.Report == nil && o.Failure == Answers:
		return "it was not heard from yet"
	case o.Report == nil:
		return "it gives no usable answer: " + o.Error
	}
	return fmt.Sprintf("it has not answered for %s", now.Sub(o.Heard).Round(100*time.Millisecond))
}

// isolation explains why a server that believes to be in a group is not.
func isolation(o Observation, main *camp, all []camp) string {
	if main == nil || o.Report.GroupName != main.group {
		return "it is in another group, " + o.Report.GroupName
	}
	for _, c := range all {
		for _, v := range c.voters {
			if v.report == o.Report && disjoint(c, *main) {
				return "it is in a second group with the same name"
			}
		}
	}
	return "it believes to be a member, the others do not list it"
}

func (c *camp) has(at int) bool {
	for _, v := range c.voters {
		if v.at == at {
			return true
		}
	}
	return false
}

// find looks an instance up in the camp's list, by UUID and, if it never
// answered, by the address the group knows it under.
func (c *camp) find(o Observation) (listing, bool) {
	if o.Report != nil {
		l, ok := c.listed[o.Report.UUID]
		return l, ok
	}
	for _, l := range c.listed {
		if net.JoinHostPort(l.peer.Host, strconv.Itoa(l.peer.Port)) == o.Instance.Address {
			return l, true
		}
	}
	return listing{}, false
}

func silentAll(ms []Member) bool {
	for _, m := range ms {
		if m.State != Down && m.State != Unknown {
			return false
		}
	}
	return len(ms) > 0
}

// goneAfter is how long a member that was in a group may be silent before its
// silence counts as the end of that group.
const goneAfter = 10 * time.Second

// lastlyInside tells whether a member said a moment ago that it is in a group,
// and says nothing now: the rest of a group can be one busy server.
func lastlyInside(ms []Member, now time.Time) bool {
	for _, m := range ms {
		if m.State != Down || m.Failure == Refused || m.Report == nil || now.Sub(m.Heard) >= goneAfter {
			continue
		}
		if self, in := m.Report.Self(); in && counts(self.State) {
			return true
		}
	}
	return false
}

// differs tells whether two Views judge differently; positions and times move
// all the time and do not count.
func differs(a, b *View) bool {
	if a.Quorum != b.Quorum || a.Mode != b.Mode || a.Group != b.Group ||
		len(a.Members) != len(b.Members) || len(a.Problems) != len(b.Problems) {
		return true
	}
	for i := range a.Members {
		x, y := &a.Members[i], &b.Members[i]
		if x.Instance != y.Instance || x.UUID != y.UUID || x.State != y.State || x.Role != y.Role ||
			x.Writable != y.Writable || x.Readable != y.Readable {
			return true
		}
	}
	for i := range a.Problems {
		if a.Problems[i].Kind != b.Problems[i].Kind || fmt.Sprint(a.Problems[i].Members) != fmt.Sprint(b.Problems[i].Members) {
			return true
		}
	}
	return false
}
