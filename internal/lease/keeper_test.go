package lease

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perdure/perdure/internal/state"
)

var quiet = slog.New(slog.DiscardHandler)

// keep runs a Keeper until the function it returns is called.
func keep(t *testing.T, s state.Store, cfg Config) (*Keeper, func()) {
	t.Helper()
	k, err := New(s, cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := k.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v", err)
		}
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return k, stop
}

// hold waits until k leads, for at most that long.
func hold(t *testing.T, k *Keeper, limit time.Duration) (context.Context, Term) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	_, term, err := k.Hold(ctx)
	if err != nil {
		t.Fatalf("%s does not lead within %s: %v", k.cfg.Holder, limit, err)
	}
	held, again, err := k.Hold(t.Context())
	if err != nil || again.Epoch != term.Epoch {
		t.Fatalf("%s led in %d, now in %d, %v", k.cfg.Holder, term.Epoch, again.Epoch, err)
	}
	return held, term
}

func TestATermGoesOnForAsLongAsItsHolderLives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := state.NewMemory()
		a, _ := keep(t, s, Config{Holder: "a"})
		ctx, term := hold(t, a, time.Second)
		b, _ := keep(t, s, Config{Holder: "b"})
		for range 60 {
			time.Sleep(time.Minute)
			if now, ok := a.Term(); !ok || now.Epoch != term.Epoch || ctx.Err() != nil {
				t.Fatalf("a's term %d became %+v, %t, %v", term.Epoch, now, ok, context.Cause(ctx))
			}
			if _, ok := b.Term(); ok {
				t.Fatal("b leads too")
			}
		}
		if l := b.Leader(); l.Holder != "a" || time.Since(l.Seen) > 2*time.Second {
			t.Errorf("b believes that %+v leads", l)
		}
	})
}

func TestAReleasedLeaseIsTakenAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := state.NewMemory()
		a, stop := keep(t, s, Config{Holder: "a"})
		ctx, first := hold(t, a, time.Second)
		b, _ := keep(t, s, Config{Holder: "b"})
		synctest.Wait()
		stop()
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), ErrReleased) || !errors.Is(context.Cause(ctx), ErrOver) {
			t.Errorf("a's work ended with %v", context.Cause(ctx))
		}
		_, second := hold(t, b, time.Millisecond)
		if second.Epoch <= first.Epoch || second.Holder != "b" {
			t.Errorf("after %+v came %+v", first, second)
		}
		if _, err := s.Put(t.Context(), "doc", nil, 0, first.Fence()); !errors.Is(err, state.ErrStale) {
			t.Errorf("a change under a's term: %v", err)
		}
		if _, err := s.Put(t.Context(), "doc", nil, 0, second.Fence()); err != nil {
			t.Errorf("a change under b's term: %v", err)
		}
	})
}

func TestAHolderCutOffStopsBeforeAnotherBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := state.NewMemory()
		f := &faults{Store: s}
		a, _ := keep(t, f, Config{Holder: "a"})
		ctx, _ := hold(t, a, time.Second)
		b, _ := keep(t, s, Config{Holder: "b"})
		time.Sleep(10 * time.Second)

		f.cut.Store(true)
		cut := time.Now()
		<-ctx.Done()
		ended := time.Since(cut)
		if _, ok := a.Term(); ok || !errors.Is(context.Cause(ctx), ErrUnconfirmed) {
			t.Errorf("a's work ended with %v, its term is trusted: %t", context.Cause(ctx), ok)
		}
		if _, ok := b.Term(); ok {
			t.Error("b leads already")
		}
		hold(t, b, time.Minute)
		began := time.Since(cut)
		if ended >= began || began > 5*time.Second {
			t.Errorf("a stopped after %s, b began after %s", ended, began)
		}

		f.cut.Store(false)
		time.Sleep(10 * time.Second)
		if _, ok := a.Term(); ok {
			t.Error("a leads again while b holds the lease")
		}
	})
}

func TestAStoreThatComesBackInTimeKeepsTheEpoch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &faults{Store: state.NewMemory()}
		a, _ := keep(t, f, Config{Holder: "a"})
		ctx, term := hold(t, a, time.Second)
		f.cut.Store(true)
		<-ctx.Done()
		time.Sleep(time.Minute)
		f.cut.Store(false)
		if _, again := hold(t, a, time.Second); again.Epoch != term.Epoch {
			t.Errorf("epoch %d became %d though nobody else led", term.Epoch, again.Epoch)
		}
	})
}

func TestARestartedNodeReclaimsItsOwnTerm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &faults{Store: state.NewMemory()}
		a, stop := keep(t, f, Config{Holder: "a"})
		_, first := hold(t, a, time.Second)
		f.cut.Store(true) // so that it cannot give the lease back
		stop()
		f.cut.Store(false)

		again, _ := keep(t, f, Config{Holder: "a", Reclaim: true})
		if _, second := hold(t, again, time.Millisecond); second.Epoch <= first.Epoch {
			t.Errorf("after term %d came %d", first.Epoch, second.Epoch)
		}
	})
}

func TestHoldEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := state.NewMemory()
		a, _ := keep(t, s, Config{Holder: "a"})
		hold(t, a, time.Second)
		b, _ := keep(t, s, Config{Holder: "b"})
		why := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
		defer cancel()
		if _, _, err := b.Hold(ctx); !errors.Is(err, why) {
			t.Errorf("Hold ended with %v", err)
		}
		parent, end := context.WithCancelCause(t.Context())
		work, _, err := a.Hold(parent)
		if err != nil {
			t.Fatal(err)
		}
		end(why)
		synctest.Wait()
		if !errors.Is(context.Cause(work), why) {
			t.Errorf("the work ended with %v", context.Cause(work))
		}
	})
}

func TestALeaseNobodyCanReadEndsLikeAnyOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := state.NewMemory()
		if _, err := s.Put(t.Context(), state.LeaseKey("control"), []byte("?"), 0, state.Fence{}); err != nil {
			t.Fatal(err)
		}
		a, _ := keep(t, s, Config{Holder: "a"})
		began := time.Now()
		hold(t, a, time.Minute)
		if took := time.Since(began); took < 3*time.Second {
			t.Errorf("ended after %s", took)
		}
	})
}

func TestAKeeperNeedsAHolderAndASensibleTTL(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{}, {Holder: "a", TTL: time.Millisecond}} {
		if _, err := New(state.NewMemory(), cfg, quiet); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}
