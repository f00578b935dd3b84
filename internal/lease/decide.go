package lease

import (
	"time"

	"github.com/perdure/perdure/internal/state"
)

// sight is what a node that does not lead last saw of the lease document.
type sight struct {
	Revision state.Revision // 0: there is no document
	Since    time.Time      // when this node first saw that revision
	Doc      document
}

// document is the lease as it is stored.
type document struct {
	Holder string    `json:"holder"`
	Token  string    `json:"token"` // of one term, never used again
	TTL    string    `json:"ttl"`   // what the holder counts with, so others wait as long
	Began  time.Time `json:"began"` // by the holder's clock; for people
	Beats  int       `json:"beats"` // renewals so far; for people
}

// act is what a node that does not lead does next.
type act string

const (
	take act = "take" // nobody holds the lease
	end  act = "end"  // its holder has been silent for too long
	own  act = "own"  // it is ours: an attempt of which we had no answer
	wait act = "wait" // until the time that comes with it
)

// decide says what a node that does not lead does about what it saw. token is that
// of its attempts to take the lease, "" if it made none.
func decide(now time.Time, cfg Config, token string, s sight) (act, time.Time) {
	switch deadline := s.Since.Add(s.Doc.ttl(cfg.TTL)); {
	case s.Revision == 0:
		return take, now
	case token != "" && s.Doc.Token == token:
		return own, now
	case cfg.Reclaim && s.Doc.Holder == cfg.Holder:
		return end, now
	case !now.Before(deadline):
		return end, now
	default:
		return wait, deadline
	}
}

// look combines what was known with what a read, answered at now, has found.
func look(now time.Time, before sight, rev state.Revision, doc document) sight {
	if before.Revision == rev {
		return before
	}
	return sight{Revision: rev, Since: now, Doc: doc}
}

// ttl is how long the holder may go on without a renewal. A document that does
// not say it gets as long as we would take.
func (d document) ttl(ours time.Duration) time.Duration {
	theirs, err := time.ParseDuration(d.TTL)
	if err != nil || theirs <= 0 {
		return ours
	}
	return theirs
}

// window is how long a holder trusts itself. Both clocks must agree.
type window struct {
	until time.Time // monotonic
	wall  time.Time // the same moment by the wall clock alone
}

// opened is the window of a renewal sent at that time.
func opened(sent time.Time, cfg Config) window {
	until := sent.Add(cfg.TTL - cfg.margin())
	return window{until: until, wall: until.Round(0)}
}

// holds reports whether the window is still open.
func (w window) holds(now time.Time) bool {
	return now.Before(w.until) && now.Round(0).Before(w.wall)
}
