package gtid

import "slices"

// span is the numbers first to last, both included. In a slice of spans of a
// Set they are in order and there is a gap between any two.
type span struct{ first, last uint64 }

// join adds s, which does not begin before the last of out.
func join(out []span, s span) []span {
	if n := len(out); n > 0 && s.first <= out[n-1].last+1 {
		out[n-1].last = max(out[n-1].last, s.last)
		return out
	}
	return append(out, s)
}

func unite(a, b []span) []span {
	// Polling compares nearly equal sets all day: hand back what is there.
	if covers(a, b) {
		return a
	}
	if covers(b, a) {
		return b
	}
	out := make([]span, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		if a[0].first <= b[0].first {
			out, a = join(out, a[0]), a[1:]
		} else {
			out, b = join(out, b[0]), b[1:]
		}
	}
	for _, s := range a {
		out = join(out, s)
	}
	for _, s := range b {
		out = join(out, s)
	}
	return out
}

func subtract(a, b []span) []span {
	var out []span
	for _, s := range a {
		for len(b) > 0 && b[0].last < s.first {
			b = b[1:]
		}
		for len(b) > 0 && b[0].first <= s.last {
			if s.first < b[0].first {
				out = append(out, span{s.first, b[0].first - 1})
			}
			s.first = b[0].last + 1
			if s.first > s.last {
				break // b[0] may reach into the next span too
			}
			b = b[1:]
		}
		if s.first <= s.last {
			out = append(out, s)
		}
	}
	return out
}

func intersect(a, b []span) []span {
	var out []span
	for len(a) > 0 && len(b) > 0 {
		first, last := max(a[0].first, b[0].first), min(a[0].last, b[0].last)
		if first <= last {
			out = append(out, span{first, last})
		}
		if a[0].last < b[0].last {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// covers says whether every number of b is in a. Since there are gaps between
// spans, each span of b must lie within one span of a.
func covers(a, b []span) bool {
	for _, s := range b {
		for len(a) > 0 && a[0].last < s.first {
			a = a[1:]
		}
		if len(a) == 0 || s.first < a[0].first || a[0].last < s.last {
			return false
		}
	}
	return true
}

func has(spans []span, n uint64) bool {
	_, found := slices.BinarySearchFunc(spans, n, func(s span, n uint64) int {
		switch {
		case s.last < n:
			return -1
		case s.first > n:
			return 1
		}
		return 0
	})
	return found
}
