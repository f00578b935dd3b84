package state_test

import (
	"errors"
	"testing"

	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/state/statetest"
)

func TestMemoryIsAStore(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(*testing.T) (state.Store, string) { return state.NewMemory(), "" })
}

func TestASaidTermIsTheTermOfTheFence(t *testing.T) {
	t.Parallel()
	m := state.NewMemory()
	m.SetTerm("control", 7)
	if _, err := m.Put(t.Context(), "a", nil, 0, state.Fence{Lease: "control", Epoch: 6}); !errors.Is(err, state.ErrStale) {
		t.Errorf("term 6: %v", err)
	}
	if _, err := m.Put(t.Context(), "a", nil, 0, state.Fence{Lease: "control", Epoch: 7}); err != nil {
		t.Errorf("term 7: %v", err)
	}
}

type plan struct {
	Step string
	Done int
}

func TestADocumentKeepsItsType(t *testing.T) {
	t.Parallel()
	d := state.NewDoc[plan](state.NewMemory(), "plans/1")
	if v, rev, err := d.Get(t.Context()); err != nil || rev != 0 || v != (plan{}) {
		t.Fatalf("missing: %+v at %d, %v", v, rev, err)
	}
	want := plan{Step: "clone", Done: 2}
	rev, err := d.Put(t.Context(), want, 0, state.Fence{})
	if err != nil {
		t.Fatal(err)
	}
	if v, at, err := d.Get(t.Context()); err != nil || at != rev || v != want {
		t.Errorf("read back %+v at %d, %v", v, at, err)
	}
}

func TestChangeReturnsTheErrorOfItsFunctionAndChangesNothing(t *testing.T) {
	t.Parallel()
	d := state.NewDoc[plan](state.NewMemory(), "plans/1")
	refused := errors.New("refused")
	if _, err := d.Change(t.Context(), state.Fence{}, func(p *plan) error { p.Done = 9; return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if _, rev, _ := d.Get(t.Context()); rev != 0 {
		t.Error("the document exists")
	}
}

func TestAWatchSkipsWhatItCannotDecode(t *testing.T) {
	t.Parallel()
	m := state.NewMemory()
	if _, err := m.Put(t.Context(), "plans/1", []byte(`{"Done":"many"}`), 0, state.Fence{}); err != nil {
		t.Fatal(err)
	}
	d := state.NewDoc[plan](m, "plans/1")
	if _, _, err := d.Get(t.Context()); err == nil {
		t.Error("Get hides that the document cannot be read")
	}
	go func() {
		e, _ := m.Get(t.Context(), "plans/1")
		_, _ = m.Put(t.Context(), "plans/1", []byte(`{"Done":3}`), e.Revision, state.Fence{})
	}()
	for v := range d.Watch(t.Context()) {
		if v.Done != 3 {
			t.Errorf("watched %+v", v)
		}
		break
	}
}
