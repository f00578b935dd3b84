package jet_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/jet"
)

// PERDURE_BENCH=events measures what events cost the process that stores them:
// a hundred a second for so long, followed by a reader as the rules are.
func TestWhatAHundredEventsASecondCost(t *testing.T) {
	if os.Getenv("PERDURE_BENCH") != "events" {
		t.Skip("PERDURE_BENCH=events measures it")
	}
	s := open(t, jet.Config{Dir: filepath.Join(t.TempDir(), "jet")})
	v := s.Events(jet.EventsConfig{}, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { _ = v.Run(ctx) }()
	read := make(chan int, 1)
	go func() {
		n := 0
		_ = v.Follow(ctx, 1, event.Matcher{}, func(jet.StoredEvent) error { n++; return nil })
		read <- n
	}()
	time.Sleep(time.Second)
	rest := cpu()
	time.Sleep(5 * time.Second)
	rest = cpu() - rest
	const seconds = 15
	before, began, n := cpu(), time.Now(), 0
	for tick := time.NewTicker(10 * time.Millisecond); time.Since(began) < seconds*time.Second; <-tick.C {
		n++
		v.Publish(event.New(event.MemberLagging, fmt.Sprintf("member/m%d", n%3+1), "m1 is behind by 12 transactions").With("behind", fmt.Sprint(n)))
	}
	if err := v.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	used := cpu() - before
	took := time.Since(began)
	time.Sleep(300 * time.Millisecond)
	stop()
	t.Logf("at rest %.2f %% of a core; %d events in %.1f s: %.2f %% of a core, %.0f us an event; a reader saw %d",
		100*rest.Seconds()/5, n, took.Seconds(), 100*used.Seconds()/took.Seconds(), 1e6*used.Seconds()/float64(n), <-read)
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
