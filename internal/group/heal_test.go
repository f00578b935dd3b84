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

func says(seconds int) func(*topology.Member) {
	return func(m *topology.Member) { m.Report.StatsPeriod = seconds }
}

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
			return whole().is("m3", topology.Offline, 5*time.Second, func(m *topology.Member) {
				m.Report.Executed = gtid.MustParse(lineageA + ",bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb:1")
			}).listed("m3", "")
		}(), do: Rebuild, member: "m3"},
		{name: "with transactions it received and nobody else has: rebuild", p: whole().is("m3", topology.Offline, 5*time.Second, func(m *topology.Member) {
			m.Report.Received = gtid.MustParse("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:11")
		}).listed("m3", ""), do: Rebuild, member: "m3"},
		{
			name: "failed because it cannot apply what the others did: rebuild, without a pause", p: whole().is("m3", topology.Error, time.Minute).listed("m3", ""),
			tried: history{"m3": {failed: 1, last: whole().now.Add(-time.Second), cause: Differs}}, do: Rebuild, member: "m3",
		},
		{name: "a server that does not let us in is for a human", p: whole().is("m3", topology.Suspect, 6*time.Second, func(m *topology.Member) {
			m.Failure = topology.Denied
		}), do: Ask, member: "m3"},
		{name: "recovering and getting nothing: taken out and let in anew", p: whole().is("m3", topology.Recovering, 16*time.Second, func(m *topology.Member) {
			m.Report.Recovery, m.Report.LastError = "CONNECTING", "Access denied"
		}).listed("m3", "RECOVERING"), do: Rejoin, member: "m3"},
		{name: "recovering and getting on: left alone", p: whole().is("m3", topology.Recovering, time.Hour, func(m *topology.Member) {
			m.Report.Recovery = "ON"
		}).listed("m3", "RECOVERING")},
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
			name: "aborted by a human: left to him", p: whole().is("m3", topology.Offline, time.Minute).listed("m3", ""),
			tried: history{"m3": {failed: 3, last: whole().now.Add(-time.Second), aborted: true}}, do: Ask, member: "m3",
		},
		{
			name:  "one that cannot be helped does not keep another from help",
			p:     whole().is("m2", topology.Offline, time.Hour).listed("m2", "").is("m3", topology.Offline, time.Hour).listed("m3", ""),
			tried: history{"m2": {failed: 3}}, do: Rejoin, member: "m3",
		},

		{name: "majority lost and proven down: go on without it", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Unreachable, 4*time.Second, noListener).is("m3", topology.Unreachable, 4*time.Second, noListener).
			listed("m2", "UNREACHABLE").listed("m3", "UNREACHABLE"), do: Force},
		{name: "majority lost, one is back, the other may follow: wait", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Offline, 4*time.Second).is("m3", topology.Unreachable, 14*time.Second, noListener).
			listed("m2", "UNREACHABLE").listed("m3", "UNREACHABLE")},
		{name: "majority lost, one is back, the other stays down: go on", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Offline, 4*time.Second).is("m3", topology.Unreachable, 15*time.Second, noListener).
			listed("m2", "UNREACHABLE").listed("m3", "UNREACHABLE"), do: Force},
		{name: "majority lost, one is back and has more, the other may follow: wait", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Offline, 4*time.Second, func(m *topology.Member) {
				m.Report.Executed = gtid.MustParse("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-12")
			}).is("m3", topology.Unreachable, 50*time.Second, noListener).
			listed("m2", "UNREACHABLE").listed("m3", "UNREACHABLE")},
		{name: "majority lost, one restarted and writable: a human", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Offline, 4*time.Second, func(m *topology.Member) { m.Report.SuperReadOnly = false }).is("m3", topology.Unreachable, 4*time.Second, noListener).
			listed("m2", "UNREACHABLE").listed("m3", "UNREACHABLE"), do: Ask},
		{name: "majority lost, and the rest still talks about its load: quiet", p: whole().quorum(topology.LostQuorum).
			is("m1", topology.Online, time.Hour, says(1)).is("m2", topology.Suspect, 0, noListener).is("m3", topology.Suspect, 0, noListener), do: Quiet},
		{name: "made quiet, and not noticed by the group yet: wait", p: whole().quorum(topology.LostQuorum).
			is("m1", topology.Online, time.Hour, says(quietPeriod)).is("m2", topology.Suspect, 0, noListener).is("m3", topology.Suspect, 0, noListener)},
		{name: "the majority is there and a member was made quiet: talk again", p: whole().is("m1", topology.Online, time.Hour, says(quietPeriod)), do: Talk},
		{name: "majority silent is no proof: a human", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Unreachable, time.Minute, silentFor(time.Minute)).is("m3", topology.Unreachable, time.Minute, noListener).
			listed("m2", "UNREACHABLE").listed("m3", "UNREACHABLE"), do: Ask},
		{name: "majority lost before the group noticed: wait", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Suspect, 4*time.Second, noListener).is("m3", topology.Suspect, 4*time.Second, noListener)},

		{name: "majority lost, all of it back and with more than the rest: start again together", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Offline, 4*time.Second, func(m *topology.Member) {
				m.Report.Executed = gtid.MustParse("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-12")
			}).is("m3", topology.Offline, 4*time.Second).
			listed("m2", "UNREACHABLE").listed("m3", "UNREACHABLE"), do: Regroup},
		{name: "majority lost, and a member beside it that a human stopped: it has no part in this", p: func() *patient {
			p := whole().quorum(topology.LostQuorum).is("m2", topology.Unreachable, 4*time.Second, noListener).is("m3", topology.Down, time.Hour, silentFor(time.Hour)).
				listed("m2", "UNREACHABLE").listed("m3", "")
			p.c = p.c.with("m3", func(k *Known) { k.Stopped = true })
			return p
		}(), do: Force},
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

func TestFailuresAreForgottenWhenTheyAreNoLongerTrue(t *testing.T) {
	t.Parallel()
	now := newPatient().now
	for _, c := range []struct {
		name   string
		p      *patient
		tried  string
		forgot bool
	}{
		{"the member is back", newPatient(), "m3", true},
		{"the group commits again", newPatient(), "", true},
		{"the member is still out", newPatient().is("m3", topology.Offline, time.Hour, func(m *topology.Member) { m.Report.Uptime = time.Hour }), "m3", false},
		{"its server was restarted since", newPatient().is("m3", topology.Offline, time.Hour, func(m *topology.Member) { m.Report.Uptime = time.Second }), "m3", true},
		{"the group is still gone", newPatient().quorum(topology.NoGroup), "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := history{c.tried: {failed: 3, last: now.Add(-time.Minute)}}
			h.settle(&c.p.v)
			if forgot := len(h) == 0; forgot != c.forgot {
				t.Errorf("forgotten: %v, want %v", forgot, c.forgot)
			}
		})
	}
}

func TestWhileAPlanRunsOnlyTheExpelTimeoutIsTouched(t *testing.T) {
	t.Parallel()
	p := newPatient().is("m3", topology.Unreachable, 0, noListener).listed("m3", "UNREACHABLE")
	if got := hurry(p.c, &p.v, p.now); got.Do != Expel {
		t.Errorf("a dead member: %+v", got)
	}
	p = newPatient().is("m3", topology.Offline, time.Hour).listed("m3", "")
	if got := hurry(p.c, &p.v, p.now); got.Do != Nothing {
		t.Errorf("a member that is out: %+v", got)
	}
}

// What servers of several versions wrote, each to be called by its name.
func TestCausesAreNamedByWhatServersSay(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]Cause{
		"Old incarnation found while trying to add node 127.0.0.1:33061 17189. Please stop the old node or wait for it to leave the group.": Incarnation,
		"This member has more executed transactions than those present in the group. Local transactions: a:1-3 > Group transactions: b:1-5": Diverged,
		"m3 has transactions the group does not have: a:1": Diverged,
		"Disk is full writing '/data/m3/relay-log.000003' (OS errno 28 - No space left on device). Waiting for someone to free space...":                                                                      Disk,
		"Worker 1 failed executing transaction 'x:7'; The table 't' is full":                                                                                                                                  Disk,
		"Error connecting to source 'perdure_recovery_3@127.0.0.1:3306'. This was attempt 1/1, with a delay of 60 seconds between attempts. Message: Access denied for user 'perdure_recovery_3'@'localhost'": Credentials,
		"Fatal error: Invalid (empty) username when attempting to connect to the source server. Connection attempt terminated.":                                                                               Credentials,
		"Got fatal error 1236 from source when reading data from binary log: 'Cannot replicate because the source purged required binary logs.'":                                                              Purged,
		"Member version is incompatible with the group": OldVersion,
		"The member configuration is not compatible with the group configuration. Variables such as group_replication_single_primary_mode or group_replication_enforce_update_everywhere_checks must have the same value on every server in the group.": Settings,
		"Worker 1 failed executing transaction 'x:7' at source log , end_log_pos 0; Could not execute Write_rows event on table story.t; Duplicate entry '1' for key 't.PRIMARY', Error_code: 1062":                                                     Differs,
		"Fatal error during execution on the Applier module of Group Replication.": Differs,
		"nothing in particular": Unclear,
	} {
		if got := diagnose(said); got != want {
			t.Errorf("%s\n got %q, want %q", said, got, want)
		}
	}
}

func TestOnlyAWholeGroupIsCalm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		v      topology.View
		asking string
		calm   bool
	}{
		{name: "all members are ONLINE", v: newPatient().v, calm: true},
		{name: "one is not", v: newPatient().is("m3", topology.Suspect, 0).v},
		{name: "a human is asked", v: newPatient().v, asking: "m3 has transactions of its own"},
		{name: "two groups", v: topology.View{Members: newPatient().v.Members, Problems: []topology.Problem{{Kind: topology.TwoGroups}}}},
		{name: "nobody is known yet"},
	} {
		if got := calm(&c.v, c.asking); got != c.calm {
			t.Errorf("%s: calm is %v", c.name, got)
		}
	}
}
