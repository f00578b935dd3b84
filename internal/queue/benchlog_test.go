package queue_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/queue"
)

// fileLog is the physical limit: one file, one flush per frame, nothing else.
type fileLog struct {
	mu sync.Mutex
	f  *os.File
	n  uint64
}

func (l *fileLog) Append(_ context.Context, b []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.f.Write(b); err != nil {
		return 0, err
	}
	l.n++
	return l.n, fdatasync(l.f)
}

func (l *fileLog) Read(context.Context, uint64) ([]queue.Entry, error) { return nil, queue.ErrTrimmed }

func (l *fileLog) State(context.Context) (queue.LogState, error) { return queue.LogState{}, nil }
func (l *fileLog) Trim(context.Context, uint64) error            { return nil }

type row struct {
	rate     float64
	p50, p99 time.Duration
}

// drive runs n clients one after the other's answer for d.
func drive(n int, d time.Duration, do func(client int) error) (row, error) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		all   []time.Duration
		fail  atomic.Pointer[error]
		start = time.Now()
	)
	for c := range n {
		wg.Go(func() {
			var mine []time.Duration
			for time.Since(start) < d {
				t := time.Now()
				if err := do(c); err != nil {
					fail.Store(&err)
					return
				}
				mine = append(mine, time.Since(t))
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if e := fail.Load(); e != nil {
		return row{}, *e
	}
	took := time.Since(start)
	slices.Sort(all)
	return row{float64(len(all)) / took.Seconds(), all[len(all)/2], all[len(all)*99/100]}, nil
}

// TestBenchLog compares ways to the disk in one interleaved run.
// PERDURE_BENCH=log go test ./internal/queue -run TestBenchLog -v
func TestBenchLog(t *testing.T) {
	if os.Getenv("PERDURE_BENCH") != "log" {
		t.Skip("set PERDURE_BENCH=log to measure")
	}
	ctx, cancel := context.WithCancel(t.Context())
	body := make([]byte, 1024)
	rand.Read(body)
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "wal"))
	if err != nil {
		t.Fatal(err)
	}
	srv, err := jet.Open(ctx, jet.Config{Dir: filepath.Join(dir, "js")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	lg, err := srv.OpenLog(ctx, jet.LogConfig{Name: "bench", MaxBytes: 20 << 30})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ways := map[string]func(int) error{}
	id := queue.NewID(time.Now())
	add := func(name string, l queue.Log, flights int) {
		g := queue.NewGather(l, flights)
		wg.Go(func() { _ = g.Run(ctx) })
		ways[name] = func(int) error { return g.Put(ctx, id, body, 1) }
	}
	add("file", &fileLog{f: f}, 1)
	for _, n := range []int{1, 2, 3, 4} {
		add("frames/"+strconv.Itoa(n), lg, n)
	}
	js, _ := jetstream.New(srv.Conn())
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "single", Subjects: []string{"single"}, AllowAtomicPublish: true, MaxBytes: 20 << 30})
	if err != nil {
		t.Fatal(err)
	}
	ways["message"] = func(int) error {
		m := nats.NewMsg("single")
		m.Data = body
		_, err := js.PublishMsg(ctx, m)
		return err
	}
	at := newAtomic(ctx, srv.Conn())
	wg.Go(at.run)
	ways["atomic"] = func(int) error { return at.put(body) }

	names := []string{"file", "message", "atomic", "frames/1", "frames/2", "frames/3", "frames/4"}
	for _, clients := range []int{1, 16, 128} {
		got := map[string][]row{}
		for range 3 {
			for _, n := range names {
				r, err := drive(clients, time.Second, ways[n])
				if err != nil {
					t.Fatal(n, err)
				}
				got[n] = append(got[n], r)
			}
		}
		for _, n := range names {
			slices.SortFunc(got[n], func(a, b row) int { return int(a.rate - b.rate) })
			m := got[n][1]
			fmt.Printf("%4d clients  %-10s %9.0f/s  p50 %-12v p99 %v\n", clients, n, m.rate, m.p50, m.p99)
		}
	}
	cancel()
	wg.Wait()
}

// atomic gathers requests into atomic batches of single messages, the way we did not take.
type atomicWay struct {
	ctx context.Context
	nc  *nats.Conn
	in  chan chan error
}

func newAtomic(ctx context.Context, nc *nats.Conn) *atomicWay {
	return &atomicWay{ctx, nc, make(chan chan error, 1024)}
}

var benchBody = make([]byte, 1100)

func (a *atomicWay) put([]byte) error {
	ch := make(chan error, 1)
	a.in <- ch
	return <-ch
}

func (a *atomicWay) run() {
	for {
		var all []chan error
		select {
		case <-a.ctx.Done():
			return
		case c := <-a.in:
			all = append(all, c)
		}
		for len(all) < 1000 && len(a.in) > 0 {
			all = append(all, <-a.in)
		}
		id := nuid.Next()
		var err error
		for i := range all {
			m := nats.NewMsg("single")
			m.Data = benchBody
			m.Header["Nats-Batch-Id"] = []string{id}
			m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
			m.Header["Nats-Msg-Id"] = []string{id + strconv.Itoa(i)}
			if i < len(all)-1 {
				a.nc.PublishMsg(m)
				continue
			}
			m.Header["Nats-Batch-Commit"] = []string{"1"}
			_, err = a.nc.RequestMsg(m, 5*time.Second)
		}
		for _, c := range all {
			c <- err
		}
	}
}
