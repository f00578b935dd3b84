package group

import (
	"testing"
	"time"
	"unsafe"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/topology"
)

// jumped is a moment as a host tells it after somebody set its clock: another
// wall clock, and a monotonic one that went on. Package time gives no way to make
// one; the layout is checked by its effect.
func jumped(t *testing.T, at time.Time, by time.Duration) time.Time {
	t.Helper()
	const secondsAt = 30 // wall: 1 bit "has a monotonic part", 33 bits of seconds, 30 of nanoseconds
	to := at
	*(*uint64)(unsafe.Pointer(&to)) += uint64(by/time.Second) << secondsAt //nolint:gosec // see above
	if to.Sub(at) != 0 || to.Round(0).Sub(at.Round(0)) != by {
		t.Skip("this version of Go keeps its times otherwise")
	}
	return to
}

// The clock of the node's host jumps by an hour, either way, between what was
// seen and what is decided: nothing else is decided than without.
func TestAClockThatJumpsDecidesNothing(t *testing.T) {
	t.Parallel()
	now := time.Now()
	whole := func() *patient {
		p := newPatient()
		p.now = now
		for i := range p.v.Members {
			m := &p.v.Members[i]
			m.Since, m.Heard = now.Add(-time.Minute), now.Add(-200*time.Millisecond)
		}
		return p
	}
	for _, c := range []struct {
		name  string
		p     *patient
		tried history
	}{
		{name: "a whole group", p: whole()},
		{name: "silent for a second", p: whole().is("m3", topology.Suspect, time.Second, silentFor(time.Second))},
		{name: "suspected by the group, silent for a moment", p: whole().is("m3", topology.Unreachable, 0, silentFor(time.Second)).listed("m3", "UNREACHABLE")},
		{name: "left a moment ago", p: whole().is("m3", topology.Offline, time.Second)},
		{name: "out a moment ago", p: whole().is("m3", topology.Offline, time.Second).listed("m3", "")},
		{name: "in error a moment ago", p: whole().is("m3", topology.Error, time.Second).listed("m3", "")},
		{name: "nobody in a group a moment ago", p: whole().quorum(topology.NoGroup).
			is("m1", topology.Offline, time.Second).is("m2", topology.Offline, time.Second).is("m3", topology.Offline, time.Second)},
		{name: "the majority lost a moment ago", p: whole().quorum(topology.LostQuorum).
			is("m2", topology.Unreachable, time.Second, noListener).is("m3", topology.Unreachable, time.Second, noListener).
			listed("m2", "UNREACHABLE").listed("m3", "UNREACHABLE")},
		{
			name: "a remedy failed a moment ago", p: whole().is("m3", topology.Offline, time.Minute).listed("m3", ""),
			tried: history{"m3": {failed: 1, last: now.Add(-time.Second)}},
		},
	} {
		for _, by := range []time.Duration{time.Hour, -time.Hour} {
			if got := heal(c.p.c, &c.p.v, c.tried, jumped(t, now, by)); got.Do != Nothing {
				t.Errorf("%s, and the clock jumps by %s: %+v", c.name, by, got)
			}
		}
	}
}

// The same for what is believed about a member.
func TestAClockThatJumpsMakesNobodySuspect(t *testing.T) {
	t.Parallel()
	now := time.Now()
	var obs []topology.Observation
	var peers []topology.Peer
	for _, n := range []string{"m1", "m2", "m3"} {
		peers = append(peers, topology.Peer{UUID: n, State: "ONLINE", Role: topology.Primary})
	}
	for _, p := range peers {
		obs = append(obs, topology.Observation{
			Instance: topology.Instance{Name: p.UUID}, Heard: now.Add(-300 * time.Millisecond), Asked: now.Add(-310 * time.Millisecond),
			Report: &topology.Report{UUID: p.UUID, GroupName: "g", Peers: peers, Executed: gtid.MustParse(lineageA)},
		})
	}
	before := topology.Judge(topology.View{}, now.Add(-100*time.Millisecond), topology.Expect{Group: "g"}, obs)
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		v := topology.Judge(before, jumped(t, now, by), topology.Expect{Group: "g"}, obs)
		if len(v.In(topology.Online)) != 3 || v.Quorum != topology.HasQuorum {
			t.Errorf("the clock jumps by %s: quorum %s, members %+v", by, v.Quorum, v.Members)
		}
	}
}

// Whether a server was restarted is told by its uptime and the node's monotonic
// clock: a wall clock that jumps in between makes no restart, and hides none.
func TestAServerWasRestartedWhateverTheClockSays(t *testing.T) {
	t.Parallel()
	was := life{uptime: 100 * time.Second, at: time.Now()}
	for _, c := range []struct {
		name   string
		after  time.Duration // since it was asked
		uptime time.Duration
		want   bool
	}{
		{"it goes on", 5 * time.Second, 105 * time.Second, false},
		{"it goes on, and its answer was on its way for a moment", 5 * time.Second, 103 * time.Second, false},
		{"heard before it was asked to restart", -time.Second, 100 * time.Second, false},
		{"restarted at once", 5 * time.Second, 2 * time.Second, true},
		{"restarted, and looked at only when it is older than it was", 250 * time.Second, 240 * time.Second, true},
		{"an old server, seen late", time.Hour, time.Hour + 100*time.Second, false},
	} {
		for _, by := range []time.Duration{0, time.Hour, -time.Hour} {
			x := seen("m1", topology.Offline, "", "")
			x.Report.Uptime = c.uptime
			x.Heard = jumped(t, was.at.Add(c.after), by)
			if got := was.restarted(x); got != c.want {
				t.Errorf("%s, and the clock jumps by %s: restarted %v", c.name, by, got)
			}
		}
	}
	if was.restarted(seen("m1", topology.Down, "", "")) {
		t.Error("a server that is down was not restarted yet")
	}
}

// What another node noted about a server is of use, though its clock is not.
func TestALifeIsReadFromTheJournal(t *testing.T) {
	t.Parallel()
	was, err := livedUntil(map[string]string{"uptime": "1m40s"})
	if err != nil || was.uptime != 100*time.Second {
		t.Fatal(was, err)
	}
	for uptime, want := range map[time.Duration]bool{99 * time.Second: true, 100 * time.Second: false, 500 * time.Second: false} {
		x := seen("m1", topology.Offline, "", "")
		x.Report.Uptime, x.Heard = uptime, time.Now()
		if got := was.restarted(x); got != want {
			t.Errorf("%s old: restarted %v", uptime, got)
		}
	}
	if _, err := livedUntil(map[string]string{"version": "9.7.4"}); err == nil {
		t.Error("a journal without it was believed")
	}
}
