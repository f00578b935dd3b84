package gtid

import "iter"

// Range is a stretch of transactions of one source without a gap.
type Range struct {
	Source Source
	First  uint64
	Last   uint64 // included
}

// Count gives the number of transactions in the range.
func (r Range) Count() uint64 { return r.Last - r.First + 1 }

// String gives "uuid:5" or "uuid:tag:5-9".
func (r Range) String() string { return r.Set().String() }

// Set gives the range as a set; empty if Last is below First.
func (r Range) Set() Set {
	if r.First < 1 || r.Last < r.First || r.Last > MaxNumber {
		return Set{}
	}
	return Set{[]part{{r.Source, []span{{r.First, r.Last}}}}}
}

// Ranges walks over s in order, each range as long as it can be.
func (s Set) Ranges() iter.Seq[Range] {
	return func(yield func(Range) bool) {
		for _, p := range s.parts {
			for _, sp := range p.spans {
				if !yield(Range{p.source, sp.first, sp.last}) {
					return
				}
			}
		}
	}
}

// All walks over s in order, one transaction at a time. A set can hold more
// than anybody can wait for: stop when you have enough, and say how many there
// are with Count.
func (s Set) All() iter.Seq[GTID] {
	return func(yield func(GTID) bool) {
		for r := range s.Ranges() {
			for n := r.First; n <= r.Last; n++ {
				if !yield(GTID{r.Source, n}) {
					return
				}
			}
		}
	}
}
