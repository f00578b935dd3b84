package plan

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/state"
)

// Actor does steps. Both methods look first and do what is missing.
type Actor interface {
	// Do does the step. It may call save to record, before it changes anything,
	// what an undo needs (step.Before), and note to say how far it is.
	Do(ctx context.Context, step *Step, j Journal) error
	// Undo takes the step back, using what Do recorded. The step may have been
	// done, half done or not done at all.
	Undo(ctx context.Context, step *Step, j Journal) error
}

// Journal is how a step reports while it runs.
type Journal struct {
	// Save writes the step as it is now; the change it announces must not begin
	// before Save returned nil.
	Save func() error
	// Note says how far the step is. It is written at most a few times a second
	// and may be lost.
	Note func(format string, args ...any)
}

// Runner runs plans, one at a time.
type Runner struct {
	Doc   state.Doc[Plan]
	Fence state.Fence
	Node  string
	Actor Actor
	// Abort, if not nil, gives the name of whoever wants the plan taken back. It
	// breaks off the step that runs, unless that is to be done whole, and is not
	// heard any more once a final step has begun.
	Abort <-chan string
	// Written, if set, is called after each write of the journal, with the plan
	// as written. It must not keep or change it.
	Written func(Plan)
}

// Run takes the plan from wherever its journal says it is to its end, and
// returns it. An error means that the journal could not be written or that ctx
// ended: the plan goes on later, maybe on another node. A plan that failed is
// not an error here; its State says so.
func (r *Runner) Run(ctx context.Context) (Plan, error) {
	p, rev, err := r.Doc.Get(ctx)
	if err != nil {
		return p, err
	}
	w := &writer{runner: r, plan: &p, rev: rev}
	for i := range p.Steps {
		if p.State != Running {
			break
		}
		if p.Steps[i].State == StepDone {
			continue
		}
		if err := w.aborted(ctx); err != nil {
			return p, err
		}
		if p.State != Running {
			break
		}
		if err := w.do(ctx, &p.Steps[i]); err != nil {
			return p, err
		}
	}
	if p.State == Running {
		p.State, p.Ended = Done, now()
		return p, w.write(ctx)
	}
	if p.State == Undoing {
		return p, w.undo(ctx)
	}
	return p, nil
}

// writer owns the plan while it runs; only notes come from other goroutines.
type writer struct {
	runner *Runner
	mu     sync.Mutex
	plan   *Plan
	rev    state.Revision
	noted  time.Time
	by     string // who wants the plan taken back
}

// errAborted ends the context of a step that is broken off.
var errAborted = errors.New("aborted")

// aborted turns a plan around that a human wants taken back.
func (w *writer) aborted(ctx context.Context) error {
	select {
	case w.by = <-w.runner.Abort:
	default:
	}
	if w.by == "" || w.plan.Abortable() != nil {
		return nil
	}
	return w.change(ctx, func() {
		w.plan.State, w.plan.Aborted, w.plan.Error = Undoing, w.by, "aborted by "+w.by
	})
}

// act does a step, and breaks it off when a human wants the plan taken back.
func (w *writer) act(ctx context.Context, s *Step) error {
	if w.runner.Abort == nil || s.Whole || w.plan.Abortable() != nil {
		return w.runner.Actor.Do(ctx, s, w.journal(ctx, s))
	}
	at, cancel := context.WithCancelCause(ctx)
	var listener sync.WaitGroup
	listener.Go(func() {
		select {
		case w.by = <-w.runner.Abort:
			cancel(errAborted)
		case <-at.Done():
		}
	})
	err := w.runner.Actor.Do(at, s, w.journal(ctx, s))
	cancel(nil)
	listener.Wait()
	return err
}

func (w *writer) do(ctx context.Context, s *Step) error {
	if err := w.change(ctx, func() {
		s.State, s.Begin, s.End, s.Note = Begun, now(), time.Time{}, ""
	}); err != nil {
		return err
	}
	err := w.act(ctx, s)
	if ctx.Err() != nil { // stopped or lost the lease: somebody goes on from here
		return context.Cause(ctx)
	}
	if errors.Is(err, state.ErrStale) || errors.Is(err, state.ErrUnavailable) || errors.Is(err, state.ErrConflict) {
		return err
	}
	return w.change(ctx, func() {
		s.End = now()
		if err == nil {
			s.State = StepDone
			return
		}
		s.State, w.plan.State = StepFailed, Undoing
		if w.by != "" {
			w.plan.Aborted, w.plan.Error = w.by, "aborted by "+w.by
			return
		}
		w.plan.Error, w.plan.Hint = fmt.Sprintf("%s: %v", s, err), Hint(err)
		if refused, ok := errors.AsType[*RefusedError](err); ok {
			w.plan.Refused, w.plan.Error = true, refused.Error()
		}
	})
}

// undo takes back every step that was begun, the newest first, down to the last
// one that is done and to be kept. It goes on after a failure: less left behind is better, and the error names what is.
func (w *writer) undo(ctx context.Context) error {
	p := w.plan
	var left []string
	for i := len(p.Steps) - 1; i >= 0; i-- {
		s := &p.Steps[i]
		if s.Keep && s.State == StepDone {
			break
		}
		if s.State == Waiting || s.State == TakenBack {
			continue
		}
		if err := w.change(ctx, func() { s.State = TakingBack }); err != nil {
			return err
		}
		err := w.runner.Actor.Undo(ctx, s, w.journal(ctx, s))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.change(ctx, func() {
			s.State, s.End = TakenBack, now()
			if err != nil {
				s.State, s.Note = StepFailed, "could not be taken back: "+err.Error()
			}
		}); err != nil {
			return err
		}
		if err != nil {
			left = append(left, fmt.Sprintf("%s could not be taken back: %v", s, err))
		}
	}
	return w.change(ctx, func() {
		p.State, p.Ended = Undone, now()
		if len(left) > 0 {
			p.State = Failed
			for _, l := range left {
				p.Error += "; " + l
			}
		}
	})
}

func (w *writer) journal(ctx context.Context, s *Step) Journal {
	return Journal{
		Save: func() error { return w.change(ctx, func() {}) },
		Note: func(format string, args ...any) {
			w.mu.Lock()
			s.Note = fmt.Sprintf(format, args...)
			due := time.Since(w.noted) > 300*time.Millisecond
			if due {
				w.noted = time.Now()
			}
			w.mu.Unlock()
			if due {
				_ = w.change(ctx, func() {}) // the next write brings it
			}
		},
	}
}

func (w *writer) change(ctx context.Context, edit func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	edit()
	return w.writeLocked(ctx)
}

func (w *writer) write(ctx context.Context) error { return w.change(ctx, func() {}) }

func (w *writer) writeLocked(ctx context.Context) error {
	w.plan.Node, w.plan.Epoch = w.runner.Node, w.runner.Fence.Epoch
	rev, err := w.runner.Doc.Put(ctx, *w.plan, w.rev, w.runner.Fence)
	if err != nil {
		return err
	}
	w.rev = rev
	if w.runner.Written != nil {
		w.runner.Written(*w.plan)
	}
	return nil
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
