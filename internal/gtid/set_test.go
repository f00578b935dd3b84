package gtid

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
)

func set(t *testing.T, text string) Set {
	t.Helper()
	s, err := Parse(spell(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAlgebra(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, a, b, union, minus, both string }{
		{"two empty sets", "", "", "", "", ""},
		{"the empty set adds and takes nothing", "A:1-5", "", "A:1-5", "A:1-5", ""},
		{"the empty set has nothing to lose", "", "A:1-5", "A:1-5", "", ""},
		{"a set with itself", "A:1-5:tag:7", "A:1-5:tag:7", "A:1-5:tag:7", "", "A:1-5:tag:7"},
		{"different UUIDs", "A:1-5", "B:1-5", "A:1-5,B:1-5", "A:1-5", ""},
		{"different tags of one UUID", "A:x:1-5", "A:y:1-5", "A:x:1-5:y:1-5", "A:x:1-5", ""},
		{"tagged and untagged", "A:1-5", "A:x:1-5", "A:1-5:x:1-5", "A:1-5", ""},
		{"neighbours join", "A:1-5", "A:6-9", "A:1-9", "A:1-5", ""},
		{"a hole is cut in the middle", "A:1-9", "A:4-5", "A:1-9", "A:1-3:6-9", "A:4-5"},
		{"the head is cut off", "A:1-9", "A:1-5", "A:1-9", "A:6-9", "A:1-5"},
		{"the tail is cut off", "A:1-9", "A:5-20", "A:1-20", "A:1-4", "A:5-9"},
		{"one interval reaches over many", "A:1:3:5:7:9", "A:2-7", "A:1-7:9", "A:1:9", "A:3:5:7"},
		{"many reach into one", "A:1-9", "A:1:3:5:7:9", "A:1-9", "A:2:4:6:8", "A:1:3:5:7:9"},
		{"a comb fills a comb", "A:1:3:5", "A:2:4", "A:1-5", "A:1:3:5", ""},
		{"the last number", "A:1-9223372036854775806", "A:9223372036854775806", "A:1-9223372036854775806", "A:1-9223372036854775805", "A:9223372036854775806"},
		{"several sources at once", "A:1-3:t:1-3,B:1-3", "A:t:2,B:3-4", "A:1-3:t:1-3,B:1-4", "A:1-3:t:1:3,B:1-2", "A:t:2,B:3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, b := set(t, tt.a), set(t, tt.b)
			for _, got := range []struct {
				op        string
				set, want Set
			}{
				{"union", a.Union(b), set(t, tt.union)},
				{"union the other way", b.Union(a), set(t, tt.union)},
				{"subtract", a.Subtract(b), set(t, tt.minus)},
				{"intersect", a.Intersect(b), set(t, tt.both)},
				{"intersect the other way", b.Intersect(a), set(t, tt.both)},
			} {
				if !got.set.Equal(got.want) {
					t.Errorf("%s: got %q, want %q", got.op, got.set, got.want)
				}
			}
			if got, want := a.Contains(b), b.Subtract(a).IsEmpty(); got != want {
				t.Errorf("contains: got %v, want %v", got, want)
			}
			if !a.Equal(set(t, tt.a)) || !b.Equal(set(t, tt.b)) {
				t.Error("the operations changed what they worked on")
			}
		})
	}
}

func TestErrantIsWhatNobodyElseHas(t *testing.T) {
	t.Parallel()
	got := Errant(set(t, "A:1-10,B:1-3:fix:1"), set(t, "A:1-5,B:1-3"), set(t, "A:5-9"))
	if want := set(t, "A:10,B:fix:1"); !got.Equal(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if alone := set(t, "A:1"); !Errant(alone).Equal(alone) {
		t.Error("with nobody to compare with, everything is errant")
	}
}

func TestAllStopsWhenTheCallerHasEnough(t *testing.T) {
	t.Parallel()
	s := set(t, "A:3:1-2:t:9223372036854775806,B:1-9223372036854775806")
	var got []string
	for g := range s.All() {
		if !s.Has(g) {
			t.Errorf("All gave %v, Has does not know it", g)
		}
		if got = append(got, g.String()); len(got) == 6 {
			break
		}
	}
	want := []string{uuidA + ":1", uuidA + ":2", uuidA + ":3", uuidA + ":t:9223372036854775806", uuidB + ":1", uuidB + ":2"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRangesPutTogetherAreTheSet(t *testing.T) {
	t.Parallel()
	s := set(t, "A:1-3:5:t:9-12,B:7")
	var sum Set
	var count uint64
	var texts []string
	for r := range s.Ranges() {
		sum, count, texts = sum.Union(r.Set()), count+r.Count(), append(texts, r.String())
	}
	if !sum.Equal(s) || count != s.Count() {
		t.Errorf("got %q with %d, want %q with %d", sum, count, s, s.Count())
	}
	if want := uuidA + ":t:9-12"; texts[2] != want {
		t.Errorf("got %q, want %q", texts[2], want)
	}
}

func TestHasKnowsBothEndsOfEveryInterval(t *testing.T) {
	t.Parallel()
	s := set(t, "A:5-7:10:t:1")
	in := Source{UUID: s.UUIDs()[0]}
	for n, want := range map[uint64]bool{0: false, 1: false, 4: false, 5: true, 7: true, 8: false, 10: true, 11: false} {
		if got := s.Has(GTID{in, n}); got != want {
			t.Errorf("number %d: got %v, want %v", n, got, want)
		}
	}
	if s.Has(GTID{}) {
		t.Error("the zero GTID is in a set")
	}
}

func TestCountDoesNotWrapRound(t *testing.T) {
	t.Parallel()
	if got := set(t, "A:1-9223372036854775806,B:1-9223372036854775806").Count(); got != 2*MaxNumber {
		t.Errorf("got %d", got)
	}
	if got := set(t, "A:1-9223372036854775806:t:1-9223372036854775806,B:1-9223372036854775806").Count(); got != math.MaxUint64 {
		t.Errorf("got %d", got)
	}
}

func TestOnlyAndWithoutSplitASet(t *testing.T) {
	t.Parallel()
	s := set(t, "A:1-3:t:4,B:5")
	a, err := ParseUUID(uuidA)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Only(a); !got.Equal(set(t, "A:1-3:t:4")) {
		t.Errorf("only: got %q", got)
	}
	if got := s.Without(a); !got.Equal(set(t, "B:5")) {
		t.Errorf("without: got %q", got)
	}
	if got := s.Only(); !got.IsEmpty() {
		t.Errorf("only nothing: got %q", got)
	}
	if got := len(s.UUIDs()); got != 2 {
		t.Errorf("got %d UUIDs, want 2", got)
	}
	if got := s.Sources(); len(got) != 3 || got[1].String() != uuidA+":t" {
		t.Errorf("got sources %v", got)
	}
}

func TestOfSkipsWhatNamesNoTransaction(t *testing.T) {
	t.Parallel()
	in := Source{UUID: set(t, "A:1").UUIDs()[0]}
	got := Of(GTID{in, 3}, GTID{}, GTID{in, 1}, GTID{in, 2}, GTID{in, MaxNumber + 1})
	if !got.Equal(set(t, "A:1-3")) {
		t.Errorf("got %q", got)
	}
	if empty := (Range{in, 5, 3}).Set(); !empty.IsEmpty() {
		t.Errorf("a range backwards gave %q", empty)
	}
}

func TestJSONRoundTrip(t *testing.T) {
	t.Parallel()
	type doc struct {
		Executed Set  `json:"executed"`
		Nothing  Set  `json:"nothing,omitzero"`
		Last     GTID `json:"last"`
		Group    UUID `json:"group"`
	}
	s := set(t, "B:1,A:1-5:t:3")
	in := doc{Executed: s, Last: GTID{s.Sources()[1], 3}, Group: s.UUIDs()[0]}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"executed":"` + uuidA + `:1-5:t:3,\n` + uuidB + `:1","last":"` + uuidA + `:t:3","group":"` + uuidA + `"}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	var out doc
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	if !out.Executed.Equal(in.Executed) || out.Last != in.Last || out.Group != in.Group {
		t.Errorf("got %+v, want %+v", out, in)
	}
	if err := json.Unmarshal([]byte(`{"executed":"nonsense"}`), &out); err == nil {
		t.Error("nonsense was read as a set")
	}
}
