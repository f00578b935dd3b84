package watch

import (
	"testing"
	"time"

	"github.com/perdure/perdure/internal/topology"
)

func TestSilenceWhileWeWereAwayIsNoEvidence(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.Unix(1000, 0).Add(time.Duration(ms) * time.Millisecond) }
	var a absences
	for _, c := range []struct {
		name             string
		now, heard, want int // milliseconds; want is how old the answer looks
	}{
		{"the first look", 0, 0, 0},
		{"an answer ages as time passes", 100, 0, 100},
		{"in the usual rhythm", 200, 0, 200},
		{"we were away for five seconds", 5200, 0, 200},
		{"from there it ages on", 5300, 0, 300},
		{"and away once more", 6200, 0, 300},
		{"what we heard in between was away once", 6300, 5250, 150},
		{"an answer since then is as old as it is", 6400, 6350, 50},
		{"a moment's delay is no absence", 6700, 6350, 350},
		{"silence while we listen counts", 7000, 0, 1100},
	} {
		obs := []topology.Observation{{Heard: at(c.heard)}, {}}
		a.excuse(at(c.now), obs)
		if got := at(c.now).Sub(obs[0].Heard); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("%s: it looks %s old, want %d ms", c.name, got, c.want)
		}
		if !obs[1].Heard.IsZero() {
			t.Errorf("%s: a server that was never heard was heard at %s", c.name, obs[1].Heard)
		}
	}
}
