package gtid

// Union gives what is in s or in other.
func (s Set) Union(other Set) Set {
	a, b := s.parts, other.parts
	if len(a) == 0 {
		return other
	}
	if len(b) == 0 {
		return s
	}
	parts := make([]part, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		switch c := a[0].source.Compare(b[0].source); {
		case c < 0:
			parts, a = append(parts, a[0]), a[1:]
		case c > 0:
			parts, b = append(parts, b[0]), b[1:]
		default:
			parts = append(parts, part{a[0].source, unite(a[0].spans, b[0].spans)})
			a, b = a[1:], b[1:]
		}
	}
	return Set{append(append(parts, a...), b...)}
}

// Subtract gives what is in s but not in other.
func (s Set) Subtract(other Set) Set {
	var parts []part
	b := other.parts
	for _, p := range s.parts {
		for len(b) > 0 && b[0].source.Compare(p.source) < 0 {
			b = b[1:]
		}
		if len(b) > 0 && b[0].source == p.source {
			p.spans = subtract(p.spans, b[0].spans)
		}
		if len(p.spans) > 0 {
			parts = append(parts, p)
		}
	}
	return Set{parts}
}

// Intersect gives what is both in s and in other.
func (s Set) Intersect(other Set) Set {
	var parts []part
	b := other.parts
	for _, p := range s.parts {
		for len(b) > 0 && b[0].source.Compare(p.source) < 0 {
			b = b[1:]
		}
		if len(b) == 0 || b[0].source != p.source {
			continue
		}
		if spans := intersect(p.spans, b[0].spans); len(spans) > 0 {
			parts = append(parts, part{p.source, spans})
		}
	}
	return Set{parts}
}

// Contains says whether everything in other is also in s. Every set contains
// the empty set and itself.
func (s Set) Contains(other Set) bool {
	a := s.parts
	for _, p := range other.parts {
		for len(a) > 0 && a[0].source.Compare(p.source) < 0 {
			a = a[1:]
		}
		if len(a) == 0 || a[0].source != p.source || !covers(a[0].spans, p.spans) {
			return false
		}
	}
	return true
}

// Errant gives what candidate has and none of the others has. With no others
// that is everything.
func Errant(candidate Set, others ...Set) Set {
	for _, other := range others {
		candidate = candidate.Subtract(other)
	}
	return candidate
}
