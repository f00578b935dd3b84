package watch

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/state"
)

// TellerConfig is what a Teller needs.
type TellerConfig struct {
	Watch *Watcher
	Store state.Store
	// Hold waits until this node may act; the context ends with the right to.
	Hold func(context.Context) (context.Context, state.Fence, error)
	To   event.Publisher
	// Settle, if set, waits until what was published is stored. It is only
	// waited for so that a crash loses nothing.
	Settle func(context.Context) error
	Node   string
	Limits Limits
	Log    *slog.Logger
}

// Teller publishes what the watcher's Views tell, on the node that leads.
// Nothing waits for it.
type Teller struct {
	TellerConfig
	doc state.Doc[Told]
}

// toldKey is where Told is kept.
const toldKey = "watch/told"

// settleLimit is how long a change waits to be stored before the next is
// looked at. What is not stored then stays in the outbox and is offered again.
const settleLimit = 2 * time.Second

// maxOutbox bounds the document when the store of events is away for long.
const maxOutbox = 200

// NewTeller returns a Teller. It does nothing before Run.
func NewTeller(c TellerConfig) *Teller {
	return &Teller{TellerConfig: c, doc: state.NewDoc[Told](c.Store, toldKey)}
}

// Run tells until ctx ends.
func (t *Teller) Run(ctx context.Context) error {
	for {
		held, fence, err := t.Hold(ctx)
		if err != nil {
			return err
		}
		err = t.lead(held, fence)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t.Log.Debug("this node tells no longer", "err", err)
		select { // an unreachable store must not make this spin
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (t *Teller) lead(ctx context.Context, fence state.Fence) error {
	told, rev, err := t.doc.Get(ctx)
	if err != nil {
		return err
	}
	changes, end := t.Watch.Changes()
	defer end()
	// Lag and queues move without a change of judgement.
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		events, now := Events(told, t.Watch.View(), t.Limits)
		stored := t.offer(ctx, told.Outbox)
		if stored {
			now.Outbox = nil
		}
		if len(events) > 0 || (stored && len(told.Outbox) > 0) {
			for i := range events {
				events[i].Node = t.Node
			}
			now.Outbox = append(now.Outbox, events...)
			now.Outbox = now.Outbox[max(0, len(now.Outbox)-maxOutbox):]
			if rev, err = t.doc.Put(ctx, now, rev, fence); err != nil {
				return err
			}
			told = now
			if len(events) > 0 {
				continue // offer them
			}
		} else {
			now.Outbox, told = told.Outbox, now
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		case <-tick.C:
		}
	}
}

// offer publishes what is in the outbox and tells whether all of it is stored.
// An event that is offered again has the same ID.
func (t *Teller) offer(ctx context.Context, outbox []event.Event) bool {
	for _, e := range outbox {
		t.To.Publish(e)
	}
	if len(outbox) == 0 || t.Settle == nil {
		return true
	}
	limited, cancel := context.WithTimeoutCause(ctx, settleLimit, errors.New("the events are not stored yet"))
	defer cancel()
	return t.Settle(limited) == nil
}
