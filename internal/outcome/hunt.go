package outcome

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/gtid"
)

const (
	// slack is how much further back than asked for a hunt begins: many sessions
	// lose their connections at once, and one scan shall do for all of them.
	slack = 2 * time.Second
	// A hunt that is not over looks again after a pause that grows to lookMost,
	// and at once when the View changed.
	lookLeast = 100 * time.Millisecond
	lookMost  = time.Second
	// marksMost bounds the memory of a hunt, at about a hundred bytes each.
	marksMost = 500_000
)

var errMany = fmt.Errorf("more than %d marked transactions to look through", marksMost)

// hunt is the search for all commits that one member never answered.
type hunt struct {
	member string
	turn   chan struct{} // held by whoever looks
	hurry  chan struct{} // one token: look soon

	mu    sync.Mutex
	asked int       // how many wait for an answer
	left  time.Time // when the last of them left

	since  time.Time // the earliest commit asked about
	marks  map[string]struct{}
	sight  sight // what the last look found
	proof  sight // what the last one found that saw the member out and read all
	err    error // why the last look failed
	ended  time.Time
	pauses time.Duration
	news   chan struct{} // closed after each look

	// The next scan goes on where the one before ended, on the same member.
	survivor string
	start    gtid.Set
	covers   time.Time // it had start by then
	read     gtid.Set
	end      position  // where the scan before ended, if that is known
	tail     gtid.GTID // the transaction that it ended in, or behind
}

func newHunt(c Commit) *hunt {
	return &hunt{
		member: c.Member, since: c.Since, asked: 1, marks: map[string]struct{}{},
		turn: make(chan struct{}, 1), hurry: make(chan struct{}, 1), news: make(chan struct{}),
	}
}

// join adds one more commit. It is false if this hunt is over and the commit
// was sent later: the member was in the group once more.
func (h *hunt) join(c Commit) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.proof.whole && !h.proof.at.After(c.Since) {
		return false
	}
	h.asked++
	if c.Since.Before(h.since) {
		h.since = c.Since
	}
	if _, found := h.marks[c.Mark]; !found && !(h.proof.whole && h.proof.covers.Before(c.Since)) {
		select {
		case h.hurry <- struct{}{}:
		default:
		}
	}
	return true
}

func (h *hunt) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked--
	h.left = time.Now()
}

func (h *hunt) cold(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked == 0 && now.Sub(h.left) > resultAge
}

// answer is what is known about one commit so far.
type answer struct {
	over bool
	yes  bool
	err  error           // why there is no answer, or none yet
	news <-chan struct{} // closed when more is known
}

func (h *hunt) answer(f *Finder, c Commit, began time.Time) answer {
	k := f.history.known()
	h.mu.Lock()
	defer h.mu.Unlock()
	a := answer{news: h.news, err: h.err}
	_, found := h.marks[c.Mark]
	switch {
	case found:
		a.over, a.yes, a.err = true, true, nil
	case h.proof.whole && missing(c.Since, k, h.proof) == nil:
		a.over, a.err = true, nil
	case h.err == nil:
		a.err = missing(c.Since, k, h.sight)
		a.over = !passing(a.err)
	default:
		a.over = hopeless(h.err)
	}
	if !a.over && h.sight.listed && h.sight.at.Sub(began) > aliveMost && alive(f.views.View(), h.member) {
		a.over, a.err = true, errAlive
	}
	return a
}

// pause waits until it is time for the next look. It is false if ctx ended.
func (h *hunt) pause(ctx context.Context, views Views) bool {
	h.mu.Lock()
	ended, wait := h.ended, h.pauses
	h.mu.Unlock()
	changes, end := views.Changes()
	defer end()
	select {
	case <-changes: // the one that a subscription begins with
	default:
	}
	soon := time.NewTimer(time.Until(ended.Add(wait)))
	defer soon.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-soon.C:
			return true
		case <-changes:
		case <-h.hurry:
		}
		soon.Reset(min(time.Until(ended.Add(lookLeast)), time.Until(ended.Add(wait))))
	}
}

// publish tells everybody who asked what a look found.
func (h *hunt) publish(s sight, err error, took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sight, h.err, h.ended = s, err, time.Now()
	if err == nil && s.whole {
		h.proof = s
	}
	h.pauses = min(lookMost, max(lookLeast, 2*h.pauses, 2*took))
	close(h.news)
	h.news = make(chan struct{})
}

// begin gives where the next scan of a member's log starts, and since when it
// covers commits.
func (h *hunt) begin(history *history, survivor string) (known gtid.Set, covers time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.survivor == survivor && h.covers.Before(h.since) {
		return h.start.Union(h.read), h.covers, nil
	}
	set, at, ok := history.before(survivor, h.since.Add(-slack))
	if !ok {
		set, at, ok = history.before(survivor, h.since)
	}
	if !ok {
		return gtid.Set{}, time.Time{}, errGap
	}
	h.survivor, h.start, h.covers, h.read, h.end, h.tail = survivor, set, at, gtid.Set{}, position{}, gtid.GTID{}
	return set, at, nil
}

// began is when the first of the commits was sent.
func (h *hunt) began() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.since
}

// found takes a mark that a scan came upon.
func (h *hunt) found(mark string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.marks) < marksMost {
		h.marks[mark] = struct{}{}
	}
}
