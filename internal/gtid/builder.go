package gtid

import (
	"cmp"
	"slices"
)

// builder collects ranges in any order. Its memory grows with the number of
// ranges alone; what follows the one before in good order costs nothing extra.
type builder struct {
	runs  []run
	spans []span
}

// run is a stretch of builder.spans that came in under one source.
type run struct {
	source Source
	from   int
	to     int
}

func (b *builder) add(source Source, s span) {
	if n := len(b.runs); n > 0 && b.runs[n-1].source == source {
		if last := &b.spans[len(b.spans)-1]; last.first <= s.first && s.first <= last.last+1 {
			last.last = max(last.last, s.last)
			return
		}
	} else {
		b.runs = append(b.runs, run{source: source, from: len(b.spans)})
	}
	b.spans = append(b.spans, s)
	b.runs[len(b.runs)-1].to = len(b.spans)
}

// set gives what was collected; the builder must not be used afterwards.
func (b *builder) set() Set {
	slices.SortFunc(b.runs, func(x, y run) int { return x.source.Compare(y.source) })
	var parts []part
	for i := 0; i < len(b.runs); {
		source := b.runs[i].source
		spans := b.spans[b.runs[i].from:b.runs[i].to:b.runs[i].to]
		for i++; i < len(b.runs) && b.runs[i].source == source; i++ {
			spans = append(spans, b.spans[b.runs[i].from:b.runs[i].to]...)
		}
		parts = append(parts, part{source, normal(spans)})
	}
	return Set{parts}
}

// normal sorts and joins spans within their own memory.
func normal(spans []span) []span {
	inOrder := func(x, y span) int { return cmp.Compare(x.first, y.first) }
	if !slices.IsSortedFunc(spans, inOrder) {
		slices.SortFunc(spans, inOrder)
	}
	out := spans[:1]
	for _, s := range spans[1:] {
		out = join(out, s)
	}
	return out
}
