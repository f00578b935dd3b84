package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/internal/state"
)

// faults is a Store behind a bad line.
type faults struct {
	state.Store
	cut atomic.Bool

	mu   sync.Mutex
	rand *rand.Rand // nil: no fault but cut
	late sync.WaitGroup
}

var errLost = errors.New("lost")

func (f *faults) Get(ctx context.Context, key string) (state.Entry, error) {
	if err := f.travel(ctx); err != nil {
		return state.Entry{}, err
	}
	e, err := f.Store.Get(ctx, key)
	return e, errors.Join(err, f.travel(ctx))
}

func (f *faults) Put(ctx context.Context, key string, v []byte, at state.Revision, fence state.Fence) (state.Revision, error) {
	return f.write(ctx, func(ctx context.Context) (state.Revision, error) {
		return f.Store.Put(ctx, key, v, at, fence)
	})
}

func (f *faults) Delete(ctx context.Context, key string, at state.Revision, fence state.Fence) error {
	_, err := f.write(ctx, func(ctx context.Context) (state.Revision, error) {
		return 0, f.Store.Delete(ctx, key, at, fence)
	})
	return err
}

// write may lose the request, its answer, or let it happen long after the
// caller has given up.
func (f *faults) write(ctx context.Context, do func(context.Context) (state.Revision, error)) (state.Revision, error) {
	if err := f.travel(ctx); err != nil {
		if !f.cut.Load() && f.dice(2) == 0 {
			f.late.Go(func() {
				time.Sleep(f.upTo(8 * time.Second))
				_, _ = do(context.Background())
			})
		}
		return 0, err
	}
	rev, err := do(ctx)
	if lost := f.travel(ctx); lost != nil {
		return 0, lost
	}
	return rev, err
}

// travel takes time, and sometimes longer than the caller waits.
func (f *faults) travel(ctx context.Context) error {
	delay := f.upTo(20 * time.Millisecond)
	if f.dice(20) == 0 {
		delay = f.upTo(3 * time.Second)
	}
	select {
	case <-ctx.Done():
		return errors.Join(state.ErrUnavailable, ctx.Err())
	case <-time.After(delay):
	}
	if f.cut.Load() || f.dice(20) == 0 {
		return errors.Join(state.ErrUnavailable, errLost)
	}
	return nil
}

func (f *faults) dice(sides int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rand == nil {
		return 1
	}
	return f.rand.IntN(sides)
}

func (f *faults) upTo(d time.Duration) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rand == nil {
		return 0
	}
	return time.Duration(f.rand.Int64N(int64(d)))
}

// Three nodes behind bad lines for half an hour, cut off now and then: whenever
// one of them trusts its term no other does, epochs grow, what is written
// under an older epoch is refused, and there is a leader most of the time.
func TestTwoNodesNeverTrustTheirTermsAtOneMoment(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { halfAnHour(t, seed) })
		})
	}
}

func halfAnHour(t *testing.T, seed uint64) {
	mem := state.NewMemory()
	dice := rand.New(rand.NewPCG(seed, 1))
	var keepers []*Keeper
	var lines []*faults
	var stops []func()
	for i, holder := range []string{"a", "b", "c"} {
		line := &faults{Store: mem, rand: rand.New(rand.NewPCG(seed, uint64(i)+2))}
		k, stop := keep(t, line, Config{Holder: holder})
		lines, keepers, stops = append(lines, line), append(keepers, k), append(stops, stop)
	}

	const tick = 10 * time.Millisecond
	var epochs []int64
	led, ticks := 0, 0
	for began := time.Now(); time.Since(began) < 30*time.Minute; ticks++ {
		time.Sleep(tick)
		if i := dice.IntN(len(lines)); dice.IntN(500) == 0 {
			lines[i].cut.Store(!lines[i].cut.Load())
		}
		term, leaders := leading(keepers)
		if len(leaders) > 1 {
			t.Fatalf("seed %d, after %s: %q lead", seed, time.Since(began), leaders)
		}
		if len(leaders) == 0 {
			continue
		}
		led++
		if last := len(epochs) - 1; last < 0 || epochs[last] != term.Epoch {
			epochs = append(epochs, term.Epoch)
		}
		fenced(t, mem, term, epochs)
	}
	for i := range stops {
		stops[i]()
		lines[i].late.Wait()
	}
	if !slices.IsSorted(epochs) || len(epochs) < 10 {
		t.Errorf("seed %d: epochs %v", seed, epochs)
	}
	if led*3 < ticks {
		t.Errorf("seed %d: somebody led in only %d of %d moments", seed, led, ticks)
	}
	t.Logf("seed %d: %d terms, led %d%% of the time", seed, len(epochs), led*100/ticks)
}

func leading(keepers []*Keeper) (term Term, holders []string) {
	for _, k := range keepers {
		if t, ok := k.Term(); ok {
			term, holders = t, append(holders, t.Holder)
		}
	}
	return term, holders
}

// fenced checks that the store obeys the trusted term and no earlier one.
func fenced(t *testing.T, s state.Store, now Term, epochs []int64) {
	t.Helper()
	if err := s.Delete(t.Context(), "nothing", 0, now.Fence()); err != nil {
		t.Fatalf("a change in the trusted term %d: %v", now.Epoch, err)
	}
	if len(epochs) < 2 {
		return
	}
	old := state.Fence{Lease: now.Name, Epoch: epochs[len(epochs)-2]}
	if err := s.Delete(t.Context(), "nothing", 0, old); !errors.Is(err, state.ErrStale) {
		t.Fatalf("a change in term %d during term %d: %v", old.Epoch, now.Epoch, err)
	}
}
