package topology

import (
	"cmp"
	"slices"
)

// voter is a server that answered just now and says it is in a group.
type voter struct {
	at     int // index of its observation
	report *Report
	lists  map[string]string // server UUID -> state, as this server sees it
}

// camp is a set of servers that count each other in. A healthy group is one
// camp. A member that was frozen and thawed still lists everybody, but nobody
// lists it: it is a camp of its own.
type camp struct {
	group  string
	voters []voter
	listed map[string]listing // everybody any of them lists
	quorum Quorum
	alive  int // members counted as able to vote in the group
}

// listing is what a camp says about one server.
type listing struct {
	peer        Peer
	unreachable int // voters that call it UNREACHABLE
	reached     int // voters that call it anything else
	joining     int // of those, voters that call it RECOVERING
}

// camps groups the voters by mutual listing, the best camp first.
//
// heard holds the UUIDs of servers whose own word is known: they answered just
// now, or their host said that nobody listens there. Where such a server is
// not in a camp that lists it, the camp's list is wrong.
func camps(voters []voter, heard map[string]bool, group string) []camp {
	var out []camp
	left := slices.Clone(voters)
	for len(left) > 0 {
		c := camp{group: left[0].report.GroupName, voters: left[:1:1]}
		left = left[1:]
		// Grow until nobody is left whom a voter of the camp lists and who
		// lists that voter.
		for i := 0; i < len(c.voters); i++ {
			rest := left[:0:0]
			for _, v := range left {
				if mutual(c.voters[i], v) {
					c.voters = append(c.voters, v)
				} else {
					rest = append(rest, v)
				}
			}
			left = rest
		}
		c.count(heard)
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b camp) int {
		return cmp.Or(
			-cmpBool(group != "" && a.group == group, group != "" && b.group == group),
			cmp.Compare(rank(a.quorum), rank(b.quorum)),
			-cmp.Compare(len(a.voters), len(b.voters)),
			-cmp.Compare(a.holds(), b.holds()),
		)
	})
	return out
}

func mutual(a, b voter) bool {
	return a.report.GroupName == b.report.GroupName &&
		counts(a.lists[b.report.UUID]) && counts(b.lists[a.report.UUID])
}

// counts tells whether a state in a membership table means "I can talk to it".
func counts(state string) bool { return state == "ONLINE" || state == "RECOVERING" }

// count fills listed and decides about the quorum.
func (c *camp) count(heard map[string]bool) {
	c.listed = map[string]listing{}
	member := map[string]bool{}
	for _, v := range c.voters {
		member[v.report.UUID] = true
		for _, p := range v.report.Peers {
			if p.State == "OFFLINE" || p.State == "ERROR" {
				continue
			}
			l := c.listed[p.UUID]
			if counts(p.State) {
				l.peer, l.reached = p, l.reached+1
				if p.State == "RECOVERING" {
					l.joining++
				}
			} else {
				l.unreachable++
				if l.reached == 0 {
					l.peer = p
				}
			}
			c.listed[p.UUID] = l
		}
	}
	unsure := 0
	for uuid, l := range c.listed {
		switch {
		case member[uuid]:
			c.alive++
		case l.unreachable >= l.reached: // its group gave it up
		case heard[uuid] && l.joining == l.reached: // let in a moment ago: its own word is older
			c.alive++
		case heard[uuid]: // it answers us and knows nothing of this camp, or is gone
		default: // silent to us; the group still talks to it
			c.alive++
			unsure++
		}
	}
	switch {
	case 2*(c.alive-unsure) > len(c.listed):
		c.quorum = HasQuorum
	case 2*c.alive > len(c.listed):
		c.quorum = Unsure
	default:
		c.quorum = LostQuorum
	}
}

// holds is the number of transactions the camp's richest member has.
func (c *camp) holds() uint64 {
	var most uint64
	for _, v := range c.voters {
		most = max(most, v.report.Executed.Count())
	}
	return most
}

// disjoint tells whether two camps list no common member: two groups, and not
// one group with a member left behind.
func disjoint(a, b camp) bool {
	for uuid := range a.listed {
		if _, both := b.listed[uuid]; both {
			return false
		}
	}
	return true
}

func rank(q Quorum) int { return slices.Index([]Quorum{HasQuorum, Unsure, LostQuorum}, q) }

func cmpBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}
