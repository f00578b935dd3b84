package gtid

import (
	"math"
	"slices"
)

// Set is a set of transactions. The zero Set is empty. A Set is never modified
// after it was made.
type Set struct {
	// In order of source, none without spans, nil if the set is empty: one set
	// has one representation, whatever it was made from.
	parts []part
}

// part is what a set holds of one source.
type part struct {
	source Source
	spans  []span
}

// Of gives the set of these transactions. What is not valid (such as the zero
// GTID) names no transaction and adds none.
func Of(gtids ...GTID) Set {
	var b builder
	for _, g := range gtids {
		if g.IsValid() {
			b.add(g.Source, span{g.Number, g.Number})
		}
	}
	return b.set()
}

// IsEmpty says whether there is no transaction in s.
func (s Set) IsEmpty() bool { return len(s.parts) == 0 }

// Equal says whether both hold the same transactions.
func (s Set) Equal(other Set) bool {
	return slices.EqualFunc(s.parts, other.parts, func(x, y part) bool {
		return x.source == y.source && slices.Equal(x.spans, y.spans)
	})
}

// Has says whether s holds this transaction.
func (s Set) Has(g GTID) bool {
	i, found := slices.BinarySearchFunc(s.parts, g.Source, func(p part, source Source) int {
		return p.source.Compare(source)
	})
	return found && has(s.parts[i].spans, g.Number)
}

// Count gives the number of transactions, or the highest uint64 if there are
// more (three sources that used up their numbers suffice).
func (s Set) Count() uint64 {
	var count uint64
	for _, p := range s.parts {
		for _, sp := range p.spans {
			n := sp.last - sp.first + 1
			if count > math.MaxUint64-n {
				return math.MaxUint64
			}
			count += n
		}
	}
	return count
}

// Sources lists who numbered the transactions of s, in order.
func (s Set) Sources() []Source {
	sources := make([]Source, 0, len(s.parts))
	for _, p := range s.parts {
		sources = append(sources, p.source)
	}
	return sources
}

// UUIDs lists the UUIDs of the sources, each once, in order.
func (s Set) UUIDs() []UUID {
	ids := make([]UUID, 0, len(s.parts))
	for _, p := range s.parts {
		ids = append(ids, p.source.UUID)
	}
	return slices.Compact(ids)
}

// Only gives the part of s under these UUIDs, tagged and untagged.
func (s Set) Only(ids ...UUID) Set {
	return s.where(func(p part) bool { return slices.Contains(ids, p.source.UUID) })
}

// Without gives s less everything under these UUIDs, tagged and untagged.
func (s Set) Without(ids ...UUID) Set {
	return s.where(func(p part) bool { return !slices.Contains(ids, p.source.UUID) })
}

func (s Set) where(keep func(part) bool) Set {
	var parts []part
	for _, p := range s.parts {
		if keep(p) {
			parts = append(parts, p)
		}
	}
	return Set{parts}
}
