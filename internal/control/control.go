package control

import (
	"context"
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
	cfg    Config
	log    *slog.Logger
	client *clientv3.Client
	etcd   *embed.Etcd // nil if the store is external
	lock   *dirLock    // nil if the store is external

	watches atomic.Uint64 // begun so far; numbers their streams

	mu      sync.Mutex
	closed  bool
	calls   sync.WaitGroup     // calls under way, which Close waits for
	closing context.Context    // ends when Close begins
	close   context.CancelFunc // ends closing
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
	var err error
	if len(cfg.Endpoints) > 0 {
		err = c.dial()
	} else {
		err = c.start()
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("open the control store: %w", err)
	}
	return c, nil
}

// Ready waits until the store answers, for Config.OpenLimit at most.
func (c *Control) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.OpenLimit, fmt.Errorf("not within %s", c.cfg.OpenLimit))
	defer cancel()
	err := c.answers(ctx)
	if err == nil && c.etcd != nil {
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
		if permanent(err) {
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
	already := c.closed
	c.closed = true
	c.mu.Unlock()
	c.close()
	c.calls.Wait() // nothing may read the files while they are closed
	if already {
		return
	}
	if c.client != nil {
		_ = c.client.Close() // only says that its context is over
	}
	if c.etcd != nil {
		c.etcd.Close()
	}
	if c.lock != nil {
		c.lock.release()
	}
}

// begin admits one call: its context ends with ctx, with the call limit, or
// with Close. done must be called when the call has returned.
func (c *Control) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	if ctx.Err() != nil {
		// Inside one process etcd would not look before it has acted.
		return nil, nil, unavailable(context.Cause(ctx))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, unavailable(errClosed)
	}
	c.calls.Add(1)
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.CallLimit, fmt.Errorf("no answer within %s", c.cfg.CallLimit))
	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.closing, func() { end(errClosed) })
	return ctx, func() {
		stop()
		end(nil)
		cancel()
		c.calls.Done()
	}, nil
}

// stopped is closed when the embedded store has stopped; nil if there is none.
func (c *Control) stopped() <-chan struct{} {
	if c.etcd == nil {
		return nil
	}
	return c.etcd.Server.StopNotify()
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
