package rule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/state"
)

// work makes the attempts of one lane, one at a time, until ctx ends.
func (d *desk) work(ctx context.Context, lane string) error {
	for {
		t, wait, wake := d.next(lane, time.Now())
		if t != nil {
			if err := d.attempt(ctx, t); err != nil {
				return err
			}
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// next picks the task of a lane whose turn it is and marks it busy, or says how
// long to wait.
func (d *desk) next(which string, now time.Time) (*held, time.Duration, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	wait := time.Minute
	first := map[string]*held{} // by target and subject: tasks about one subject keep their order
	for _, t := range d.tasks {
		if t.State != Waiting || lane(t.Target) != which {
			continue
		}
		key := t.Target + " " + t.Event.Subject
		if f := first[key]; f == nil || t.Order < f.Order {
			first[key] = t
		}
	}
	var pick *held
	for _, t := range first {
		due := t.Next
		if f := d.failing[t.Target]; f != nil && f.until.After(due) {
			due = f.until
		}
		if left := due.Sub(now); t.busy || left > 0 {
			wait = min(wait, max(left, time.Millisecond))
			continue
		}
		// Those that failed least first: one that never will must not keep the
		// others waiting.
		if pick == nil || cmp.Or(cmp.Compare(t.Attempts, pick.Attempts), cmp.Compare(t.Order, pick.Order)) < 0 {
			pick = t
		}
	}
	if pick != nil {
		pick.busy = true
	}
	return pick, wait, d.wake
}

// attempt makes one attempt. It is written down before and after.
func (d *desk) attempt(ctx context.Context, t *held) error {
	p, known := d.targets[t.Target]
	t2 := t.Task
	t2.begin(d.Node, time.Now())
	if ok, err := d.write(ctx, t, t2); !ok || err != nil {
		return err
	}
	var receipt string
	err := error(&goneError{t.Target})
	begin := time.Now()
	if known {
		limited, cancel := context.WithTimeoutCause(ctx, p.Timeout, fmt.Errorf("no answer within %s", p.Timeout))
		receipt, err = safely(limited, p.Target, t2)
		if cause := context.Cause(limited); err != nil && cause != nil && ctx.Err() == nil && !isFinal(err) {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		cancel()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // who leads next makes the attempt again
	}
	now := time.Now()
	t2.end(p.Policy, receipt, err, now)
	d.stats.attempted(t.Target, now.Sub(begin), t2.State)
	d.judge(t2, p.Policy, err, now)
	ok, werr := d.write(ctx, t, t2)
	d.mu.Lock()
	t.busy = false
	d.rouse()
	d.mu.Unlock()
	if werr != nil {
		return werr
	}
	if ok {
		d.tell(t2, err)
	}
	return nil
}

// safely makes an attempt and turns a panic of a target into an error.
func safely(ctx context.Context, target Target, t Task) (receipt string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it panicked: %v", r)
		}
	}()
	return target.Attempt(ctx, t.ID, t.Attempts, t.Event)
}

// goneError is for tasks whose target is not configured any more.
type goneError struct{ target string }

func (e *goneError) Error() string { return e.target + " is not configured any more" }
func (*goneError) Final() string   { return string(Dead) }

func isFinal(err error) bool {
	var final interface{ Final() string }
	return errors.As(err, &final)
}

// write stores a task. It is not ok if a human changed the task meanwhile: his
// word counts.
func (d *desk) write(ctx context.Context, t *held, now Task) (ok bool, err error) {
	doc := state.NewDoc[Task](d.Store, taskPrefix+t.ID)
	rev, err := doc.Put(ctx, now, t.rev, d.fence)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case errors.Is(err, state.ErrConflict):
		theirs, rev, err := doc.Get(ctx)
		t.busy = false
		switch {
		case err != nil:
			return false, err
		case rev == 0:
			delete(d.tasks, t.ID)
		default:
			t.Task, t.rev = theirs, rev
		}
		return false, nil
	case err != nil:
		t.busy = false
		return false, err
	}
	t.Task, t.rev = now, rev
	return true, nil
}

// judge notes how a target does. A refusal of one task says nothing about it.
func (d *desk) judge(task Task, p Policy, err error, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	target := task.Target
	f := d.failing[target]
	if err == nil || isFinal(err) {
		if f != nil && err == nil { // it is back: what waits for it goes out
			delete(d.failing, target)
			for _, t := range d.tasks {
				if t.Target == target && t.State == Waiting {
					t.Next = now
				}
			}
		}
		d.stats.failing(target, time.Time{})
		return
	}
	if task.State == Dead && !d.waits(target, task.ID) {
		// It was told as a dead letter, and nothing is being tried any more.
		delete(d.failing, target)
		d.stats.failing(target, time.Time{})
		return
	}
	if f == nil {
		f = &trouble{since: now}
		d.failing[target] = f
	}
	f.failures++
	f.err = err.Error()
	if !strings.HasPrefix(target, "hook/") { // a hook's failure is about its event
		f.until = now.Add(p.pauseNow(f.failures))
	}
	d.stats.failing(target, f.since)
}

// waits tells whether a target has a task to be tried, beside one. It expects
// the lock.
func (d *desk) waits(target, beside string) bool {
	for id, t := range d.tasks {
		if t.Target == target && t.State == Waiting && id != beside {
			return true
		}
	}
	return false
}

// tell publishes what became of an attempt, where that is news.
func (d *desk) tell(t Task, err error) {
	hook := strings.HasPrefix(t.Target, "hook/")
	kind := event.Kind("")
	switch {
	case t.State == Dead && hook:
		kind = event.HookDead
	case t.State == Dead:
		kind = event.NotifyDead
	case !hook:
		return // receipts are kept with the task
	case t.State == Done:
		kind = event.HookDone
	case t.State == Skipped:
		kind = event.HookSkipped
	default:
		kind = event.HookFailed
	}
	text := fmt.Sprintf("%s for %s (%s): %s", t.Target, t.Event.Kind, t.Event.Subject, strings.TrimPrefix(strings.SplitN(string(kind), ".", 2)[1], ""))
	if err != nil {
		text += ": " + short(err.Error())
		d.Log.Warn("an attempt failed", "target", t.Target, "kind", t.Event.Kind, "attempt", t.Attempts, "state", t.State, "err", err)
	}
	e := event.New(kind, t.Target, text)
	e.ID = event.IDOf("task", t.ID, string(kind), fmt.Sprint(t.Attempts))
	e.Cluster, e.Node, e.Member = d.Cluster, d.Node, t.Event.Member
	d.To.Publish(e.With("target", t.Target).With("task", t.ID).With("event", t.Event.ID).With("event_kind", string(t.Event.Kind)).
		With("attempt", fmt.Sprint(t.Attempts)).With("receipt", short(t.Receipt)))
}
