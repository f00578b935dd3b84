package statetest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/perdure/perdure/internal/state"
)

func lifeOfADocument(t *testing.T, s state.Store, p string) {
	key := p + "doc"
	if e := get(t, s, key); e.Revision != 0 || e.Value != nil {
		t.Fatalf("a missing document is %+v", e)
	}
	first := put(t, s, key, "one", 0)
	if e := get(t, s, key); e.Key != key || string(e.Value) != "one" || e.Revision != first || first == 0 {
		t.Fatalf("after creation at %d: %+v", first, e)
	}
	second := put(t, s, key, "two", first)
	if e := get(t, s, key); string(e.Value) != "two" || e.Revision != second || second <= first {
		t.Fatalf("after the change from %d to %d: %+v", first, second, e)
	}
	remove(t, s, key, second)
	if e := get(t, s, key); e.Revision != 0 || e.Value != nil {
		t.Fatalf("after deletion: %+v", e)
	}
}

func conflict(t *testing.T, s state.Store, p string) {
	key := p + "doc"
	first := put(t, s, key, "one", 0)
	second := put(t, s, key, "two", first)
	for _, old := range []state.Revision{0, first, second + 1000} {
		if _, err := s.Put(t.Context(), key, []byte("lost"), old, state.Fence{}); !errors.Is(err, state.ErrConflict) {
			t.Errorf("put from %d: %v", old, err)
		}
		if err := s.Delete(t.Context(), key, old, state.Fence{}); !errors.Is(err, state.ErrConflict) {
			t.Errorf("delete from %d: %v", old, err)
		}
	}
	if _, err := s.Put(t.Context(), p+"other", []byte("lost"), second, state.Fence{}); !errors.Is(err, state.ErrConflict) {
		t.Errorf("put to a missing document: %v", err)
	}
	if e := get(t, s, key); string(e.Value) != "two" || e.Revision != second {
		t.Errorf("a refused change left %+v", e)
	}
}

func oneWinner(t *testing.T, s state.Store, p string) {
	key := p + "doc"
	rev := put(t, s, key, "start", 0)
	var wg sync.WaitGroup
	wins := make(chan struct{}, 16)
	for range 16 {
		wg.Go(func() {
			switch _, err := s.Put(t.Context(), key, []byte("mine"), rev, state.Fence{}); {
			case err == nil:
				wins <- struct{}{}
			case !errors.Is(err, state.ErrConflict):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(wins) != 1 {
		t.Errorf("%d writers won", len(wins))
	}
}

func recreate(t *testing.T, s state.Store, p string) {
	key := p + "doc"
	var last state.Revision
	for range 3 {
		rev := put(t, s, key, "again", 0)
		if rev <= last {
			t.Fatalf("revision %d came after %d", rev, last)
		}
		last = rev
		remove(t, s, key, rev)
	}
}

func list(t *testing.T, s state.Store, p string) {
	for _, k := range []string{"plans/b", "plans/a", "plans/a/1", "plan", "planset", "z"} {
		put(t, s, p+k, k, 0)
	}
	var keys []string
	for _, e := range must(t, func(ctx context.Context) ([]state.Entry, error) { return s.List(ctx, p+"plans/") }) {
		keys = append(keys, e.Key[len(p):])
		if string(e.Value) != e.Key[len(p):] || e.Revision == 0 {
			t.Errorf("listed %+v", e)
		}
	}
	if want := []string{"plans/a", "plans/a/1", "plans/b"}; !equal(keys, want) {
		t.Errorf("listed %q, want %q", keys, want)
	}
	none := must(t, func(ctx context.Context) ([]state.Entry, error) { return s.List(ctx, p+"nothing/") })
	if len(none) != 0 {
		t.Errorf("an empty prefix lists %+v", none)
	}
}

func equal(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func ownBytes(t *testing.T, s state.Store, p string) {
	key := p + "doc"
	mine := []byte("one")
	if _, err := s.Put(t.Context(), key, mine, 0, state.Fence{}); err != nil {
		t.Fatal(err)
	}
	mine[0] = 'X'
	e := get(t, s, key)
	e.Value[1] = 'X'
	if e := get(t, s, key); string(e.Value) != "one" {
		t.Errorf("an edit by a caller reached the store: %q", e.Value)
	}
}

func emptyValue(t *testing.T, s state.Store, p string) {
	key := p + "doc"
	rev := put(t, s, key, "", 0)
	if e := get(t, s, key); e.Revision != rev || len(e.Value) != 0 {
		t.Errorf("got %+v", e)
	}
}

func large(t *testing.T, s state.Store, p string) {
	big := bytes.Repeat([]byte("0123456789abcdef"), state.MaxDocument/16)
	rev := put(t, s, p+"doc", string(big), 0)
	if e := get(t, s, p+"doc"); !bytes.Equal(e.Value, big) {
		t.Errorf("%d bytes came back as %d", len(big), len(e.Value))
	}
	big = append(big, 'x')
	if _, err := s.Put(t.Context(), p+"doc", big, rev, state.Fence{}); !errors.Is(err, state.ErrTooLarge) {
		t.Errorf("one byte more: %v", err)
	}
}

func finishedContext(t *testing.T, s state.Store, p string) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Put(ctx, p+"doc", []byte("x"), 0, state.Fence{}); err == nil {
		t.Error("put succeeded")
	}
	if _, err := s.Get(ctx, p+"doc"); err == nil {
		t.Error("get succeeded")
	}
	if _, err := s.List(ctx, p); err == nil {
		t.Error("list succeeded")
	}
	if err := s.Delete(ctx, p+"doc", 0, state.Fence{}); err == nil {
		t.Error("delete succeeded")
	}
	if e := get(t, s, p+"doc"); e.Revision != 0 {
		t.Errorf("the document exists: %+v", e)
	}
}

func counting(t *testing.T, s state.Store, p string) {
	type counter struct{ N int }
	doc := state.NewDoc[counter](s, p+"counter")
	const writers, times = 4, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range times {
				if _, err := doc.Change(t.Context(), state.Fence{}, func(c *counter) error { c.N++; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if c, _, err := doc.Get(t.Context()); err != nil || c.N != writers*times {
		t.Errorf("counted %d of %d, %v", c.N, writers*times, err)
	}
}
