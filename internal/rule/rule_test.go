package rule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stream is a Source in memory. What is published is in it at once.
type stream struct {
	mu         sync.Mutex
	generation string
	first      uint64
	events     []event.Event
	changed    chan struct{}
}

func newStream() *stream { return &stream{generation: "g", first: 1, changed: make(chan struct{})} }

func (s *stream) Publish(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) Range(context.Context) (event.Range, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return event.Range{Generation: s.generation, First: s.first, Last: uint64(len(s.events))}, nil
}

func (s *stream) Read(ctx context.Context, from uint64) ([]event.Stored, error) {
	for {
		s.mu.Lock()
		var out []event.Stored
		for i := max(from, s.first); i <= uint64(len(s.events)) && len(out) < 100; i++ {
			out = append(out, event.Stored{Sequence: i, Event: s.events[i-1]})
		}
		changed := s.changed
		s.mu.Unlock()
		if len(out) > 0 {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
		}
	}
}

func (s *stream) kinds(prefix string) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if strings.HasPrefix(string(e.Kind), prefix) {
			out = append(out, string(e.Kind))
		}
	}
	return out
}

// target takes what it is given, unless it is told otherwise.
type target struct {
	mu    sync.Mutex
	took  []string // texts
	ids   map[string]int
	calls int
	fail  func(e event.Event) error
	slow  time.Duration
	now   int // at work
	most  int
}

func (g *target) Attempt(ctx context.Context, id string, attempt int, e event.Event) (string, error) {
	g.mu.Lock()
	g.calls++
	g.now++
	g.most = max(g.most, g.now)
	fail, slow := g.fail, g.slow
	g.mu.Unlock()
	defer func() { g.mu.Lock(); g.now--; g.mu.Unlock() }()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	if fail != nil {
		if err := fail(e); err != nil {
			return "no", err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.took = append(g.took, e.Text)
	if g.ids == nil {
		g.ids = map[string]int{}
	}
	g.ids[id]++
	return fmt.Sprintf("taken at attempt %d", attempt), nil
}

func (g *target) set(fail func(event.Event) error) { g.mu.Lock(); defer g.mu.Unlock(); g.fail = fail }

func (g *target) got() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.took...)
}

var errAway = errors.New("it is away")

func away(event.Event) error { return errAway }

type world struct {
	stream *stream
	store  *state.Memory
	ops    *target
	dns    *target
	other  *target
	epoch  int64
}

func newWorld() *world {
	w := &world{stream: newStream(), store: state.NewMemory(), ops: &target{}, dns: &target{}, other: &target{}, epoch: 1}
	w.store.SetTerm("lead", 1)
	return w
}

func (w *world) rules(t *testing.T, rules ...Rule) *Rules {
	t.Helper()
	if len(rules) == 0 {
		rules = []Rule{{Name: "all", Match: event.Matcher{Kinds: []string{"member.*"}}, Notify: []string{"ops"}, Hooks: []string{"dns", "other"}, Flap: Flap{Limit: 10000}}}
	}
	epoch := w.epoch
	r, err := New(Needs{
		Rules: rules, Channels: map[string]Place{"ops": {Target: w.ops}},
		Hooks: map[string]Place{"dns": {Target: w.dns, Policy: Policy{Attempts: 3, Timeout: 10 * time.Second}}, "other": {Target: w.other, Policy: Policy{Attempts: 3}}},
		Node:  fmt.Sprintf("n%d", epoch), Cluster: "shop", Store: w.store, Source: w.stream, To: w.stream,
		Hold: func(ctx context.Context) (context.Context, state.Fence, error) {
			return ctx, state.Fence{Lease: "lead", Epoch: epoch}, ctx.Err()
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func run(t *testing.T, r *Rules) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() { cancel(); <-done }
}

func after(d time.Duration) { time.Sleep(d); synctest.Wait() }

func (w *world) publish(kind event.Kind, member, text string) event.Event {
	e := event.New(kind, "member/"+member, text)
	w.stream.Publish(e)
	return e
}

func TestAnEventReachesItsChannelAndItsHooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := w.rules(t)
		stop := run(t, r)
		w.publish(event.MemberCrashed, "m1", "one")
		w.stream.Publish(w.publish(event.MemberCrashed, "m1", "two")) // the same event again
		after(time.Second)
		for name, g := range map[string]*target{"ops": w.ops, "dns": w.dns, "other": w.other} {
			if got := fmt.Sprint(g.got()); got != "[one two]" {
				t.Errorf("%s got %s", name, got)
			}
		}
		tasks, err := r.Tasks(t.Context(), "notify/ops", Done, 10)
		if err != nil || len(tasks) != 2 || tasks[0].Receipt != "taken at attempt 1" || len(tasks[0].Log) != 1 || tasks[0].Log[0].Node != "n1" {
			t.Errorf("receipts %+v, %v", tasks, err)
		}
		if got := fmt.Sprint(w.stream.kinds("hook.")); got != "[hook.done hook.done hook.done hook.done]" {
			t.Errorf("told of hooks: %s", got)
		}
		stop()
		stop = run(t, w.rules(t)) // nothing is brought again
		after(time.Minute)
		stop()
		if got := len(w.ops.got()); got != 2 {
			t.Errorf("%d messages after a restart", got)
		}
	})
}

func TestAReceiverThatIsDownForAMinuteGetsItAllInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.ops.set(away)
		r := w.rules(t)
		stop := run(t, r)
		defer stop()
		for i := range 100 {
			w.publish(event.MemberCrashed, fmt.Sprintf("m%d", i%3), fmt.Sprintf("%03d", i))
		}
		after(time.Minute)
		calls := w.ops.calls
		if len(w.ops.got()) != 0 || calls > 15 {
			t.Errorf("%d attempts in a minute at a receiver that is down", calls)
		}
		if len(w.dns.got()) != 100 {
			t.Errorf("the hook ran %d times meanwhile", len(w.dns.got()))
		}
		w.ops.set(nil)
		begin := time.Now()
		for len(w.ops.got()) < 100 && time.Since(begin) < 2*time.Minute {
			after(100 * time.Millisecond)
		}
		t.Logf("%d attempts while down; all there %s after it was back", calls, time.Since(begin))
		last := map[string]string{}
		for _, text := range w.ops.got() {
			n, _ := strconv.Atoi(text)
			member := fmt.Sprint(n % 3)
			if text <= last[member] {
				t.Errorf("%s came after %s", text, last[member])
			}
			last[member] = text
		}
		if len(w.ops.got()) != 100 || time.Since(begin) > 40*time.Second {
			t.Errorf("%d of 100 after %s", len(w.ops.got()), time.Since(begin))
		}
	})
}

func TestOneBadMessageDoesNotKeepTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.ops.set(func(e event.Event) error {
			if e.Text == "bad" {
				return errAway
			}
			return nil
		})
		stop := run(t, w.rules(t))
		defer stop()
		w.publish(event.MemberCrashed, "m1", "bad")
		for i := range 50 {
			w.publish(event.MemberCrashed, "m2", fmt.Sprint(i))
		}
		after(30 * time.Second)
		if got := len(w.ops.got()); got != 50 {
			t.Errorf("%d of 50 got through beside a bad one", got)
		}
	})
}

func TestHooksRunOneAtATimeAndEndWithTheDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.dns.slow, w.other.slow = time.Second, time.Second
		shared := &target{slow: time.Second}
		w.dns, w.other = shared, shared
		r := w.rules(t)
		stop := run(t, r)
		defer stop()
		for i := range 5 {
			w.publish(event.MemberCrashed, "m1", fmt.Sprint(i))
		}
		after(15 * time.Second)
		if shared.most != 1 || len(shared.got()) != 10 {
			t.Errorf("%d at once, %d ran", shared.most, len(shared.got()))
		}
		if len(w.ops.got()) != 5 {
			t.Errorf("the channel waited for the hooks: %d messages", len(w.ops.got()))
		}

		shared.slow = time.Hour // it hangs
		w.publish(event.MemberExpelled, "m2", "hang")
		after(5 * time.Minute)
		dead, err := r.Tasks(t.Context(), "hook/dns", Dead, 10)
		if err != nil || len(dead) != 1 || dead[0].Attempts != 3 || !strings.Contains(dead[0].Log[2].Error, "no answer within 10s") {
			t.Errorf("dead letters %+v, %v", dead, err)
		}
		if kinds := strings.Join(w.stream.kinds("hook."), " "); !strings.Contains(kinds, "hook.failed hook.failed") || !strings.Contains(kinds, "hook.dead") {
			t.Errorf("told %s", kinds)
		}
		shared.slow = 0
		if err := r.Redrive(t.Context(), dead[0].ID); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		if got := shared.got(); got[len(got)-1] != "hang" {
			t.Errorf("redriven: %v", got)
		}
		if err := r.Redrive(t.Context(), dead[0].ID); err == nil {
			t.Error("redrove what is done")
		}
		if err := r.Discard(t.Context(), dead[0].ID); err != nil {
			t.Error(err)
		}
		if err := r.Discard(t.Context(), dead[0].ID); !errors.Is(err, ErrNoTask) {
			t.Errorf("discarded twice: %v", err)
		}
	})
}

type finalError string

func (e finalError) Error() string { return string(e) }
func (e finalError) Final() string { return string(e) }

func TestATargetsWordIsFinal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.ops.set(func(event.Event) error { return finalError("dead") })
		w.dns.set(func(event.Event) error { return finalError("skipped") })
		w.other.set(func(event.Event) error { panic("oh") })
		r := w.rules(t)
		stop := run(t, r)
		defer stop()
		w.publish(event.MemberCrashed, "m1", "x")
		after(5 * time.Minute)
		for target, want := range map[string]State{"notify/ops": Dead, "hook/dns": Skipped, "hook/other": Dead} {
			tasks, err := r.Tasks(t.Context(), target, "", 1)
			if err != nil || len(tasks) != 1 || tasks[0].State != want {
				t.Errorf("%s: %+v, %v", target, tasks, err)
			}
		}
		if w.ops.calls != 1 || w.dns.calls != 1 || w.other.calls != 3 {
			t.Errorf("attempts %d, %d, %d", w.ops.calls, w.dns.calls, w.other.calls)
		}
	})
}

// TestNothingIsLostWhenNodesComeAndGo ends the leader again and again, at any
// moment, also in the middle of attempts and writes.
func TestNothingIsLostWhenNodesComeAndGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.ops.slow = 3 * time.Millisecond
		w.dns.slow = 2 * time.Millisecond
		const n = 120
		for i := range n {
			w.publish(event.MemberCrashed, fmt.Sprintf("m%d", i%5), fmt.Sprintf("%04d", i))
		}
		for round := range 40 {
			w.epoch++
			w.store.SetTerm("lead", w.epoch)
			stop := run(t, w.rules(t))
			time.Sleep(time.Duration(7+round*13%60) * time.Millisecond)
			stop()
		}
		w.epoch++
		w.store.SetTerm("lead", w.epoch)
		stop := run(t, w.rules(t))
		after(time.Minute)
		stop()
		seen, again := map[string]bool{}, 0
		last := map[string]string{}
		for _, text := range w.ops.got() {
			if seen[text] {
				again++
				continue
			}
			seen[text] = true
			i, _ := strconv.Atoi(text)
			member := fmt.Sprint(i % 5)
			if text <= last[member] {
				t.Errorf("%s after %s", text, last[member])
			}
			last[member] = text
		}
		t.Logf("%d events, 41 leaders: %d brought, %d of them twice", n, len(seen), again)
		if len(seen) != n || again > 41 {
			t.Errorf("%d of %d, %d twice", len(seen), n, again)
		}
	})
}

func TestAThousandFlapsThroughTheWholeMachine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := w.rules(t, Rule{Name: "all", Match: event.Matcher{Kinds: []string{"member.*"}}, Notify: []string{"ops"}, Hooks: []string{"dns"}})
		stop := run(t, r)
		defer stop()
		for i := range 1000 {
			w.publish([]event.Kind{event.MemberSuspect, event.MemberRecovered}[i%2], "m1", fmt.Sprint(i))
			time.Sleep(500 * time.Millisecond)
		}
		after(time.Minute)
		if got := w.ops.got(); len(got) != 21 || !strings.Contains(got[20], "changes often") {
			t.Errorf("%d messages: %s", len(got), got[len(got)-1])
		}
		after(20 * time.Minute)
		if got := w.ops.got(); len(got) != 22 || !strings.Contains(got[21], "980 messages were held back") {
			t.Errorf("%d messages: %s", len(got), got[len(got)-1])
		}
		if got := w.dns.got(); len(got) != 21 || got[20] != "999" {
			t.Errorf("the hook ran %d times, last for %s", len(got), got[len(got)-1])
		}
	})
}

func TestSilencesAreHeededAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := w.rules(t)
		stop := run(t, r)
		defer stop()
		s, err := r.Silence(t.Context(), Silence{Match: event.Matcher{Members: []string{"m1"}}, Until: time.Now().Add(time.Hour), Who: "anna", Why: "work"})
		if err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		w.publish(event.MemberCrashed, "m1", "silent")
		after(2 * time.Second)
		if len(w.ops.got()) != 0 || len(w.dns.got()) != 1 {
			t.Errorf("messages %v, hook runs %v", w.ops.got(), w.dns.got())
		}
		if h, err := r.Hushed(t.Context()); err != nil || h[s.ID] != 1 {
			t.Errorf("counted %v, %v", h, err)
		}
		if err := r.Unsilence(t.Context(), s.ID, "bert"); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		w.publish(event.MemberCrashed, "m1", "loud")
		after(time.Second)
		if got := fmt.Sprint(w.ops.got()); got != "[loud]" {
			t.Errorf("messages %s", got)
		}
		if _, err := r.Silence(t.Context(), Silence{Until: time.Now().Add(-time.Hour), Who: "x"}); err == nil {
			t.Error("a silence in the past was taken")
		}
	})
}

func TestATestReachesTheChannelWithoutATask(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r := w.rules(t)
	got, err := r.Test(t.Context(), "ops", "anna")
	if err != nil || got.Error != "" || got.Receipt == "" || len(w.ops.got()) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	w.ops.set(away)
	if got, err := r.Test(t.Context(), "ops", "anna"); err != nil || got.Error != errAway.Error() {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := r.Test(t.Context(), "nobody", "anna"); !errors.Is(err, ErrNoTarget) {
		t.Error(err)
	}
	if tasks, _ := r.Tasks(t.Context(), "", "", 10); len(tasks) != 0 {
		t.Errorf("tasks %+v", tasks)
	}
}

func TestAStreamThatWasMadeAnewIsReadFromItsBeginning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		stop := run(t, w.rules(t))
		for i := range 5 {
			w.publish(event.MemberCrashed, "m1", fmt.Sprint(i))
		}
		after(2 * time.Second)
		stop()
		w.stream = newStream()
		w.stream.generation = "h"
		w.publish(event.MemberCrashed, "m1", "new")
		stop = run(t, w.rules(t))
		after(2 * time.Second)
		stop()
		if got := w.ops.got(); got[len(got)-1] != "new" {
			t.Errorf("got %v", got)
		}
	})
}

func TestRemovedEventsAreMissedAloud(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		stop := run(t, w.rules(t))
		w.publish(event.MemberCrashed, "m1", "0")
		after(2 * time.Second)
		stop()
		for i := range 9 {
			w.publish(event.MemberCrashed, "m1", fmt.Sprint(i+1))
		}
		w.stream.first = 8
		stop = run(t, w.rules(t))
		after(2 * time.Second)
		stop()
		if got := w.stream.kinds("events."); len(got) != 1 {
			t.Errorf("told %v", got)
		}
	})
}
