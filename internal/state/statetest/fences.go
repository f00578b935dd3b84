package statetest

import (
	"errors"
	"testing"

	"github.com/perdure/perdure/internal/state"
)

// take begins a term of a lease named after the test's prefix.
func take(t *testing.T, s state.Store, p string) (state.Fence, state.Revision) {
	t.Helper()
	rev := put(t, s, state.LeaseKey(p+"lease"), "holder", 0)
	return state.Fence{Lease: p + "lease", Epoch: int64(rev)}, rev
}

func fence(t *testing.T, s state.Store, p string) {
	key := p + "doc"
	old, held := take(t, s, p)
	rev, err := s.Put(t.Context(), key, []byte("by the first"), 0, old)
	if err != nil {
		t.Fatalf("put in the first term: %v", err)
	}

	held = put(t, s, state.LeaseKey(p+"lease"), "holder, still", held)
	if rev, err = s.Put(t.Context(), key, []byte("after a renewal"), rev, old); err != nil {
		t.Fatalf("put after a renewal of the lease: %v", err)
	}

	remove(t, s, state.LeaseKey(p+"lease"), held)
	refused := func(when string) {
		t.Helper()
		if _, err := s.Put(t.Context(), key, []byte("too late"), rev, old); !errors.Is(err, state.ErrStale) {
			t.Errorf("put %s: %v", when, err)
		}
		if err := s.Delete(t.Context(), key, rev, old); !errors.Is(err, state.ErrStale) {
			t.Errorf("delete %s: %v", when, err)
		}
	}
	refused("with the lease given back")

	now, _ := take(t, s, p)
	if now.Epoch <= old.Epoch {
		t.Errorf("term %d came after %d", now.Epoch, old.Epoch)
	}
	refused("in the next term")
	if err := s.Delete(t.Context(), key, rev, now); err != nil {
		t.Errorf("delete in the second term: %v", err)
	}
}

func fenceWithoutTerm(t *testing.T, s state.Store, p string) {
	for _, epoch := range []int64{0, -1} {
		f := state.Fence{Lease: p + "nobody", Epoch: epoch}
		if _, err := s.Put(t.Context(), p+"doc", []byte("x"), 0, f); !errors.Is(err, state.ErrStale) {
			t.Errorf("put with epoch %d of a lease nobody holds: %v", epoch, err)
		}
	}
	if e := get(t, s, p+"doc"); e.Revision != 0 {
		t.Errorf("the document exists: %+v", e)
	}
}

func staleBeforeConflict(t *testing.T, s state.Store, p string) {
	now, _ := take(t, s, p)
	put(t, s, p+"doc", "x", 0)
	if _, err := s.Put(t.Context(), p+"doc", nil, 0, now); !errors.Is(err, state.ErrConflict) {
		t.Errorf("old revision, right term: %v", err)
	}
	now.Epoch--
	if _, err := s.Put(t.Context(), p+"doc", nil, 0, now); !errors.Is(err, state.ErrStale) {
		t.Errorf("old revision, wrong term: %v", err)
	}
}
