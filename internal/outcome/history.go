package outcome

import (
	"slices"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/topology"
)

const (
	// notePause is how often the newest View is looked at.
	notePause = 200 * time.Millisecond
	// gapMost is how long we may not have looked and still say that nothing
	// happened meanwhile. A group that lost its majority says so for seconds
	// before anybody can force it.
	gapMost = 3 * time.Second
	// askMost is how old a report can be when it arrives: the watcher waits no
	// longer for an answer.
	askMost = time.Second
	// Reports are kept for a minute, one a second, and for ten more minutes, one
	// in ten seconds: a commit waits that long in a member that is frozen and was
	// not expelled.
	momentPause, momentAge         = time.Second, time.Minute
	oldMomentPause, oldMomentsKept = 10 * time.Second, 60
)

// history is what the Views of the last minutes showed.
type history struct {
	mu      sync.Mutex
	members map[string]*past
	noted   time.Time // when the last View was noted

	gap     time.Time // the last time at which we had not looked for too long
	lost    time.Time // the last time at which the group lacked its majority, or was none
	lineage string    // of the group
	since   time.Time // since when it has that lineage
}

// past is what was seen of one member.
type past struct {
	report  *topology.Report // the newest
	from    time.Time        // the report is not older than this
	moments []moment
	uuids   []string  // that it had, the newest last
	out     time.Time // the group was without it at this time or a little later; zero for never
}

// moment is what a member had at some time before at.
type moment struct {
	at     time.Time
	report *topology.Report
}

func newHistory() *history { return &history{members: map[string]*past{}} }

// note takes the View of this moment.
func (h *history) note(v *topology.View, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.noted
	h.noted = now
	if now.Sub(before) > gapMost { // or never
		h.gap = now
	}
	if v.Quorum == topology.LostQuorum || v.Quorum == topology.NoGroup {
		h.lost = now
	}
	fresh := make([]*past, 0, len(v.Members))
	for _, m := range v.Members {
		p := h.members[m.Name]
		if p == nil {
			p = &past{}
			h.members[m.Name] = p
		}
		if m.Report == nil || m.Report == p.report {
			continue
		}
		p.report, p.from = m.Report, before.Add(-askMost)
		p.keep(moment{now, m.Report})
		p.name(m.Report.UUID)
		if m.State == topology.Online && v.Quorum != topology.LostQuorum {
			fresh = append(fresh, p)
		}
	}
	for _, f := range fresh {
		if id := lineage(f.report.ViewID); id != "" && id != h.lineage {
			h.lineage, h.since = id, now
		}
		for _, p := range h.members {
			if p != f && p.report != nil && !lists(f.report, p.uuids) {
				p.out = f.from
			}
		}
	}
	for name := range h.members {
		if _, known := v.Member(name); !known {
			delete(h.members, name)
		}
	}
}

func lists(r *topology.Report, uuids []string) bool {
	return slices.ContainsFunc(r.Peers, func(p topology.Peer) bool { return slices.Contains(uuids, p.UUID) })
}

// name takes the member's UUID. With another one it is another server, and what
// the group thought of the one before says nothing about it.
func (p *past) name(uuid string) {
	if n := len(p.uuids); n > 0 && p.uuids[n-1] == uuid {
		return
	}
	p.uuids = append(slices.DeleteFunc(p.uuids, func(u string) bool { return u == uuid }), uuid)
	p.uuids = p.uuids[max(0, len(p.uuids)-uuidsKept):]
	p.out = time.Time{}
}

const uuidsKept = 8

// keep adds a moment, and thins out old ones.
func (p *past) keep(m moment) {
	n := len(p.moments)
	if n > 0 && m.at.Sub(p.moments[n-1].at) < momentPause {
		return
	}
	p.moments = append(p.moments, m)
	old := 0
	for old < n && m.at.Sub(p.moments[old].at) > momentAge {
		old++
	}
	// The one that became old last stays if it is far enough from the one before.
	if old > 1 && p.moments[old-1].at.Sub(p.moments[old-2].at) < oldMomentPause {
		p.moments = append(p.moments[:old-1], p.moments[old:]...)
		old--
	}
	if old > oldMomentsKept {
		p.moments = p.moments[old-oldMomentsKept:]
	}
}

// before gives what a member had at some time before since, and that time. Of a
// member that nobody knew by then it gives what others had: what came later is
// in none of it.
func (h *history) before(member string, since time.Time) (set gtid.Set, at time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.members[member]; p != nil {
		if m, ok := p.before(since); ok {
			return m.report.Holds(), m.at, true
		}
	}
	for _, p := range h.members {
		m, known := p.before(since)
		if !known {
			continue
		}
		if !ok || m.at.Before(at) {
			at = m.at
		}
		set, ok = set.Union(m.report.Holds()), true
	}
	return set, at, ok
}

func (p *past) before(since time.Time) (moment, bool) {
	for _, m := range slices.Backward(p.moments) {
		if m.at.Before(since) {
			return m, true
		}
	}
	return moment{}, false
}

// known gives what speaks against a No.
func (h *history) known() known {
	h.mu.Lock()
	defer h.mu.Unlock()
	return known{gap: h.gap, lost: h.lost, lineage: h.lineage, since: h.since}
}

// member gives the UUIDs of a member, none if it was never heard from, and times
// after which the group was without it and its process began.
func (h *history) member(name string) (uuids []string, out, born time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.members[name]
	if p == nil || p.report == nil {
		return nil, out, born
	}
	// Uptime is cut to whole seconds.
	return slices.Clone(p.uuids), p.out, p.from.Add(-p.report.Uptime - time.Second)
}
