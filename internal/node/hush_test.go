package node

import (
	"testing"
	"time"

	"github.com/perdure/perdure/internal/topology"
)

func TestHush(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	view := func(q topology.Quorum, s topology.State, f topology.Failure, since time.Duration, listed bool) *topology.View {
		peers := []topology.Peer{{UUID: "m1", State: "ONLINE"}, {UUID: "m2", State: "ONLINE"}}
		if listed {
			peers = append(peers, topology.Peer{UUID: "m3", State: "ONLINE"})
		}
		v := &topology.View{Quorum: q}
		for _, n := range []string{"m1", "m2", "m3"} {
			m := topology.Member{Instance: topology.Instance{Name: n}, UUID: n, State: topology.Online, Heard: now, Report: &topology.Report{UUID: n, Peers: peers}}
			if n == "m3" {
				m.State, m.Failure, m.Since, m.Heard = s, f, now.Add(-since), now.Add(-since)
			}
			v.Members = append(v.Members, m)
		}
		return v
	}
	yes := topology.HasQuorum
	for _, c := range []struct {
		name  string
		view  *topology.View
		stuck int
		h     hushed
		want  string
	}{
		{name: "a whole group", view: view(yes, topology.Online, "", 400*time.Millisecond, true), stuck: 100},
		{name: "nobody listens there, and the group counts on it", view: view(yes, topology.Suspect, topology.Refused, time.Second, true), want: "m3"},
		{name: "for a moment only", view: view(yes, topology.Suspect, topology.Refused, 0, true)},
		{name: "silent, and others are stuck", view: view(yes, topology.Suspect, topology.Silent, time.Second, true), stuck: 8, want: "m3"},
		{name: "silent, and writers get through: it is us who do not reach it", view: view(yes, topology.Suspect, topology.Silent, time.Minute, true), stuck: 7},
		{name: "silent for a moment longer than usual, and others are stuck", view: view(yes, topology.Online, "", silentFor, true), stuck: 8, want: "m3"},
		{name: "left in good order a moment ago, and others are at work", view: view(yes, topology.Offline, "", time.Second, true), stuck: 7},
		{name: "without majority it helps nobody", view: view(topology.LostQuorum, topology.Unreachable, topology.Refused, time.Second, true)},
		{name: "expelled", view: view(yes, topology.Down, topology.Refused, 0, false), h: hushed{member: "m3", since: now.Add(-7 * time.Second)}},
		{name: "restarted, and still to be expelled", view: view(yes, topology.Offline, "", 0, true), h: hushed{member: "m3", since: now.Add(-5 * time.Second)}, want: "m3"},
		{name: "too long", view: view(yes, topology.Unreachable, topology.Refused, 9*time.Second, true), h: hushed{member: "m3", since: now.Add(-hushMost)}},
		{
			name: "not again for the same loss", view: view(yes, topology.Unreachable, topology.Refused, time.Minute, true),
			h: hushed{spent: map[string]bool{"m3": true}},
		},
		{name: "it answers again: a stall", view: view(yes, topology.Online, "", 0, true), h: hushed{member: "m3", since: now.Add(-time.Second)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.h.spent == nil {
				c.h.spent = map[string]bool{}
			}
			if got := hush(c.view, func(string) int { return c.stuck }, &c.h, now); got != c.want {
				t.Errorf("clients wait for %q, want %q", got, c.want)
			}
		})
	}
}

func TestOneLooksAgainBeforeAMemberCountsAsAway(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	heard := func(ago ...time.Duration) *topology.View {
		v := &topology.View{}
		for _, d := range ago {
			v.Members = append(v.Members, topology.Member{State: topology.Online, Heard: now.Add(-d)})
		}
		return v
	}
	away := heard(0, 0)
	away.Members[1].State = topology.Suspect
	for _, c := range []struct {
		name string
		v    *topology.View
		h    hushed
		want time.Duration
	}{
		{name: "all were heard of just now", v: heard(0, 0), want: silentFor},
		{name: "one was heard of a while ago", v: heard(0, silentFor-200*time.Millisecond), want: 200 * time.Millisecond},
		{name: "one is about to count as away", v: heard(0, silentFor-time.Millisecond), want: hushLook},
		{name: "one is away", v: away, want: hushLook},
		{name: "clients wait", v: heard(0), h: hushed{member: "m3"}, want: hushLook},
		{name: "nobody is known", v: heard(), want: hushRest},
	} {
		if got := rests(c.v, &c.h, now); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
