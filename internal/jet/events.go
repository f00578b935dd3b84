package jet

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/perdure/perdure/internal/event"
)

// EventsConfig describes the stream of events.
type EventsConfig struct {
	Name     string         // of the stream; default "events"
	Replicas int            // 1 or 3; 0: as many copies as the stream has, 1 at first
	Keep     event.Duration // how long events are kept; default 30 days
	MaxBytes int64          // disk they may take, the oldest go first; default 1 GiB
	// Spool is how many events wait in memory while the store does not take
	// them. The oldest are dropped beyond, and counted. Default 10000.
	Spool int
	// AckTimeout is how long one attempt to store an event waits. Default 5 s.
	AckTimeout time.Duration
}

// Events is the stream of what happened. Publish may be called from anywhere,
// at any time: it takes a lock for a moment and puts the event in memory. Run
// brings it to disk, in order, and goes on trying while the store is away.
type Events struct {
	srv   *Server
	cfg   EventsConfig
	log   *slog.Logger
	space space
	wake  *wake

	spool spool
	heal  healer

	mu     sync.Mutex
	stream jetstream.Stream // nil until it was found or made
	opened chan struct{}    // closed then
	err    error            // why the newest attempt to store failed; nil after a success
	failed time.Time        // since when it fails
}

// Events returns the stream of events. It touches no store: that is up to Run,
// so that a node starts and heals whatever state the store is in.
func (s *Server) Events(cfg EventsConfig, log *slog.Logger) *Events {
	cfg.Name = cmp.Or(cfg.Name, "events")
	cfg.Keep = cmp.Or(cfg.Keep, event.Duration(30*24*time.Hour))
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 1<<30)
	cfg.Spool = cmp.Or(cfg.Spool, 10000)
	cfg.AckTimeout = cmp.Or(cfg.AckTimeout, 5*time.Second)
	return &Events{
		srv: s, cfg: cfg, log: log, wake: newWake(), opened: make(chan struct{}),
		space: space{dir: s.cfg.Dir, reserve: s.cfg.Reserve},
		spool: newSpool(cfg.Spool),
	}
}

// Publish implements event.Publisher. It never blocks and never fails; an event
// that is waiting already, by its ID, is taken once.
func (v *Events) Publish(e event.Event) {
	if dropped := v.spool.put(e); dropped > 0 && (dropped == 1 || dropped%1000 == 0) {
		v.log.Error("events are dropped: their store does not take them", "dropped", dropped, "err", v.Trouble())
	}
}

// Settle waits until every event published before is on disk, or was dropped
// meanwhile. After it returned nil, no crash of this process loses them.
func (v *Events) Settle(ctx context.Context) error { return v.spool.settle(ctx) }

// Trouble is why events cannot be stored at the moment, or nil.
func (v *Events) Trouble() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.err
}

func (v *Events) trouble(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case err != nil && v.err == nil:
		v.failed = time.Now()
		v.log.Warn("events wait in memory: their store does not take them", "err", err)
	case err == nil && v.err != nil:
		v.log.Info("events are stored again", "after", time.Since(v.failed).Round(time.Millisecond))
	}
	v.err = err
}
