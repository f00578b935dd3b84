package jet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/perdure/perdure/internal/queue"
)

// LateLog is a queue.Log that is opened while the node runs: until the stream's
// servers have met, appends are refused and readers wait.
type LateLog struct {
	srv  *Server
	cfg  LogConfig
	log  *slog.Logger
	open chan struct{} // closed once l is there
	l    *Log
}

// LateLog returns the log. Run opens it. With Replicas 0 a stream that exists
// keeps the number of copies it has.
func (s *Server) LateLog(cfg LogConfig, log *slog.Logger) *LateLog {
	return &LateLog{srv: s, cfg: cfg, log: log, open: make(chan struct{})}
}

// Open opens the log within ctx. It may be called again after an error, and is
// not called beside itself.
func (t *LateLog) Open(ctx context.Context) error {
	if t.l != nil {
		return nil
	}
	cfg := t.cfg
	if cfg.Replicas == 0 {
		n, err := t.srv.copiesOf(ctx, cfg.Name)
		if err != nil {
			return err
		}
		cfg.Replicas = n
	}
	l, err := t.srv.OpenLog(ctx, cfg)
	if err != nil {
		return err
	}
	t.l = l
	close(t.open)
	return nil
}

// Run opens the log, however long that takes, and returns when ctx ends. An
// answer that will not change is its error.
func (t *LateLog) Run(ctx context.Context) error {
	for t.l == nil {
		try, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := t.Open(try)
		cancel()
		if err != nil && ctx.Err() == nil {
			if errors.Is(err, queue.ErrLost) || errors.Is(err, errRefused) {
				return err
			}
			t.log.Warn("the log of the write queue is not open yet: writes are refused", "err", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(250 * time.Millisecond):
		}
	}
	t.log.Info("the log of the write queue is open")
	<-ctx.Done()
	return context.Cause(ctx)
}

func (t *LateLog) ready() (*Log, error) {
	select {
	case <-t.open:
		return t.l, nil
	default:
		return nil, fmt.Errorf("%w: its nodes have not met since this node began", queue.ErrUnavailable)
	}
}

// Append implements queue.Log.
func (t *LateLog) Append(ctx context.Context, frame []byte) (uint64, error) {
	l, err := t.ready()
	if err != nil {
		return 0, err
	}
	return l.Append(ctx, frame)
}

// Read implements queue.Log.
func (t *LateLog) Read(ctx context.Context, from uint64) ([]queue.Entry, error) {
	select {
	case <-t.open:
		return t.l.Read(ctx, from)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// State implements queue.Log.
func (t *LateLog) State(ctx context.Context) (queue.LogState, error) {
	l, err := t.ready()
	if err != nil {
		return queue.LogState{}, err
	}
	return l.State(ctx)
}

// Trim implements queue.Log.
func (t *LateLog) Trim(ctx context.Context, before uint64) error {
	l, err := t.ready()
	if err != nil {
		return err
	}
	return l.Trim(ctx, before)
}

// copiesOf is how many copies a stream has; 1 if there is none yet.
func (s *Server) copiesOf(ctx context.Context, stream string) (int, error) {
	js, err := s.api()
	if err != nil {
		return 0, err
	}
	for {
		// A question asked before there is a leader is never answered.
		try, cancel := context.WithTimeout(ctx, time.Second)
		st, err := js.Stream(try, stream)
		cancel()
		switch {
		case err == nil:
			return st.CachedInfo().Config.Replicas, nil
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return 1, nil
		}
		select {
		case <-ctx.Done():
			return 0, errors.Join(err, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}
