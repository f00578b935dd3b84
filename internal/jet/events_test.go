package jet_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/jet"
)

// events runs a stream of events until the test ends or stop is called.
func events(t *testing.T, s *jet.Server, cfg jet.EventsConfig) (v *jet.Events, stop func()) {
	t.Helper()
	v = s.Events(cfg, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = v.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return v, stop
}

func numbered(subject string, n int) event.Event {
	return event.New(event.MemberSuspect, subject, strconv.Itoa(n))
}

func settle(t *testing.T, v *jet.Events) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := v.Settle(ctx); err != nil {
		t.Fatalf("not stored: %v", errors.Join(err, v.Trouble()))
	}
}

func TestEventsComeBackInOrderAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, jet.Config{Dir: dir})
	v, stop := events(t, s, jet.EventsConfig{})
	for i := range 600 {
		v.Publish(numbered(fmt.Sprintf("member/m%d", i%3+1), i))
	}
	settle(t, v)
	before, err := v.Range(t.Context())
	if err != nil || before.Last != 600 {
		t.Fatalf("range %+v, %v", before, err)
	}
	stop()
	s.Close()

	v, _ = events(t, open(t, jet.Config{Dir: dir}), jet.EventsConfig{})
	after, err := v.Range(t.Context())
	if err != nil || after.Generation != before.Generation || after.Last != 600 {
		t.Fatalf("after the restart %+v, %v; before %+v", after, err, before)
	}
	n := 0
	err = v.Follow(t.Context(), 1, event.Matcher{}, func(e jet.StoredEvent) error {
		if e.Event.Text != strconv.Itoa(n) {
			t.Errorf("at %d: %s", n, e.Event.Text)
		}
		if n++; n == 600 {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	last, err := v.List(t.Context(), jet.Query{Match: event.Matcher{Members: []string{"m2"}}, Limit: 5})
	if err != nil || len(last) != 5 || last[4].Event.Text != "598" || last[0].Event.Text != "586" {
		t.Errorf("the newest five of m2: %+v, %v", last, err)
	}
}

var errEnough = errors.New("enough")

func TestFollowersSeeAnEventSoon(t *testing.T) {
	t.Parallel()
	v, _ := events(t, open(t, jet.Config{Dir: t.TempDir()}), jet.EventsConfig{})
	r, err := v.Range(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const times = 3 // the machine may have other work when one of them comes
	seen := make(chan time.Duration, times)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = v.Follow(ctx, r.Last+1, event.Matcher{Kinds: []string{"member.*"}}, func(e jet.StoredEvent) error {
			seen <- time.Since(e.Event.Time)
			return nil
		})
	}()
	v.Publish(event.New(event.NodeStarted, "node/n1", "not asked for"))
	best := time.Hour
	for i := range times {
		v.Publish(numbered("member/m1", i))
		select {
		case d := <-seen:
			t.Logf("seen after %s", d)
			best = min(best, d)
		case <-time.After(10 * time.Second):
			t.Error("not seen")
		}
	}
	if best > time.Second {
		t.Errorf("seen after %s at best", best)
	}
	cancel()
	<-done
}

func TestOneEventIsStoredOnceHoweverOftenItIsPublished(t *testing.T) {
	t.Parallel()
	v, _ := events(t, open(t, jet.Config{Dir: t.TempDir()}), jet.EventsConfig{})
	e := numbered("member/m1", 1)
	for range 5 {
		v.Publish(e)
		settle(t, v)
	}
	if r, err := v.Range(t.Context()); err != nil || r.Last != 1 {
		t.Errorf("range %+v, %v", r, err)
	}
}

func TestPublishingDoesNotWaitForAStoreThatIsAway(t *testing.T) {
	t.Parallel()
	s := open(t, jet.Config{Dir: t.TempDir()})
	v := s.Events(jet.EventsConfig{Spool: 100}, slog.New(slog.DiscardHandler)) // nobody runs it
	begin := time.Now()
	for i := range 10_000 {
		v.Publish(numbered("member/m1", i))
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("10,000 events took %s", d)
	}
	if got := v.Spooled(); got.Waiting != 100 || got.Dropped != 9_900 {
		t.Errorf("spool %+v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if v.Settle(ctx) == nil {
		t.Error("what is not stored counts as settled")
	}
}

func TestOldEventsMakeRoom(t *testing.T) {
	t.Parallel()
	v, _ := events(t, open(t, jet.Config{Dir: t.TempDir()}), jet.EventsConfig{MaxBytes: 64 << 10})
	for i := range 400 {
		v.Publish(numbered("member/m1", i))
	}
	settle(t, v)
	r, err := v.Range(t.Context())
	if err != nil || r.First < 2 || r.Last != 400 || r.Bytes > 64<<10 {
		t.Fatalf("range %+v, %v", r, err)
	}
	found, err := v.Read(t.Context(), 1)
	if err != nil || found[0].Sequence != r.First {
		t.Errorf("reading what was removed begins at %d, %v; the oldest is %d", found[0].Sequence, err, r.First)
	}
}

func TestHugeEventsAreCutAndStored(t *testing.T) {
	t.Parallel()
	v, _ := events(t, open(t, jet.Config{Dir: t.TempDir()}), jet.EventsConfig{})
	e := numbered("member/"+strings.Repeat("m", 300)+"/ü .*>", 1).With("output", strings.Repeat("x", 1<<20))
	e.Text = strings.Repeat("y", 1<<20)
	v.Publish(e)
	settle(t, v)
	found, err := v.Read(t.Context(), 1)
	if err != nil || found[0].Event.ID != e.ID || len(found[0].Event.Text) > 2000 {
		t.Errorf("%v, %v", len(found), err)
	}
}

// TestAFullDiskDropsEventsAndNothingElse fills the file system of the store.
func TestAFullDiskDropsEventsAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("this process may not mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	s, err := jet.Open(t.Context(), jet.Config{Dir: filepath.Join(dir, "jet"), MaxStore: 40 << 20, Reserve: 8 << 20}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	v, stop := events(t, s, jet.EventsConfig{MaxBytes: 16 << 20, Spool: 50, AckTimeout: 300 * time.Millisecond})
	v.Publish(numbered("member/m1", 0))
	settle(t, v)

	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(chunk)
	}
	_ = f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	begin := time.Now()
	for i := 1; v.Trouble() == nil || i <= 200; i++ {
		v.Publish(numbered("member/m1", i))
		time.Sleep(5 * time.Millisecond) // the writer tries, again and again, on the full disk
		if i > 2000 {
			t.Fatal("the store took everything on a full disk")
		}
	}
	t.Logf("published for %s on a full disk: %+v, %v", time.Since(begin), v.Spooled(), v.Trouble())
	if got := v.Spooled(); got.Dropped == 0 || v.Trouble() == nil {
		t.Errorf("spool %+v, trouble %v", got, v.Trouble())
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	settle(t, v)
	if got := v.Spooled(); got.Waiting != 0 || v.Trouble() != nil {
		t.Errorf("with room again: %+v, %v", got, v.Trouble())
	}
	if found, err := v.Read(t.Context(), 1); err != nil || found[0].Event.Text != "0" || len(found) < 50 {
		t.Errorf("what was stored before, and the newest, are not there: %d events, %v", len(found), err)
	}
	stop()
	s.Close() // before the file system goes
}

// TestNoAcknowledgedEventIsLostByKill9 kills a process that publishes, again
// and again, and looks for every event it had been promised.
func TestNoAcknowledgedEventIsLostByKill9(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const rounds = 10
	promised := 0
	begin := time.Now()
	for round := range rounds {
		promised += publishAndDie(t, dir, round)
	}
	v, _ := events(t, open(t, jet.Config{Dir: dir}), jet.EventsConfig{})
	r, err := v.Range(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]int{} // by subject and round: the newest number
	found := 0
	for from := uint64(1); from <= r.Last; {
		page, err := v.Read(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range page {
			from = s.Sequence + 1
			n, _ := strconv.Atoi(s.Event.Text)
			key := s.Event.Subject + s.Event.Node
			if n != last[key]+1 {
				t.Fatalf("%s: event %d follows %d", key, n, last[key])
			}
			last[key] = n
			found++
		}
	}
	for round := range rounds {
		for subject, n := range acknowledged(t, dir, round) {
			if last[subject+strconv.Itoa(round)] < n {
				t.Errorf("round %d: %d events of %s were promised, %d are there", round, n, subject, last[subject+strconv.Itoa(round)])
			}
		}
	}
	t.Logf("%d rounds: %d events promised, %d there, in %s", rounds, promised, found, time.Since(begin).Round(time.Millisecond))
	if promised < rounds {
		t.Errorf("only %d events were promised in %d rounds", promised, rounds)
	}
}

func promiseFile(dir string, round int) string {
	return filepath.Join(dir, fmt.Sprintf("promised-%d", round))
}

// publishAndDie runs this test's program as a publisher and kills it.
func publishAndDie(t *testing.T, dir string, round int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestPublisherProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "PERDURE_TEST_EVENTS="+dir, "PERDURE_TEST_ROUND="+strconv.Itoa(round))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	promises, err := os.Create(promiseFile(dir, round))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = promises.Close() }()
	n := 0
	kill := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if promise, ok := strings.CutPrefix(lines.Text(), "promised "); ok {
			if n == 0 { // at work; it dies at another moment in every round
				kill.Reset(time.Duration(20+37*round%200) * time.Millisecond)
			}
			n++
			_, _ = fmt.Fprintln(promises, promise)
		}
	}
	_ = cmd.Wait()
	kill.Stop()
	return n
}

func acknowledged(t *testing.T, dir string, round int) map[string]int {
	t.Helper()
	b, err := os.ReadFile(promiseFile(dir, round))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for line := range strings.Lines(string(b)) {
		subject, n, _ := strings.Cut(strings.TrimSpace(line), " ")
		if out[subject], err = strconv.Atoi(n); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// TestPublisherProcess is the publisher that is killed.
func TestPublisherProcess(t *testing.T) {
	dir, round := os.Getenv("PERDURE_TEST_EVENTS"), os.Getenv("PERDURE_TEST_ROUND")
	if dir == "" {
		t.Skip("it is run by another test")
	}
	v, _ := events(t, open(t, jet.Config{Dir: dir}), jet.EventsConfig{})
	for n := 1; ; n++ {
		for _, subject := range []string{"member/m1", "member/m2", "group"} {
			e := numbered(subject, n)
			e.Node = round
			v.Publish(e)
		}
		settle(t, v)
		for _, subject := range []string{"member/m1", "member/m2", "group"} {
			fmt.Printf("promised %s %d\n", subject, n)
		}
	}
}

func BenchmarkPublish(b *testing.B) {
	s, err := jet.Open(b.Context(), jet.Config{Dir: b.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	v := s.Events(jet.EventsConfig{Spool: 1 << 20}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = v.Run(ctx) }()
	n := 0
	for b.Loop() {
		n++
		v.Publish(numbered("member/m1", n))
	}
	if err := v.Settle(b.Context()); err != nil {
		b.Fatal(err)
	}
	cancel()
	<-done
}
