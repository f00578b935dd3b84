package group

import (
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/topology"
)

// patient is a cluster of three as healing sees it, in one moment.
type patient struct {
	now time.Time
	c   Cluster
	v   topology.View
}

func newPatient() *patient {
	p := &patient{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	p.c = Cluster{Name: "c", Group: "g", Spec: withDefaults(api.Group{})}
	p.v = topology.View{Quorum: topology.HasQuorum}
	var peers []topology.Peer
	for _, n := range []string{"m1", "m2", "m3"} {
		p.c = p.c.add(api.Member{Name: n, Address: n + ":3306"})
		peers = append(peers, topology.Peer{UUID: n, State: "ONLINE"})
		p.v.Members = append(p.v.Members, topology.Member{
			Instance: topology.Instance{Name: n}, UUID: n, State: topology.Online, Since: p.now.Add(-time.Hour), Heard: p.now,
		})
	}
	for i := range p.v.Members {
		p.v.Members[i].Report = &topology.Report{UUID: p.v.Members[i].Name, Peers: peers, ExpelTimeout: 5, Executed: gtid.MustParse(lineageA)}
	}
	return p
}

const (
	lineageA = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-10"
	lineageB = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-9:11"
)

// is puts one member into a state, some time ago.
func (p *patient) is(name string, s topology.State, ago time.Duration, edit ...func(*topology.Member)) *patient {
	for i := range p.v.Members {
		m := &p.v.Members[i]
		if m.Name != name {
			continue
		}
		m.State, m.Since = s, p.now.Add(-ago)
		r := *m.Report
		m.Report = &r
		if s != topology.Online && s != topology.Recovering {
			r.Peers, r.SuperReadOnly = nil, true
		}
		for _, e := range edit {
			e(m)
		}
	}
	return p
}

// listed is what the members in the group say about one member.
func (p *patient) listed(name, state string) *patient {
	for i := range p.v.Members {
		r := *p.v.Members[i].Report
		var peers []topology.Peer
		for _, x := range r.Peers {
			if x.UUID == name {
				if state == "" {
					continue
				}
				x.State = state
			}
			peers = append(peers, x)
		}
		r.Peers = peers
		p.v.Members[i].Report = &r
	}
	return p
}

func (p *patient) quorum(q topology.Quorum) *patient { p.v.Quorum = q; return p }

func noListener(m *topology.Member) { m.Failure = topology.Refused }

func silentFor(d time.Duration) func(*topology.Member) {
	return func(m *topology.Member) { m.Failure, m.Heard = topology.Silent, m.Heard.Add(-d) }
}

func TestHeal(t *testing.T) {
	t.Parallel()
	whole := newPatient
	for _, c := range []struct {
		name   string
		p      *patient
		tried  history
		do     Cure
		member string
	}{
		{name: "a whole group needs nothing", p: whole()},
		{name: "a stopped cluster is left alone", p: func() *patient {
			p := whole().quorum(topology.NoGroup)
			p.c.Stopped = true
			return p.is("m1", topology.Offline, time.Hour).is("m2", topology.Offline, time.Hour).is("m3", topology.Offline, time.Hour)
		}()},
		{name: "a killed member the group does not suspect yet is waited for", p: whole().is("m3", topology.Suspect, time.Second, noListener)},
		{name: "dead for us and for the group: expelled at once", p: whole().is("m3", topology.Unreachable, 0, noListener).listed("m3", "UNREACHABLE"), do: Expel},
		{name: "hung for us and for the group: expelled at once", p: whole().is("m3", topology.Unreachable, 0, silentFor(6*time.Second)).listed("m3", "UNREACHABLE"), do: Expel},
		{name: "unreachable for the group alone is one kind of evidence", p: whole().is("m3", topology.Unreachable, time.Minute).listed("m3", "UNREACHABLE")},
		{name: "silent for us for a moment is no evidence", p: whole().is("m3", topology.Unreachable, 0, silentFor(time.Second)).listed("m3", "UNREACHABLE")},
		{name: "once expelled, the timeout goes back", p: func() *patient {
			p := whole().is("m3", topology.Down, 0, noListener).listed("m3", "")
			for _, n := range []string{"m1", "m2"} {
				p.is(n, topology.Online, time.Hour, func(m *topology.Member) { m.Report.ExpelTimeout = 0 })
			}
			return p
		}(), do: Relax},
		{name: "back and expelled: rejoin", p: whole().is("m3", topology.Offline, 3*time.Second).listed("m3", ""), do: Rejoin, member: "m3"},
		{name: "back and not expelled yet: expelled at once", p: whole().is("m3", topology.Offline, 3*time.Second), do: Expel},
		{name: "just left and still listed: wait", p: whole().is("m3", topology.Offline, time.Second)},
		{name: "back a moment ago: wait", p: whole().is("m3", topology.Offline, time.Second).listed("m3", "")},
		{name: "stopped by a human: left out", p: func() *patient {
			p := whole().is("m3", topology.Offline, time.Hour).listed("m3", "")
			p.c = p.c.with("m3", func(k *Known) { k.Stopped = true })
			return p
		}()},
		{name: "in error for a moment may come back by itself", p: whole().is("m3", topology.Error, 5*time.Second).listed("m3", "")},
		{name: "in error for longer: rejoin", p: whole().is("m3", topology.Error, 13*time.Second).listed("m3", ""), do: Rejoin, member: "m3"},
		{name: "with transactions of its own: rebuild", p: func() *patient {
			p := whole().is("m3", topology.Offline, 5*time.Second).listed("m3", "")
			p.v.Problems = []topology.Problem{{Kind: topology.Errant, Members: []string{"m3"}, Text: "m3 has 1"}}
			return p
		}(), do: Rebuild, member: "m3"},
		{
			name: "failed once just now: wait", p: whole().is("m3", topology.Offline, time.Minute).listed("m3", ""),
			tried: history{"m3": {failed: 1, last: whole().now.Add(-10 * time.Second)}},
		},
		{
			name: "failed once a while ago: again", p: whole().is("m3", topology.Offline, time.Minute).listed("m3", ""),
			tried: history{"m3": {failed: 1, last: whole().now.Add(-21 * time.Second)}}, do: Rejoin, member: "m3",
		},
		{
			name: "failed three times: a human is asked", p: whole().is("m3", topology.Offline, time.Hour).listed("m3", ""),
			tried: history{"m3": {failed: 3, last: whole().now.Add(-time.Hour)}}, do: Ask, member: "m3",
		},
		{
			name:  "one that cannot be helped does not keep another from help",
			p:     whole().is("m2", topology.Offline, time.Hour).listed("m2", "").is("m3", topology.Offline, time.Hour).listed("m3", ""),
			tried: history{"m2": {failed: 3}}, do: Rejoin, member: "m3",
		},

		{name: "majority lost and proven down: go on without it", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Unreachable, 4*time.Second, noListener).is("m3", topology.Unreachable, 4*time.Second, noListener).
			listed("m2", "UNREACHABLE").listed("m3", "UNREACHABLE"), do: Force},
		{name: "majority lost, one restarted and read-only: go on", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Offline, 4*time.Second).is("m3", topology.Unreachable, 4*time.Second, noListener).
			listed("m2", "UNREACHABLE").listed("m3", "UNREACHABLE"), do: Force},
		{name: "majority lost, one restarted and writable: a human", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Offline, 4*time.Second, func(m *topology.Member) { m.Report.SuperReadOnly = false }).is("m3", topology.Unreachable, 4*time.Second, noListener).
			listed("m2", "UNREACHABLE").listed("m3", "UNREACHABLE"), do: Ask},
		{name: "majority silent is no proof: a human", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Unreachable, time.Minute, silentFor(time.Minute)).is("m3", topology.Unreachable, time.Minute, noListener).
			listed("m2", "UNREACHABLE").listed("m3", "UNREACHABLE"), do: Ask},
		{name: "majority lost before the group noticed: wait", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Suspect, 4*time.Second, noListener).is("m3", topology.Suspect, 4*time.Second, noListener)},

		{name: "total outage, everybody answers: start again", p: whole().quorum(topology.NoGroup).
			is("m1", topology.Offline, 6*time.Second).is("m2", topology.Offline, 6*time.Second).is("m3", topology.Offline, 6*time.Second), do: Restart},
		{name: "total outage, one still comes up: wait", p: whole().quorum(topology.NoGroup).
			is("m1", topology.Offline, 6*time.Second).is("m2", topology.Offline, 6*time.Second).is("m3", topology.Offline, time.Second)},
		{name: "total outage, one is down: a human", p: whole().quorum(topology.NoGroup).
			is("m1", topology.Offline, time.Minute).is("m2", topology.Offline, time.Minute).is("m3", topology.Down, time.Minute, noListener), do: Ask},
		{name: "everybody in error: the lineage of the majority goes on", p: whole().quorum(topology.NoGroup).
			is("m1", topology.Error, 6*time.Second).
			is("m2", topology.Error, 6*time.Second, func(m *topology.Member) { m.Report.Executed = gtid.MustParse(lineageB) }).
			is("m3", topology.Error, 6*time.Second), do: Recover, member: "m1"},
		{name: "unsure is no reason to act", p: whole().quorum(topology.Unsure).is("m2", topology.Down, time.Hour, noListener).is("m3", topology.Down, time.Hour, noListener)},
		{name: "two groups are for a human", p: func() *patient {
			p := whole().is("m3", topology.Isolated, time.Hour)
			p.v.Problems = []topology.Problem{{Kind: topology.TwoGroups}}
			return p
		}(), do: Ask},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := heal(c.p.c, &c.p.v, c.tried, c.p.now)
			if got.Do != c.do || (c.member != "" && got.Member != c.member) {
				t.Errorf("got %+v, want %q %s", got, c.do, c.member)
			}
			if got.Do != Nothing && got.Why == "" {
				t.Error("a remedy without a reason")
			}
		})
	}
}

func TestAMemberGivenUpComesBackAsACopyIfItHasMore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, held, has string
		do              Cure
	}{
		{"it has what the others held", lineageA, lineageA, Rejoin},
		{"it has less", lineageA, "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-8", Rejoin},
		{"it has more, under numbers the group used again", "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-9", lineageA, Rebuild},
		{"what was held cannot be read", "?", lineageA, Rebuild},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPatient().is("m3", topology.Offline, 5*time.Second, func(m *topology.Member) { m.Report.Executed = gtid.MustParse(c.has) }).listed("m3", "")
			p.c = p.c.with("m3", func(k *Known) { k.GivenUp = c.held })
			if got := heal(p.c, &p.v, nil, p.now); got.Do != c.do || got.Member != "m3" {
				t.Errorf("got %+v, want %s", got, c.do)
			}
		})
	}
}
