package alarm

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestStep plays verdicts, one a second: 1 the condition holds, 0 it does not
// and the end is given, - it does not and the end is not given, ? data are
// missing, . it cannot be told. What comes out is the state after each second:
// O, A, N.
func TestStep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		rule      Rule
		in, want  string
		reminders int
	}{
		{"at once", Rule{}, "010", "OAO", 0},
		{"only after a while", Rule{For: lasts(2 * time.Second)}, "11100", "OOAOO", 0},
		{"a short spell is nothing", Rule{For: lasts(2 * time.Second)}, "110110", "OOOOOO", 0},
		{"it ends only after a while", Rule{Hold: lasts(2 * time.Second)}, "10100001", "AAAAAOOA", 0},
		{"between the limits it stays on", Rule{}, "1---0-", "AAAAOO", 0},
		{"between the limits it stays off", Rule{}, "0--1", "OOOA", 0},
		{"missing data are an alarm", Rule{For: lasts(time.Second)}, "0???00", "OONNOO", 0},
		{"missing data and the condition in turns", Rule{For: lasts(3 * time.Second)}, "1?1?11", "OOONNN", 0},
		{"data are back, between the limits", Rule{}, "?-", "NO", 0},
		{"an alarm loses its data", Rule{For: lasts(time.Second)}, "11???11", "OAANNNA", 0},
		{"missing data mean all is well", Rule{Missing: MissingOK}, "1??", "AOO", 0},
		{"missing data change nothing", Rule{Missing: MissingKeep}, "1??0??", "AAAOOO", 0},
		{"it cannot be told yet", Rule{}, "..1..0", "OOAAAO", 0},
		{"reminders", Rule{Repeat: lasts(2 * time.Second)}, "11111", "AAAAA", 2},
		{"no reminders", Rule{Repeat: lasts(0)}, "11111", "AAAAA", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.rule.Missing == "" {
				c.rule.Missing = MissingAlarm
			}
			var st Status
			var got strings.Builder
			reminders, changes := 0, uint64(0)
			for i, in := range c.in {
				s := map[rune]seen{'1': {when: yes}, '0': {when: no, clear: true}, '-': {when: no}, '?': {when: missing}, '.': {when: unsure}}[in]
				before := st.State
				var n news
				st, n = step(st, c.rule, s, t0.Add(time.Duration(i)*time.Second))
				got.WriteByte(st.State[0])
				if n == reminder {
					reminders++
				}
				if n != nothing {
					changes++
				}
				if (n == changed) != (before != st.State && !(before == "" && st.State == OK)) {
					t.Errorf("second %d: from %s to %s, told %v", i, before, st.State, n)
				}
			}
			if got.String() != c.want || reminders != c.reminders || st.Serial != changes {
				t.Errorf("states %s with %d reminders, want %s with %d; serial %d, %d changes", &got, reminders, c.want, c.reminders, st.Serial, changes)
			}
		})
	}
}

func TestAnAcknowledgedAlarmRemindsNobodyAndEndsWithTheAlarm(t *testing.T) {
	t.Parallel()
	r := Rule{Repeat: lasts(time.Second)}
	st, _ := step(Status{}, r, seen{when: yes}, t0)
	st.Acked = &Ack{Who: "anna"}
	st, n := step(st, r, seen{when: yes}, t0.Add(time.Hour))
	if n != nothing {
		t.Error("it reminded")
	}
	st, _ = step(st, r, seen{when: no, clear: true}, t0.Add(2*time.Hour))
	if st.Acked != nil {
		t.Error("the acknowledgement outlives the alarm")
	}
}

// A certificate that cannot be read must not hide behind another that can.
func TestOneOfSeveralThatIsNotKnownIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	reg := prometheus.NewRegistry()
	reg.MustRegister(Host{Dirs: []string{dir, dir + "/nothing"}, Certificates: []string{dir + "/none.crt"}})
	s := samples{names: map[string]bool{"perdure_disk_free_ratio": true, "perdure_certificate_expires_seconds": true}}
	s.take(reg, time.Now())
	var gone *missingError
	if v, err := s.lowest("perdure_disk_free_ratio"); !errors.As(err, &gone) || !strings.Contains(err.Error(), dir+"/nothing") {
		t.Errorf("with a directory that is not there: %v, %v", v, err)
	}
	if v, err := s.lowest("perdure_disk_free_ratio", map[string]any{"path": dir}); err != nil || v <= 0 || v > 1 {
		t.Errorf("of the one that is there: %v, %v", v, err)
	}
	if s.known("perdure_certificate_expires_seconds") {
		t.Error("a certificate that cannot be read is known")
	}
}
