package auditlog

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/state"
)

func filled(t *testing.T, n int) (*Log, *state.Memory) {
	t.Helper()
	store := state.NewMemory()
	l := New(store)
	for range n {
		if err := l.Add(t.Context(), Entry{At: time.Now(), Who: "ci", Did: "POST /v1/apply", Result: "202"}); err != nil {
			t.Fatal(err)
		}
	}
	return l, store
}

func TestEveryTamperingIsFound(t *testing.T) {
	t.Parallel()
	edit := func(n int64, change func(*Entry)) func(*testing.T, *state.Memory) {
		return func(t *testing.T, s *state.Memory) {
			e, _ := s.Get(t.Context(), key(n))
			var entry Entry
			if err := json.Unmarshal(e.Value, &entry); err != nil {
				t.Fatal(err)
			}
			change(&entry)
			b, _ := json.Marshal(entry)
			if _, err := s.Put(t.Context(), key(n), b, e.Revision, state.Fence{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(n int64) func(*testing.T, *state.Memory) {
		return func(t *testing.T, s *state.Memory) {
			e, _ := s.Get(t.Context(), key(n))
			if err := s.Delete(t.Context(), key(n), e.Revision, state.Fence{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name   string
		tamper func(*testing.T, *state.Memory)
		want   string
	}{
		{"nothing", func(*testing.T, *state.Memory) {}, ""},
		{"an entry changed", edit(3, func(e *Entry) { e.Who = "somebody else" }), "entry 3 was changed"},
		{"an entry changed with its hash", edit(3, func(e *Entry) { e.Who = "x"; e.Hash = e.sum() }), "entry 4 does not follow"},
		{"an entry in the middle removed", remove(2), "entry 2 is missing"},
		{"the newest removed", remove(5), "the newest were removed"},
		{"two entries swapped", func(t *testing.T, s *state.Memory) {
			a, _ := s.Get(t.Context(), key(2))
			b, _ := s.Get(t.Context(), key(3))
			_, _ = s.Put(t.Context(), key(2), b.Value, a.Revision, state.Fence{})
			_, _ = s.Put(t.Context(), key(3), a.Value, b.Revision, state.Fence{})
		}, "entry 2 is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l, store := filled(t, 5)
			c.tamper(t, store)
			n, newest, err := l.Verify(t.Context())
			if c.want == "" {
				if err != nil || n != 5 || newest == "" {
					t.Errorf("an untouched log: %d, %q, %v", n, newest, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestSeveralWritersMakeOneChain(t *testing.T) {
	t.Parallel()
	l, _ := filled(t, 0)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if err := l.Add(t.Context(), Entry{At: time.Now(), Who: "w", Did: "d"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n, _, err := l.Verify(t.Context()); err != nil || n != 160 {
		t.Errorf("%d entries, %v", n, err)
	}
}
