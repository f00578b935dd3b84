package outcome

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/topology"
)

// look asks one of the members that stayed, or the next if that fails.
func (f *Finder) look(ctx context.Context, h *hunt) {
	began := time.Now()
	var s sight
	err := errNobody
	for _, m := range survivors(f.views.View(), h.member, h.survivor) {
		if s, err = f.lookAt(ctx, h, m.Instance); err == nil || ctx.Err() != nil {
			break
		}
		err = fmt.Errorf("%s: %w", m.Name, err)
	}
	if ctx.Err() != nil {
		return // whoever looked has left; another one looks again
	}
	h.publish(s, err, time.Since(began))
}

// survivors are the members to ask, the best first: the one asked before, and
// then those with the least still to apply.
func survivors(v *topology.View, lost, before string) []topology.Member {
	all := slices.DeleteFunc(v.In(topology.Online), func(m topology.Member) bool { return m.Name == lost })
	queue := func(m topology.Member) int64 {
		if m.Name == before {
			return -1
		}
		if m.Report == nil {
			return 1 << 40
		}
		return m.Report.Queue
	}
	slices.SortStableFunc(all, func(a, b topology.Member) int { return cmp.Compare(queue(a), queue(b)) })
	return all
}

// lookAt reads what is new in the log of a member, in the order that package
// documentation gives reasons for.
func (f *Finder) lookAt(ctx context.Context, h *hunt, in topology.Instance) (s sight, err error) {
	s.at = time.Now()
	known, covers, err := h.begin(f.history, in.Name)
	if err != nil {
		return s, err
	}
	s.covers = covers
	l, err := dial(ctx, f.login(in.Address))
	if err != nil {
		return s, err
	}
	defer l.close()
	r, err := l.roster()
	if err != nil {
		return s, err
	}
	var uuids []string
	uuids, s.out, s.born = f.history.member(h.member)
	s.listed = len(uuids) == 0 || slices.ContainsFunc(uuids, func(u string) bool { return r.others[u] })
	after := r.self && (!s.listed || s.back(h.began()))
	if after {
		if err := l.barrier(); err != nil {
			return s, fmt.Errorf("wait until it applied what the group ordered: %w", err)
		}
		// A member that left its group meanwhile waited for nothing.
		if r, err = l.roster(); err != nil {
			return s, err
		}
		after, s.lineage = r.self, r.view
	}
	executed, err := l.executed()
	if err != nil {
		return s, err
	}
	scan := &skimmer{mark: h.found}
	defer scan.close()
	read, err := h.scan(l, known, executed, scan)
	if err != nil {
		return s, fmt.Errorf("read its binary log: %w", err)
	}
	s.whole = after && known.Union(read).Contains(executed)
	f.log.Debug("looked for commits", "member", h.member, "asked", in.Name, "listed", s.listed, "whole", s.whole,
		"events", scan.events, "bytes", scan.bytes, "took", time.Since(s.at))
	return s, nil
}

// scan reads what is new in the log behind a line: first what is not in known,
// and then always from where it ended before.
func (h *hunt) scan(l *line, known, executed gtid.Set, s *skimmer) (read gtid.Set, err error) {
	end := h.end
	h.end = position{} // in case this fails
	if end.file != "" {
		s.at, s.last = end, h.tail
		err = l.dumpFrom(end, s)
	} else {
		err = l.dumpWithout(known.Intersect(executed), s)
	}
	if err != nil {
		return read, err
	}
	read = s.read(executed)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.read = h.read.Union(read)
	h.end, h.tail = s.at, s.last
	if len(h.marks) >= marksMost {
		err = errMany
	}
	return read, err
}
