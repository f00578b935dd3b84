package gtid

import (
	"fmt"
	"strings"
	"testing"
)

// comb makes a set of n intervals under one UUID, with a gap after each.
func comb(b *testing.B, n int, from uint64) string {
	b.Helper()
	var text strings.Builder
	text.WriteString(uuidA)
	for i := range uint64(n) {
		fmt.Fprintf(&text, ":%d-%d", from+i*10, from+i*10+4)
	}
	return text.String()
}

func BenchmarkHundredThousandIntervals(b *testing.B) {
	const n = 100_000
	text := comb(b, n, 1)
	even, odd := MustParse(text), MustParse(comb(b, n, 6))
	twin := MustParse(text)
	b.Run("parse", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Parse(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, op := range []struct {
		name string
		do   func() bool
	}{
		{"string", func() bool { return len(even.String()) == len(text) }},
		{"union of interleaved sets", func() bool { return even.Union(odd).Count() == 10*n }},
		{"union of equal sets", func() bool { return even.Union(twin).Count() == 5*n }},
		{"subtract", func() bool { return even.Subtract(twin).IsEmpty() }},
		{"intersect", func() bool { return even.Intersect(odd).IsEmpty() }},
		{"contains", func() bool { return even.Contains(twin) }},
		{"has", func() bool { return even.Has(GTID{even.parts[0].source, 500_001}) }},
	} {
		b.Run(op.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !op.do() {
					b.Fatal("wrong answer")
				}
			}
		})
	}
}

// BenchmarkHostileText reads text made to be dear: tags in turn, everything
// backwards, no two intervals that can be joined.
func BenchmarkHostileText(b *testing.B) {
	var tags, backwards strings.Builder
	tags.WriteString(uuidA)
	backwards.WriteString(uuidA)
	for i := range 100_000 {
		fmt.Fprintf(&tags, ":%c:%d", 'a'+i%2, 200_000-2*i)
		fmt.Fprintf(&backwards, ":%d", 200_000-2*i)
	}
	for name, text := range map[string]string{"tags in turn": tags.String(), "backwards": backwards.String()} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if s, err := Parse(text); err != nil || s.Count() != 100_000 {
					b.Fatal(s.Count(), err)
				}
			}
		})
	}
}
