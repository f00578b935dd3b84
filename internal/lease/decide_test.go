package lease

import (
	"testing"
	"time"

	"github.com/perdure/perdure/internal/state"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	theirs := document{Holder: "n2", Token: "T2", TTL: "4s"}
	old := document{Holder: "n1", Token: "T0", TTL: "4s"}

	for name, c := range map[string]struct {
		cfg   Config
		token string
		sight sight
		want  act
		until time.Time
	}{
		"nobody holds the lease: take it": {
			want: take, until: now,
		},
		"another was seen renewing a moment ago: wait for the rest of its TTL": {
			sight: sight{5, ago(time.Second), theirs}, want: wait, until: now.Add(3 * time.Second),
		},
		"another has been silent for its whole TTL: end its term": {
			sight: sight{5, ago(4 * time.Second), theirs}, want: end, until: now,
		},
		"another's TTL is longer than ours: it counts": {
			sight: sight{5, ago(5 * time.Second), document{Holder: "n2", TTL: "9s"}}, want: wait, until: now.Add(4 * time.Second),
		},
		"the document says nothing about its TTL: ours counts": {
			sight: sight{5, ago(time.Second), document{}}, want: wait, until: now.Add(2 * time.Second),
		},
		"an attempt of ours that had no answer: it is ours": {
			token: "T2", sight: sight{5, now, theirs}, want: own, until: now,
		},
		"our name from an earlier process: wait like for any other": {
			sight: sight{5, now, old}, want: wait, until: now.Add(4 * time.Second),
		},
		"our name from an earlier process that is surely dead: end its term": {
			cfg: Config{Reclaim: true}, sight: sight{5, now, old}, want: end, until: now,
		},
		"another's name, with reclaim: wait": {
			cfg: Config{Reclaim: true}, sight: sight{5, now, theirs}, want: wait, until: now.Add(4 * time.Second),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.cfg.Holder = "n1"
			got, until := decide(now, c.cfg.withDefaults(), c.token, c.sight)
			if got != c.want || !until.Equal(c.until) {
				t.Errorf("%s in %s, want %s in %s", got, until.Sub(now), c.want, c.until.Sub(now))
			}
		})
	}
}

func TestTheClockOfASilentHolderStartsWhenItsRevisionIsFirstSeen(t *testing.T) {
	t.Parallel()
	now := time.Now()
	first := look(now, sight{}, 7, document{Token: "T"})
	again := look(now.Add(time.Second), first, 7, document{Token: "T"})
	if !again.Since.Equal(now) {
		t.Errorf("the same revision began to count anew after %s", again.Since.Sub(now))
	}
	renewed := look(now.Add(2*time.Second), again, state.Revision(8), document{Token: "T"})
	if got := renewed.Since.Sub(now); got != 2*time.Second {
		t.Errorf("a renewal seen after 2s counts from %s", got)
	}
}

func TestTheWindowEndsBeforeOthersMayBegin(t *testing.T) {
	t.Parallel()
	cfg := Config{}.withDefaults()
	sent := time.Now()
	w := opened(sent, cfg)
	if got := w.until.Sub(sent); got != cfg.TTL-cfg.margin() || got >= cfg.TTL {
		t.Fatalf("the window is %s wide with a TTL of %s", got, cfg.TTL)
	}
	jumped := w
	jumped.wall = w.wall.Add(-time.Hour) // as if the wall clock had gone an hour ahead
	for name, c := range map[string]struct {
		w    window
		at   time.Duration
		want bool
	}{
		"just sent":                           {w, 0, true},
		"just before the end":                 {w, cfg.TTL - cfg.margin() - 1, true},
		"at the end":                          {w, cfg.TTL - cfg.margin(), false},
		"the wall clock says it has passed":   {jumped, 0, false},
		"the zero window was never confirmed": {window{}, 0, false},
	} {
		if got := c.w.holds(sent.Add(c.at)); got != c.want {
			t.Errorf("%s: holds is %t", name, got)
		}
	}
}
