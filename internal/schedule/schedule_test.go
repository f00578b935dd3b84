package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/state"
)

// stage is a store, an action, and what was told.
type stage struct {
	mu     sync.Mutex
	store  *state.Memory
	begun  []string
	events []string
	refuse error
}

func (s *stage) act(_ context.Context, name string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return "", s.refuse
	}
	s.begun = append(s.begun, time.Now().UTC().Format("02 15:04"))
	return fmt.Sprintf("%s %d", name, len(s.begun)), nil
}

func (s *stage) Publish(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, string(e.Kind))
}

func (s *stage) setRefuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

func (s *stage) seen() (begun, events string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.begun, ", "), strings.Join(s.events, ", ")
}

// node runs a scheduler that leads from now until stop is called.
func (s *stage) node(t *testing.T, e ...Entry) (x *Scheduler, stop func()) {
	t.Helper()
	x, err := New(Needs{
		Entries: e, Actions: map[string]Action{Consistency: s.act, Restart: s.act}, Node: "n", Store: s.store,
		Hold: func(ctx context.Context) (context.Context, state.Fence, error) { return ctx, state.Fence{}, ctx.Err() },
		To:   s, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	return x, func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	}
}

// The clock of a synctest begins at midnight, UTC, of 1 January 2000.

func TestSomethingBeginsAtItsTimesAndNotTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{store: state.NewMemory()}
		e := Entry{Name: "nightly", Do: Consistency, At: "0 3 * * *"}
		_, stop := s.node(t, e)
		time.Sleep(27*time.Hour + 10*time.Second)
		stop()
		_, stop = s.node(t, e) // another node, ten seconds after the second time
		time.Sleep(24 * time.Hour)
		stop()
		if begun, events := s.seen(); begun != "01 03:00, 02 03:00, 03 03:00" || events != "schedule.began, schedule.began, schedule.began" {
			t.Errorf("begun at %s; %s", begun, events)
		}
	})
}

func TestAMissedTimeIsSkippedOrMadeUpForAsTheEntrySays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{store: state.NewMemory()}
		skip, later := Entry{Name: "skip", Do: Consistency, At: "0 3 * * *"}, Entry{Name: "later", Do: Restart, At: "0 3 * * *", Missed: Later}
		_, stop := s.node(t, skip, later)
		time.Sleep(time.Hour)
		stop()
		time.Sleep(2*time.Hour + 40*time.Minute) // nobody leads at three
		x, stop := s.node(t, skip, later)
		time.Sleep(time.Minute)
		all, err := x.List(t.Context())
		if err != nil || all[0].Result != Missed || all[1].Result != Began || !strings.Contains(all[1].Text, "40m0s late") || all[0].Next.Day() != 2 {
			t.Errorf("%+v, %v", all, err)
		}
		stop()
		if begun, events := s.seen(); begun != "01 03:40" || events != "schedule.missed, schedule.began" {
			t.Errorf("begun at %s; %s", begun, events)
		}
	})
}

func TestWhatIsRefusedIsToldOnceAndTriedAgainOnlyByThoseThatMakeUpForIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{store: state.NewMemory()}
		s.setRefuse(plan.Refuse("wait", "another plan is running: upgrade"))
		_, stop := s.node(t, Entry{Name: "skip", Do: Consistency, At: "0 3 * * *"}, Entry{Name: "later", Do: Restart, At: "0 3 * * *", Missed: Later})
		time.Sleep(3*time.Hour + 20*time.Minute)
		if begun, events := s.seen(); begun != "" || events != "schedule.refused, schedule.refused" {
			t.Errorf("begun at %s; %s", begun, events)
		}
		s.setRefuse(nil)
		time.Sleep(2 * time.Minute)
		if begun, _ := s.seen(); !strings.HasPrefix(begun, "01 03:2") || strings.Contains(begun, ",") {
			t.Errorf("begun at %s", begun)
		}
		s.setRefuse(errors.New("it rains"))
		time.Sleep(25 * time.Hour)
		stop()
		if _, events := s.seen(); events != "schedule.refused, schedule.refused, schedule.began, schedule.failed, schedule.failed, schedule.missed" {
			t.Error(events)
		}
	})
}

func TestANodeThatEndsWhileItBeginsLeavesATimeThatIsNotBegunAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{store: state.NewMemory()}
		e := Entry{Name: "later", Do: Restart, At: "0 3 * * *", Missed: Later}
		began := time.Now()
		x, stop := s.node(t, e)
		stop()
		if err := x.put(t.Context(), state.Fence{}, e, past{Same: e.same(), Dealt: began, Trying: began.Add(3 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3*time.Hour + time.Second)
		x, stop = s.node(t, e)
		time.Sleep(time.Hour)
		all, err := x.List(t.Context())
		stop()
		if begun, events := s.seen(); begun != "" || events != "schedule.missed" || err != nil || all[0].Result != Unknown {
			t.Errorf("begun at %s; %s; %+v, %v", begun, events, all, err)
		}
	})
}

func TestAnEntryThatWasChangedMakesUpForNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{store: state.NewMemory()}
		_, stop := s.node(t, Entry{Name: "a", Do: Restart, At: "0 3 * * *", Missed: Later})
		time.Sleep(time.Hour)
		stop()
		time.Sleep(2*time.Hour + 30*time.Minute)
		_, stop = s.node(t, Entry{Name: "a", Do: Restart, At: "0 2 * * *", Missed: Later}, Entry{Name: "new", Do: Restart, At: "15 3 * * *", Missed: Later})
		time.Sleep(10 * time.Minute)
		stop()
		if begun, events := s.seen(); begun+events != "" {
			t.Errorf("begun at %s; %s", begun, events)
		}
	})
}
