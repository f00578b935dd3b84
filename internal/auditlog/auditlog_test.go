package auditlog

import (
	"encoding/json"
	"fmt"
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

// tampered is a log of which somebody who can write the store changed something.
type tampered struct {
	name string
	do   func(t *testing.T, s *state.Memory)
	want string // part of what Verify says
}

func put(t *testing.T, s *state.Memory, key string, value []byte) {
	t.Helper()
	e, _ := s.Get(t.Context(), key)
	if _, err := s.Put(t.Context(), key, value, e.Revision, state.Fence{}); err != nil {
		t.Fatal(err)
	}
}

func stored(t *testing.T, s *state.Memory, n int64) Entry {
	t.Helper()
	e, _ := s.Get(t.Context(), key(n))
	var entry Entry
	if err := json.Unmarshal(e.Value, &entry); err != nil {
		t.Fatal(err)
	}
	return entry
}

func store(t *testing.T, s *state.Memory, at int64, e Entry) {
	t.Helper()
	b, _ := json.Marshal(e)
	put(t, s, key(at), b)
}

// fields are the changes of one entry, each with and without a hash that fits.
var fields = map[string]func(*Entry){
	"number": func(e *Entry) { e.Number += 7 },
	"at":     func(e *Entry) { e.At = e.At.Add(time.Millisecond) },
	"who":    func(e *Entry) { e.Who = "somebody else" },
	"from":   func(e *Entry) { e.From += "1" },
	"did":    func(e *Entry) { e.Did = "GET /v1/status" },
	"on":     func(e *Entry) { e.On += "x" },
	"result": func(e *Entry) { e.Result = "403" },
	"before": func(e *Entry) { e.Before = strings.Repeat("0", 64) },
}

// tamperings are all changes of one entry, all removals, all swaps of two.
func tamperings(n int64) []tampered {
	var out []tampered
	for at := int64(1); at <= n; at++ {
		for name, change := range fields {
			for _, fitting := range []string{"", " with a hash that fits"} {
				out = append(out, tampered{fmt.Sprintf("%s of entry %d changed%s", name, at, fitting), func(t *testing.T, s *state.Memory) {
					e := stored(t, s, at)
					change(&e)
					if fitting != "" {
						e.Hash = e.sum()
					}
					store(t, s, at, e)
				}, "entry "})
			}
		}
		out = append(out,
			tampered{fmt.Sprintf("entry %d has a field more", at), func(t *testing.T, s *state.Memory) {
				e, _ := s.Get(t.Context(), key(at))
				put(t, s, key(at), []byte(strings.Replace(string(e.Value), "{", `{"note":"approved",`, 1)))
			}, fmt.Sprintf("entry %d was changed", at)},
			tampered{fmt.Sprintf("entry %d is no entry", at), func(t *testing.T, s *state.Memory) {
				put(t, s, key(at), []byte("{"))
			}, fmt.Sprintf("entry %d was changed", at)},
			tampered{fmt.Sprintf("entry %d removed", at), func(t *testing.T, s *state.Memory) {
				e, _ := s.Get(t.Context(), key(at))
				if err := s.Delete(t.Context(), key(at), e.Revision, state.Fence{}); err != nil {
					t.Fatal(err)
				}
			}, "entry "},
			tampered{fmt.Sprintf("entry %d removed and the others moved up", at), func(t *testing.T, s *state.Memory) {
				for i := at; i < n; i++ {
					e := stored(t, s, i+1)
					e.Number = i
					e.Hash = e.sum()
					store(t, s, i, e)
				}
				e, _ := s.Get(t.Context(), key(n))
				_ = s.Delete(t.Context(), key(n), e.Revision, state.Fence{})
			}, ""},
			tampered{fmt.Sprintf("entry %d twice", at), func(t *testing.T, s *state.Memory) {
				b, _ := json.Marshal(stored(t, s, at))
				put(t, s, key(n+1), b)
			}, "entry "},
		)
		for other := at + 1; other <= n; other++ {
			out = append(out, tampered{fmt.Sprintf("entries %d and %d swapped", at, other), func(t *testing.T, s *state.Memory) {
				a, b := stored(t, s, at), stored(t, s, other)
				a.Number, b.Number = b.Number, a.Number
				a.Hash, b.Hash = a.sum(), b.sum()
				store(t, s, at, b)
				store(t, s, other, a)
			}, "entry "})
		}
	}
	return append(out, tampered{"the whole log removed", func(t *testing.T, s *state.Memory) {
		for i := int64(1); i <= n; i++ {
			e, _ := s.Get(t.Context(), key(i))
			_ = s.Delete(t.Context(), key(i), e.Revision, state.Fence{})
		}
	}, "the newest were removed"}, tampered{"the note of the newest removed", func(t *testing.T, s *state.Memory) {
		e, _ := s.Get(t.Context(), headKey)
		_ = s.Delete(t.Context(), headKey, e.Revision, state.Fence{})
	}, "the note of the newest entry is gone"})
}

func TestEveryTamperingIsFound(t *testing.T) {
	t.Parallel()
	const n = 12
	all := tamperings(n)
	for _, c := range all {
		l, s := filled(t, n)
		if got, newest, err := l.Verify(t.Context()); err != nil || got != n || newest == "" {
			t.Fatalf("an untouched log: %d, %q, %v", got, newest, err)
		}
		c.do(t, s)
		if _, _, err := l.Verify(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	t.Logf("%d ways to tamper with %d entries", len(all), n)
}

// Whoever can write the store can make the whole log anew. What he cannot do is
// end at a hash that somebody has written down elsewhere.
func TestALogMadeAnewEndsElsewhere(t *testing.T) {
	t.Parallel()
	l, s := filled(t, 5)
	_, newest, err := l.Verify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := ""
	for i := int64(1); i <= 5; i++ {
		e := stored(t, s, i)
		if i == 2 {
			e.Who = "somebody else"
		}
		e.Before = before
		e.Hash = e.sum()
		before = e.Hash
		store(t, s, i, e)
	}
	b, _ := json.Marshal(head{5, before})
	put(t, s, headKey, b)
	if _, now, err := l.Verify(t.Context()); err != nil || now == newest {
		t.Errorf("it ends at %q as before, %v", now, err)
	}
}

// What is exported can be checked where no store is.
func TestAnExportIsCheckedByItself(t *testing.T) {
	t.Parallel()
	l, _ := filled(t, 6)
	all, err := l.List(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if newest, err := Verify(all); err != nil || newest != all[5].Hash {
		t.Errorf("an untouched export: %q, %v", newest, err)
	}
	all[3].Result = "200"
	if _, err := Verify(all); err == nil || !strings.Contains(err.Error(), "entry 4 was changed") {
		t.Errorf("a changed export: %v", err)
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
