package jet

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/event"
)

// maxEvent bounds one event. A text that was made of a server's answer may be
// long; it is cut rather than refused.
const maxEvent = 64 << 10

// spool holds events in memory until they are stored, the oldest first.
type spool struct {
	mu      sync.Mutex
	limit   int
	queue   []waiting
	known   map[string]bool // IDs in the queue
	newest  uint64          // number of the newest event
	stored  uint64          // events that were stored
	dropped uint64          // events that were dropped
	changed chan struct{}   // closed and replaced when the queue changed
}

// waiting is one event in the spool.
type waiting struct {
	number uint64
	event  event.Event
	since  time.Time
}

func newSpool(limit int) spool {
	return spool{limit: limit, known: map[string]bool{}, changed: make(chan struct{})}
}

// put adds an event and returns how many were dropped in all if one was dropped
// for it, else 0.
func (s *spool) put(e event.Event) (dropped uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[e.ID] {
		return 0
	}
	if len(s.queue) >= s.limit {
		delete(s.known, s.queue[0].event.ID)
		s.queue[0] = waiting{}
		s.queue = s.queue[1:]
		s.dropped++
		dropped = s.dropped
	}
	s.newest++
	s.queue = append(s.queue, waiting{s.newest, e, time.Now()})
	s.known[e.ID] = true
	s.announce()
	return dropped
}

// head is the oldest event, and a channel that tells of the next change.
func (s *spool) head() (w waiting, ok bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return waiting{}, false, s.changed
	}
	return s.queue[0], true, s.changed
}

// heads are the oldest events, at most so many.
func (s *spool) heads(most int) []waiting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.queue[:min(most, len(s.queue))])
}

// done takes the event away once it is stored. It may have been dropped while
// it was on its way: then it was stored all the same, and does not count as lost.
func (s *spool) done(number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored++
	if len(s.queue) > 0 && s.queue[0].number == number {
		delete(s.known, s.queue[0].event.ID)
		s.queue[0] = waiting{}
		s.queue = s.queue[1:]
	} else if s.dropped > 0 {
		s.dropped--
	}
	s.announce()
}

// settle waits until nothing is left of what was put before.
func (s *spool) settle(ctx context.Context) error {
	s.mu.Lock()
	upTo := s.newest
	s.mu.Unlock()
	for {
		w, ok, changed := s.head()
		if !ok || w.number > upTo {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

func (s *spool) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Spooled is what a spool holds and has done.
type Spooled struct {
	Waiting int           `json:"waiting"`
	Oldest  time.Duration `json:"oldest_ns"` // how long the oldest has waited
	Stored  uint64        `json:"stored"`
	Dropped uint64        `json:"dropped"`
}

func (s *spool) look(now time.Time) Spooled {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Spooled{Waiting: len(s.queue), Stored: s.stored, Dropped: s.dropped}
	if len(s.queue) > 0 {
		out.Oldest = now.Sub(s.queue[0].since)
	}
	return out
}

// encode writes an event, cut to maxEvent.
func encode(e event.Event) ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil || len(b) <= maxEvent {
		return b, err
	}
	cut := func(s string) string {
		if len(s) > 1024 {
			return s[:1024] + "… (cut)"
		}
		return s
	}
	e.Text = cut(e.Text)
	facts := map[string]string{}
	for k, v := range e.Facts {
		if len(facts) < 20 {
			facts[cut(k)] = cut(v)
		}
	}
	e.Facts = facts
	return json.Marshal(e)
}
