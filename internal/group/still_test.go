package group

import (
	"testing"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/topology"
)

func TestAMemberStandsStillWhenOthersHaveMoreAndItDoesNotMove(t *testing.T) {
	t.Parallel()
	p := newPatient()
	pulses := map[string]pulse{}
	at := func(after time.Duration, m3 string) int {
		for i, set := range []string{lineageA, lineageA, m3} {
			p.is(p.v.Members[i].Name, topology.Online, time.Hour, func(m *topology.Member) { m.Report.Executed = gtid.MustParse(set) })
		}
		return len(standsStill(pulses, &p.v, p.now.Add(after)))
	}
	const five, six = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-5", "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-6"
	for _, c := range []struct {
		name  string
		after time.Duration
		m3    string
		want  int
	}{
		{"all are equal", 0, lineageA, 0},
		{"equal for long: nothing is written", time.Hour, lineageA, 0},
		{"m3 is behind", time.Hour, five, 0},
		{"and moves", time.Hour + 20*time.Second, six, 0},
		{"and stands still for a while", time.Hour + 30*time.Second, six, 0},
		{"and for too long", time.Hour + 36*time.Second, six, 1},
		{"and has caught up", time.Hour + 37*time.Second, lineageA, 0},
	} {
		if got := at(c.after, c.m3); got != c.want {
			t.Errorf("%s: %d stand still, want %d", c.name, got, c.want)
		}
	}
}

func TestAQuestionIsTheSameHoweverLongItHasBeenSo(t *testing.T) {
	t.Parallel()
	const a = "m2 is UNREACHABLE: it has not answered for 9.3s; m3 failed 3 times"
	for b, same := range map[string]bool{
		"m2 is UNREACHABLE: it has not answered for 1m12s; m3 failed 3 times": true,
		"m2 is UNREACHABLE: it has not answered for 300ms; m3 failed 3 times": true,
		"m1 is UNREACHABLE: it has not answered for 9.3s; m3 failed 3 times":  false,
		"m2 is UNREACHABLE: it has not answered for 9.3s; m3 failed 10 times": false,
		"m2 is UNREACHABLE: it has not answered for 9.3s; m33 failed 3 times": false,
	} {
		if got := subject(a) == subject(b); got != same {
			t.Errorf("%s: %q, the same: %v", b, subject(b), got)
		}
	}
}
