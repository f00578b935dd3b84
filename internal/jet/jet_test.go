package jet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/queue"
)

func open(t *testing.T, cfg jet.Config) *jet.Server {
	t.Helper()
	s, err := jet.Open(t.Context(), cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func quiet() *slog.Logger {
	if os.Getenv("PERDURE_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

func openLog(t *testing.T, s *jet.Server, cfg jet.LogConfig) *jet.Log {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	l, err := s.OpenLog(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func appendAll(t *testing.T, l *jet.Log, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		seq, err := l.Append(t.Context(), frame(i))
		if err != nil {
			t.Fatal(err)
		}
		if seq != uint64(i) {
			t.Fatalf("frame %d is at %d", i, seq)
		}
	}
}

func frame(i int) []byte { return fmt.Appendf(nil, "frame %d", i) }

// adder returns what appends frames with the next numbers, each of which has to
// be at its number. The last number is in n.
func adder(t *testing.T, n *int) func(l *jet.Log, count int) {
	return func(l *jet.Log, count int) {
		t.Helper()
		for range count {
			*n++
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			seq, err := l.Append(ctx, frame(*n))
			cancel()
			if err != nil || seq != uint64(*n) {
				t.Fatalf("frame %d is at %d: %v", *n, seq, err)
			}
		}
	}
}

func readAll(t *testing.T, l queue.Log, from, to uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for from <= to {
		entries, err := l.Read(ctx, from)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Seq != from || !bytes.Equal(e.Data, frame(int(from))) {
				t.Fatalf("at %d: %d %q", from, e.Seq, e.Data)
			}
			from++
		}
	}
}

func TestFramesComeBackInOrderAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, jet.Config{Dir: dir})
	l := openLog(t, s, jet.LogConfig{Name: "w"})
	appendAll(t, l, 1, 700)
	readAll(t, l, 1, 700)
	generation := l.Generation()
	s.Close()
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 && st.Mode().Perm() != 0o755 {
		t.Fatal(st.Mode(), err)
	}
	s = open(t, jet.Config{Dir: dir})
	l = openLog(t, s, jet.LogConfig{Name: "w", Expect: generation})
	readAll(t, l, 1, 700)
	appendAll(t, l, 701, 10)
	st, err := l.State(t.Context())
	if err != nil || st.First != 1 || st.Last != 710 || st.Generation != generation || st.Oldest.IsZero() {
		t.Fatalf("%+v %v", st, err)
	}
}

func TestAReaderIsWokenByAnAppend(t *testing.T) {
	t.Parallel()
	l := openLog(t, open(t, jet.Config{Dir: t.TempDir()}), jet.LogConfig{Name: "w"})
	var wg sync.WaitGroup
	wg.Go(func() { readAll(t, l, 1, 3) })
	appendAll(t, l, 1, 3)
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.Read(ctx, 4); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestTrimmedFramesAreSaidToBeTrimmed(t *testing.T) {
	t.Parallel()
	l := openLog(t, open(t, jet.Config{Dir: t.TempDir()}), jet.LogConfig{Name: "w"})
	appendAll(t, l, 1, 20)
	if err := l.Trim(t.Context(), 11); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Read(t.Context(), 5); !errors.Is(err, queue.ErrTrimmed) {
		t.Fatal(err)
	}
	readAll(t, l, 11, 20)
	if err := l.Trim(t.Context(), 21); err != nil {
		t.Fatal(err)
	}
	st, err := l.State(t.Context())
	if err != nil || st.First != 21 || st.Last != 20 {
		t.Fatalf("%+v %v", st, err)
	}
	appendAll(t, l, 21, 1)
}

func TestAFullLogRefusesAndKeepsWhatItHas(t *testing.T) {
	t.Parallel()
	l := openLog(t, open(t, jet.Config{Dir: t.TempDir()}), jet.LogConfig{Name: "w", MaxBytes: 1 << 20})
	big := make([]byte, 100<<10)
	n := uint64(0)
	for {
		seq, err := l.Append(t.Context(), big)
		if errors.Is(err, queue.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n = seq
	}
	st, err := l.State(t.Context())
	if err != nil || n < 5 || st.First != 1 || st.Last != n {
		t.Fatalf("%+v %v, acknowledged %d", st, err, n)
	}
	if err := l.Trim(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), big); err != nil {
		t.Fatal("after trimming:", err)
	}
}

func TestADiskWithoutReserveRefuses(t *testing.T) {
	t.Parallel()
	l := openLog(t, open(t, jet.Config{Dir: t.TempDir(), Reserve: 1 << 60}), jet.LogConfig{Name: "w"})
	if _, err := l.Append(t.Context(), frame(1)); !errors.Is(err, queue.ErrFull) {
		t.Fatal(err)
	}
}

func TestALogThatIsGoneOrReplacedIsNotTakenForTheOldOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, jet.Config{Dir: filepath.Join(dir, "a")})
	l := openLog(t, s, jet.LogConfig{Name: "w"})
	appendAll(t, l, 1, 1)
	fresh := open(t, jet.Config{Dir: filepath.Join(dir, "b")})
	if _, err := fresh.OpenLog(t.Context(), jet.LogConfig{Name: "w", Expect: l.Generation()}); !errors.Is(err, queue.ErrLost) {
		t.Fatal("a missing stream:", err)
	}
	other := openLog(t, fresh, jet.LogConfig{Name: "w"})
	if other.Generation() == l.Generation() {
		t.Fatal("two streams of one generation")
	}
	if _, err := fresh.OpenLog(t.Context(), jet.LogConfig{Name: "w", Expect: l.Generation()}); !errors.Is(err, queue.ErrLost) {
		t.Fatal("another stream:", err)
	}
}

func TestMistakesInTheConfigurationAreAllReported(t *testing.T) {
	t.Parallel()
	err := jet.Config{Dir: "relative", Cluster: &jet.Cluster{}}.Check()
	for _, want := range []string{"dir", "name", "cluster.name", "cluster.tls", "cluster.peers"} {
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
			t.Errorf("%s is missing in: %v", want, err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	s, err := jet.Open(b.Context(), jet.Config{Dir: b.TempDir()}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	l, err := s.OpenLog(b.Context(), jet.LogConfig{Name: "w"})
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 1024)
	for b.Loop() {
		if _, err := l.Append(b.Context(), body); err != nil {
			b.Fatal(err)
		}
	}
}
