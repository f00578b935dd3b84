package gtid

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", ",", " \n", "A", "A:1", "A:1-5:tag:3,B:7", "{A}:5-3", "A : 1 - 5 :\nT_1: 2",
		"A:1:3:5:2:4,A:x:9223372036854775806", "A:1-9223372036854775807", "A:0", "A:1-", "A::1",
		"aaaaaaaa111122223333444444444444:1", "A:tag:tag2:1,,A:TaG:2,", "A:010", "A:1\x00",
	} {
		f.Add(spell(seed))
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			if bad, ok := errors.AsType[*SyntaxError](err); !ok || bad.Offset < 0 || bad.Offset > len(text) {
				t.Fatalf("error without a place: %v", err)
			}
			return
		}
		checkShape(t, s)
		printed := s.String()
		again, err := Parse(printed)
		if err != nil {
			t.Fatalf("cannot read my own %q: %v", printed, err)
		}
		if !again.Equal(s) || again.String() != printed {
			t.Fatalf("%q became %q", printed, again)
		}
		if !s.Union(s).Equal(s) || !s.Intersect(s).Equal(s) || !s.Subtract(s).IsEmpty() || !s.Contains(s) {
			t.Fatalf("%q and itself do not agree", printed)
		}
	})
}

// FuzzAlgebra reads two small sets from its input, three bytes an interval,
// and compares every operation with sets of single bits.
func FuzzAlgebra(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add([]byte{0, 1, 5, 1, 3, 9}, []byte{0, 2, 3, 5, 60, 63})
	f.Add([]byte{0, 1, 63}, []byte{0, 10, 10, 0, 20, 30, 0, 63, 63})
	f.Add([]byte{2, 9, 3, 2, 1, 1, 2, 3, 3}, []byte{2, 2, 2, 0, 1, 1})
	f.Fuzz(func(t *testing.T, x, y []byte) {
		ma, a := tiny(t, x)
		mb, b := tiny(t, y)
		var union, minus, both model
		contains, equal := true, true
		for i := range ma {
			union[i], minus[i], both[i] = ma[i]|mb[i], ma[i]&^mb[i], ma[i]&mb[i]
			contains = contains && mb[i]&^ma[i] == 0
			equal = equal && ma[i] == mb[i]
		}
		compare(t, "a", a, ma)
		compare(t, "union", a.Union(b), union)
		compare(t, "subtract", a.Subtract(b), minus)
		compare(t, "intersect", a.Intersect(b), both)
		compare(t, "a, afterwards", a, ma)
		compare(t, "b, afterwards", b, mb)
		if a.Contains(b) != contains || a.Equal(b) != equal {
			t.Fatalf("%q and %q: contains %v, equal %v", a, b, a.Contains(b), a.Equal(b))
		}
	})
}

// model is a set of the numbers 1 to 63 of six sources.
type model [6]uint64

var sources = [len(model{})]string{
	uuidA, uuidA + ":t", uuidA + ":u", uuidB, uuidB + ":_", uuidB + ":t",
}

func tiny(t *testing.T, data []byte) (model, Set) {
	var m model
	var text strings.Builder
	for ; len(data) >= 3; data = data[3:] {
		i, first, last := int(data[0])%len(sources), uint64(data[1]%63)+1, uint64(data[2]%64)
		fmt.Fprintf(&text, "%s:%d-%d,", sources[i], first, last)
		for n := first; n <= last; n++ {
			m[i] |= 1 << n
		}
	}
	s, err := Parse(text.String())
	if err != nil {
		t.Fatal(err)
	}
	return m, s
}

func compare(t *testing.T, what string, s Set, m model) {
	t.Helper()
	checkShape(t, s)
	var got model
	for g := range s.All() {
		got[slices.Index(sources[:], g.Source.String())] |= 1 << g.Number
	}
	if got != m {
		t.Fatalf("%s: got %q = %x, want %x", what, s, got, m)
	}
	var count int
	for _, set := range m {
		count += bits.OnesCount64(set)
	}
	if s.Count() != uint64(count) || s.IsEmpty() != (count == 0) {
		t.Fatalf("%s: %q counts %d, want %d", what, s, s.Count(), count)
	}
}

// checkShape holds a set to the one representation it may have.
func checkShape(t *testing.T, s Set) {
	t.Helper()
	if s.parts != nil && len(s.parts) == 0 {
		t.Fatal("the empty set is not the zero set")
	}
	for i, p := range s.parts {
		if i > 0 && s.parts[i-1].source.Compare(p.source) >= 0 {
			t.Fatalf("sources out of order in %q", s)
		}
		if len(p.spans) == 0 {
			t.Fatalf("a source without numbers in %q", s)
		}
		for j, sp := range p.spans {
			if sp.first < 1 || sp.first > sp.last || sp.last > MaxNumber {
				t.Fatalf("an impossible interval in %q", s)
			}
			if j > 0 && sp.first <= p.spans[j-1].last+1 {
				t.Fatalf("intervals not joined in %q", s)
			}
		}
	}
}
