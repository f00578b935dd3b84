package lease

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/state"
)

// Keeper tries to hold one lease for one node, and says when it does.
// Its methods are safe for concurrent use.
type Keeper struct {
	cfg   Config
	store state.Store
	log   *slog.Logger

	// What follows belongs to Run.

	sight    sight    // while another node leads, or none
	token    string   // of the attempts to take the lease since it was lost; "" if none
	mine     *holding // nil while this node does not lead
	troubled bool     // the last call had no answer, and that was logged

	// What follows is shared.

	mu     sync.Mutex
	trust  *trust        // nil while this node may not act
	gained chan struct{} // closed and replaced when trust is gained
	leader Leader
}

// holding is the document of our own term.
type holding struct {
	epoch int64
	rev   state.Revision
	doc   document
	next  time.Time // when to renew
}

// Leader is who holds the lease, as this node saw it last.
type Leader struct {
	Holder string    // "" if nobody did
	Since  time.Time // when the term began, by the holder's wall clock
	Seen   time.Time // when this node last had an answer about it
}

// New returns a Keeper for a lease in store. It does nothing until Run.
func New(store state.Store, cfg Config, log *slog.Logger) (*Keeper, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("lease %s: %w", cfg.Name, err)
	}
	return &Keeper{
		cfg:    cfg,
		store:  store,
		log:    log.With("lease", cfg.Name),
		gained: make(chan struct{}),
	}, nil
}

// Run tries to hold the lease until ctx ends, and gives it back. It must run
// once, and end after the work that is done under Hold has ended.
func (k *Keeper) Run(ctx context.Context) error {
	changes, stop := k.watch(ctx)
	defer stop()
	renewed := false
	var until time.Time
	for {
		if renewed {
			until = time.Now().Add(k.cfg.every() * 3 / 2) // the next renewal comes before
		} else {
			until = k.step(ctx)
		}
		wake := changes
		if k.mine != nil {
			wake = nil // these are our own renewals
		}
		renewed = false
		timer := time.NewTimer(time.Until(until))
		select {
		case <-ctx.Done():
			timer.Stop()
			k.release(context.WithoutCancel(ctx))
			return context.Cause(ctx)
		case s := <-wake:
			renewed = k.glimpse(s)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// watch passes on the newest change of the document. It only saves time: a
// change may be missed, and before anything is done the document is read.
func (k *Keeper) watch(ctx context.Context) (changes <-chan sight, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	newest, done := make(chan sight, 1), make(chan struct{})
	go func() {
		defer close(done)
		for e := range k.store.Watch(ctx, state.LeaseKey(k.cfg.Name)) {
			if e.Key != state.LeaseKey(k.cfg.Name) {
				continue
			}
			select {
			case <-newest: // nobody wanted it
			default:
			}
			newest <- sight{Revision: e.Revision, Since: time.Now(), Doc: k.decode(e)}
		}
	}()
	return newest, func() { cancel(); <-done }
}

// glimpse starts the clock of a holder at the moment a renewal came along. The
// read that follows could take an election longer, because it asks a majority.
// It tells whether there is nothing to read: the holder that was read of before
// goes on. A renewal comes four times in three seconds, and a question to a
// majority for each of them, from every node, is what most of its reads would be.
func (k *Keeper) glimpse(s sight) (goesOn bool) {
	before := k.sight
	if s.Revision <= before.Revision {
		return false
	}
	k.sight = s
	goesOn = before.Revision != 0 && s.Doc.Token == before.Doc.Token && s.Doc.Token != k.token && s.Doc.Holder != k.cfg.Holder
	if goesOn {
		k.answered(s.Revision, s.Doc)
	}
	return goesOn
}

// Term returns this node's term, and whether it may act in it now.
func (k *Keeper) Term() (Term, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.trust == nil || !k.trust.window.holds(time.Now()) {
		return Term{}, false
	}
	return k.trust.current(), true
}

// Hold waits until this node may act, and returns a context that ends when it
// must stop, with a cause that is ErrOver and says why. TrustedUntil of the
// term is the window at this moment; renewals move it.
func (k *Keeper) Hold(ctx context.Context) (context.Context, Term, error) {
	for {
		k.mu.Lock()
		trust, gained := k.trust, k.gained
		var term Term
		ok := trust != nil && trust.window.holds(time.Now())
		if ok {
			term = trust.current()
		}
		k.mu.Unlock()
		if ok {
			return during(ctx, trust.ctx), term, nil
		}
		select {
		case <-ctx.Done():
			return nil, Term{}, context.Cause(ctx)
		case <-gained:
		case <-time.After(k.cfg.every()): // the wall clock closed a window that is open again
		}
	}
}

// during is ctx until trusted ends.
func during(ctx, trusted context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(trusted, func() { cancel(context.Cause(trusted)) })
	context.AfterFunc(ctx, func() { stop() })
	return ctx
}

// Leader returns who leads, for people: it may be old, see Leader.Seen.
func (k *Keeper) Leader() Leader {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.leader
}
