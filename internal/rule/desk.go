package rule

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/state"
)

const (
	maxWaiting = 1000               // tasks a target may have waiting
	keepEnded  = 500                // tasks that ended, beside dead letters
	keepDead   = 500                // dead letters
	keepFor    = 7 * 24 * time.Hour // both
)

// desk is what the node that leads has before it: every task, as the store has
// it.
type desk struct {
	*Rules
	fence state.Fence

	mu      sync.Mutex
	tasks   map[string]*held
	order   uint64
	silent  []Silence
	failing map[string]*trouble // targets
	wake    chan struct{}       // closed and replaced when there is something to do
}

// trouble is a target that fails.
type trouble struct {
	failures int
	since    time.Time
	until    time.Time // it is left alone until then
	err      string
}

func (r *Rules) openDesk(ctx context.Context, fence state.Fence) (*desk, error) {
	d := &desk{Rules: r, fence: fence, tasks: map[string]*held{}, failing: map[string]*trouble{}, wake: make(chan struct{})}
	entries, err := r.Store.List(ctx, taskPrefix)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		t, err := readTask(e)
		if err != nil {
			r.Log.Warn("a task cannot be read", "err", err)
			continue
		}
		d.tasks[t.ID] = t
		d.order = max(d.order, t.Order)
	}
	d.silent, _, err = r.silences.Get(ctx)
	return d, err
}

// add writes a task for every due event that has none yet.
func (d *desk) add(ctx context.Context, all []due) error {
	for _, one := range all {
		id := event.IDOf(one.event.ID, one.target)
		d.mu.Lock()
		_, known := d.tasks[id]
		waiting := 0
		for _, t := range d.tasks {
			if t.Target == one.target && t.State == Waiting {
				waiting++
			}
		}
		d.order++
		order := d.order
		d.mu.Unlock()
		if known {
			continue
		}
		if waiting >= maxWaiting {
			d.stats.overflow(one.target)
			continue
		}
		now := time.Now()
		t := &held{Task: Task{
			ID: id, Target: one.target, Rule: one.rule, Event: one.event, Order: order,
			State: Waiting, Created: now.UTC(), Next: now.UTC(),
		}}
		rev, err := state.NewDoc[Task](d.Store, taskPrefix+id).Put(ctx, t.Task, 0, d.fence)
		if errors.Is(err, state.ErrConflict) {
			continue // it is there, and heed brings it
		}
		if err != nil {
			return err
		}
		t.rev = rev
		d.mu.Lock()
		if d.tasks[id] == nil { // heed may have been faster
			d.tasks[id] = t
		}
		d.rouse()
		d.mu.Unlock()
	}
	return nil
}

// rouse wakes the lanes. It expects the lock.
func (d *desk) rouse() {
	close(d.wake)
	d.wake = make(chan struct{})
}

// heed takes over what others change: redriven and discarded tasks, silences.
func (d *desk) heed(ctx context.Context) error {
	for e := range d.Store.Watch(ctx, "rules/") {
		id, isTask := strings.CutPrefix(e.Key, taskPrefix)
		switch {
		case e.Key == silenceKey:
			s, _, err := d.Rules.silences.Get(ctx)
			if err != nil {
				return err
			}
			d.mu.Lock()
			d.silent = s
			d.mu.Unlock()
		case isTask && e.Revision == 0:
			d.mu.Lock()
			if t := d.tasks[id]; t != nil && !t.busy {
				delete(d.tasks, id)
				d.rouse()
			}
			d.mu.Unlock()
		case isTask:
			t, err := readTask(e)
			if err != nil {
				continue
			}
			d.mu.Lock()
			if old := d.tasks[id]; old == nil || (!old.busy && old.rev < t.rev) {
				d.tasks[id] = t
				d.rouse()
			}
			d.mu.Unlock()
		}
	}
	return context.Cause(ctx)
}

// sweep removes tasks that ended long ago, every minute.
func (d *desk) sweep(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		for _, t := range d.old(time.Now()) {
			err := d.Store.Delete(ctx, taskPrefix+t.ID, t.rev, d.fence)
			if err != nil && !errors.Is(err, state.ErrConflict) {
				return err
			}
			d.mu.Lock()
			delete(d.tasks, t.ID)
			d.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// old are the tasks that may go.
func (d *desk) old(now time.Time) []*held {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ended, dead []*held
	for _, t := range d.tasks {
		switch t.State {
		case Waiting:
		case Dead:
			dead = append(dead, t)
		default:
			ended = append(ended, t)
		}
	}
	pick := func(all []*held, keep int) (out []*held) {
		slices.SortFunc(all, func(a, b *held) int { return b.Ended.Compare(a.Ended) })
		for i, t := range all {
			// What ended a moment ago may come again: the place in the stream
			// is written a little later.
			if now.Sub(t.Ended) > time.Minute && (i >= keep || now.Sub(t.Ended) > keepFor) {
				out = append(out, t)
			}
		}
		return out
	}
	return append(pick(ended, keepEnded), pick(dead, keepDead)...)
}
