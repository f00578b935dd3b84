package outcome

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/topology"
)

// Commit is one that was never answered.
type Commit struct {
	Member string    // the name of the member it was sent to
	Mark   string    // the name of a savepoint in its transaction: begins with Prefix, and is its own alone
	Since  time.Time // when it was sent, or a little earlier
}

// Views is where the newest View comes from.
type Views interface {
	View() *topology.View
	// Changes gives a channel with a token whenever the View may have changed,
	// and a function that ends that.
	Changes() (<-chan struct{}, func())
}

// Finder finds out what became of commits. Make one with New, and Run it from
// the start: it can only tell about commits that were sent while it ran.
type Finder struct {
	views Views
	login func(address string) mysql.Login
	log   *slog.Logger

	history *history

	mu    sync.Mutex
	hunts map[string]*hunt // by the name of the lost member
}

// New returns a Finder that knows nothing yet. login is how to sign in to a
// member; the account needs REPLICATION SLAVE and SELECT on performance_schema.
func New(views Views, login func(address string) mysql.Login, log *slog.Logger) *Finder {
	return &Finder{views: views, login: login, log: log, history: newHistory(), hunts: map[string]*hunt{}}
}

// Run remembers what the Views show until ctx ends.
func (f *Finder) Run(ctx context.Context) error {
	changes, end := f.views.Changes()
	defer end()
	tick := time.NewTicker(notePause)
	defer tick.Stop()
	for {
		now := time.Now()
		f.history.note(f.views.View(), now)
		f.forget(now)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		case <-tick.C:
		}
	}
}

// Committed tells whether the group has the transaction of a commit, or will
// have it. It is an error if nobody can tell, or not before ctx ends.
func (f *Finder) Committed(ctx context.Context, c Commit) (bool, error) {
	began := time.Now()
	h := f.ask(c)
	defer h.leave()
	for {
		a := h.answer(f, c, began)
		if a.over {
			f.log.Debug("asked what became of a commit", "member", c.Member, "committed", a.yes, "err", a.err, "took", time.Since(began))
			if a.err != nil {
				return false, fmt.Errorf("what became of a commit on %s: %w", c.Member, a.err)
			}
			return a.yes, nil
		}
		// One of those who ask looks, for all of them.
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("what became of a commit on %s: %w: %w", c.Member, context.Cause(ctx), a.err)
		case <-a.news:
		case h.turn <- struct{}{}:
			if h.pause(ctx, f.views) {
				f.look(ctx, h)
			}
			<-h.turn
		}
	}
}

// ask joins the hunt for the commits that a member never answered, or begins
// one.
func (f *Finder) ask(c Commit) *hunt {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := f.hunts[c.Member]
	if h == nil || !h.join(c) {
		h = newHunt(c)
		f.hunts[c.Member] = h
	}
	return h
}

// resultAge is how long what a hunt found is kept for those who ask late.
const resultAge = time.Minute

func (f *Finder) forget(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, h := range f.hunts {
		if h.cold(now) {
			delete(f.hunts, name)
		}
	}
}
