package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
)

// Control is an open control store. It is safe for concurrent use.
type Control struct {
	cfg  Config
	log  *slog.Logger
	lock *dirLock // nil if the store is external
	room *room    // nil if the store is external

	forced bool // all other nodes are given up, see Alone

	watches atomic.Uint64 // begun so far; numbers their streams

	changing sync.Mutex // held by whoever starts or stops what runs

	mu     sync.Mutex
	now    *engine // nil while it is laid by, and after Close
	away   error   // why it is laid by
	closed bool

	closing context.Context    // ends when Close begins
	close   context.CancelFunc // ends closing
}

// engine is the store while it can be asked: the etcd inside this process, or
// the way to an external one.
type engine struct {
	client *clientv3.Client
	etcd   *embed.Etcd    // nil if the store is external
	calls  sync.WaitGroup // calls under way, which stop waits for

	ending context.Context // ends when stop begins, and says why
	end    context.CancelCauseFunc
}

func newEngine() *engine {
	r := &engine{}
	r.ending, r.end = context.WithCancelCause(context.Background())
	return r
}

// stop ends calls under way and what answers them. A leader hands over first, so
// that the other nodes need no election.
func (r *engine) stop(why error) {
	r.end(why)
	r.calls.Wait() // nothing may read the files while they are closed
	if r.client != nil {
		_ = r.client.Close() // only says that its context is over
	}
	if r.etcd != nil {
		r.etcd.Close()
	}
}

// Open starts or reaches the store and returns when it answers, which takes a
// majority of its nodes. It runs until Close.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Control, error) {
	c, err := Begin(cfg, log)
	if err != nil {
		return nil, err
	}
	if err := c.Ready(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Begin starts the store, or prepares to reach it, and waits for nobody: until
// a majority of its nodes has met, calls return state.ErrUnavailable. It runs
// until Close. Only a node that joins for the first time needs the others here:
// it has nothing yet.
func Begin(cfg Config, log *slog.Logger) (*Control, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("configuration of the control store: %w", err)
	}
	c := &Control{cfg: cfg, log: log}
	c.closing, c.close = context.WithCancel(context.Background())
	if err := c.beginWith(); err != nil {
		c.Close()
		return nil, fmt.Errorf("open the control store: %w", err)
	}
	return c, nil
}

func (c *Control) beginWith() (err error) {
	if len(c.cfg.Endpoints) > 0 {
		c.now, err = c.dial()
		return err
	}
	if c.lock, err = lockDir(c.cfg.Dir); err != nil {
		return err
	}
	c.room = newRoom(c.cfg, c.log)
	return c.keepRoom()
}

// Ready waits until the store answers, for Config.OpenLimit at most. While its
// disk is full it does not wait, and the error is ErrFull.
func (c *Control) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OpenLimit, fmt.Errorf("not within %s", c.cfg.OpenLimit))
	defer cancel()
	err := c.answers(ctx)
	if r := c.current(); err == nil && r != nil && r.etcd != nil {
		err = c.moved(ctx)
	}
	if err != nil {
		return fmt.Errorf("open the control store: %w", err)
	}
	return nil
}

// answers waits for the first linearizable read.
func (c *Control) answers(ctx context.Context) error {
	for {
		_, err := c.Get(ctx, "open")
		if err == nil {
			return nil
		}
		if permanent(err) || errors.Is(err, ErrFull) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no quorum of %s: %w", c.who(), context.Cause(ctx))
		case <-c.stopped():
			return ErrStopped
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Close ends calls under way and stops the embedded store. A leader hands
// over first, so that the other nodes need no election.
func (c *Control) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.close()
	c.changing.Lock()
	defer c.changing.Unlock()
	if r := c.replace(nil, errClosed); r != nil {
		r.stop(errClosed)
	}
	if c.lock != nil {
		c.lock.release()
		c.lock = nil
	}
}

// replace puts what runs now in the place of what ran, which it returns. why is
// what callers are told while nothing runs.
func (c *Control) replace(r *engine, why error) (before *engine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.now, c.away = c.now, r, why
	return before
}

// current is what runs; nil while the store is laid by.
func (c *Control) current() *engine {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// reason is why nothing runs; nil before the first attempt.
func (c *Control) reason() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.away
}

// begin admits one call: its context ends with ctx, with the call limit, or
// when what runs is stopped. done must be called when the call has returned.
func (c *Control) begin(ctx context.Context) (_ context.Context, r *engine, done func(), err error) {
	if ctx.Err() != nil {
		// Inside one process etcd would not look before it has acted.
		return nil, nil, nil, unavailable(context.Cause(ctx))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, nil, nil, unavailable(errClosed)
	case c.now == nil:
		return nil, nil, nil, unavailable(c.away)
	}
	r = c.now
	r.calls.Add(1)
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.CallLimit, fmt.Errorf("no answer within %s", c.cfg.CallLimit))
	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(r.ending, func() { end(context.Cause(r.ending)) })
	return ctx, r, func() {
		stop()
		end(nil)
		cancel()
		r.calls.Done()
	}, nil
}

// stopped is closed when the embedded store has stopped by itself; nil if there
// is none.
func (c *Control) stopped() <-chan struct{} {
	r := c.current()
	if r == nil || r.etcd == nil {
		return nil
	}
	return r.etcd.Server.StopNotify()
}

func (c *Control) who() string {
	if len(c.cfg.Endpoints) > 0 {
		return fmt.Sprintf("%q", c.cfg.Endpoints)
	}
	if len(c.cfg.Peers) == 0 {
		return c.cfg.Dir
	}
	return fmt.Sprintf("%v", c.cfg.Peers)
}
