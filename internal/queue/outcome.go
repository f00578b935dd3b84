package queue

import (
	"sync"
	"time"
)

// State of a write.
type State string

const (
	Queued    State = "queued"
	Applied   State = "applied"
	Dead      State = "dead"
	Discarded State = "discarded"
)

const (
	ledgerApplied   = 1
	ledgerDead      = 2
	ledgerDiscarded = 3
)

func stateOf(outcome int) State {
	switch outcome {
	case ledgerApplied:
		return Applied
	case ledgerDead:
		return Dead
	case ledgerDiscarded:
		return Discarded
	}
	return Queued
}

// Receipt is what a client gets for a write, and asks for later.
type Receipt struct {
	ID       ID     `json:"id"`
	Sequence uint64 `json:"sequence,omitempty"`
	State    State  `json:"state"`
	Attempts int    `json:"attempts,omitempty"`
	Affected *int64 `json:"affected_rows,omitempty"`
	// GTID is a set that holds the write's transaction: a reader that waits for
	// it reads the write. Only with wait=applied.
	GTID  string `json:"gtid,omitempty"`
	Error string `json:"error,omitempty"`
	// Duplicate says that the id had been accepted before.
	Duplicate bool `json:"duplicate,omitempty"`
}

// hub tells whoever waits for a write what became of it.
type hub struct {
	mu      sync.Mutex
	waiters map[ID][]chan Receipt
}

func newHub() *hub { return &hub{waiters: map[ID][]chan Receipt{}} }

func (h *hub) watch(id ID) (<-chan Receipt, func()) {
	ch := make(chan Receipt, 1)
	h.mu.Lock()
	h.waiters[id] = append(h.waiters[id], ch)
	h.mu.Unlock()
	return ch, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		left := h.waiters[id][:0]
		for _, c := range h.waiters[id] {
			if c != ch {
				left = append(left, c)
			}
		}
		if len(left) == 0 {
			delete(h.waiters, id)
		} else {
			h.waiters[id] = left
		}
	}
}

// any tells whether somebody waits for one of ids, so that answers cost
// nothing when nobody does.
func (h *hub) any(items []item) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.waiters) == 0 {
		return false
	}
	for i := range items {
		if items[i].rec == nil {
			continue
		}
		if _, ok := h.waiters[items[i].rec.id]; ok {
			return true
		}
	}
	return false
}

func (h *hub) tell(r Receipt) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ch := range h.waiters[r.ID] {
		select {
		case ch <- r:
		default:
		}
	}
}

// recent remembers the writes this node has accepted lately, so that a retry
// gets the receipt of the first and a question needs no search. It is a help,
// not a truth: the ledger is that.
type recent struct {
	mu   sync.Mutex
	now  map[ID]seen
	old  map[ID]seen
	size int
}

type seen struct {
	seq    uint64
	digest uint64
}

func newRecent(size int) *recent {
	return &recent{now: map[ID]seen{}, old: map[ID]seen{}, size: size}
}

func (r *recent) add(id ID, s seen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.now) >= r.size {
		r.old, r.now = r.now, make(map[ID]seen, r.size/4)
	}
	r.now[id] = s
}

func (r *recent) get(id ID) (seen, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.now[id]; ok {
		return s, true
	}
	s, ok := r.old[id]
	return s, ok
}

// backoff is the wait before attempt n+1.
type backoff struct{ first, most time.Duration }

func (b backoff) after(n int) time.Duration {
	d := b.first
	for range n {
		if d = d * 8 / 5; d >= b.most {
			return b.most
		}
	}
	return d
}
