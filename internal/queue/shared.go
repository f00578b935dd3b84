package queue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/perdure/perdure/internal/state"
)

// Shared is what all nodes of a queue know together, and what survives them.
type Shared struct {
	Paused string    `json:"paused,omitempty"` // by whom
	Since  time.Time `json:"since,omitzero"`
	Halted string    `json:"halted,omitempty"` // why, until a person resumes
	// Resumed counts how often somebody did; a larger number takes away what
	// nodes hold back for reasons of their own.
	Resumed int `json:"resumed,omitempty"`
	// Generation is that of the log, as it was when it was last applied from.
	Generation string `json:"generation,omitempty"`
}

// unread holds a node that does not know yet whether the queue is paused.
const unread = "the control store was not read yet"

// follow obeys what any node has been told, until ctx ends.
func (s *Service) follow(ctx context.Context) error {
	if !s.remembers {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for {
		d, _, err := s.shared.Get(ctx)
		if err == nil {
			s.obey(d) // a watch is silent about a document that does not exist
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
	for d := range s.shared.Watch(ctx) {
		s.obey(d)
	}
	return context.Cause(ctx)
}

func (s *Service) obey(d Shared) {
	s.obeying.Lock()
	defer s.obeying.Unlock()
	a, was := s.Applier, s.obeyed.Load()
	if was != nil && d.Resumed < was.Resumed {
		return // older than what we did ourselves
	}
	if was != nil && d.Resumed > was.Resumed {
		a.Resume()
	}
	if was != nil && was.Paused != "" && was.Paused != d.Paused {
		a.gate.release(pausedBy(was.Paused))
	}
	if d.Paused != "" {
		a.gate.close(pausedBy(d.Paused))
	}
	if d.Halted != "" {
		a.gate.close("halted: " + d.Halted)
	}
	s.obeyed.Store(&d)
	a.gate.release(unread)
}

func pausedBy(name string) string { return "paused by " + name }

// keepHalts writes down that applying is halted: a node that starts again, or
// takes over, must not go on where a person has to look first.
func (s *Service) keepHalts(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case why := <-s.halts:
			for s.remembers {
				d, err := s.shared.Change(ctx, state.Fence{}, func(d *Shared) error { d.Halted = why; return nil })
				if err == nil {
					s.obey(d)
					break
				}
				s.logger.WarnContext(ctx, "that applying is halted is not written down yet", "err", err)
				select {
				case <-ctx.Done():
					return context.Cause(ctx)
				case <-time.After(time.Second):
				}
			}
		}
	}
}

// Pause holds applying on all nodes, over restarts, until Resume; accepting
// goes on. When it returns, this node's last transaction has ended. The error
// is a *Problem.
func (s *Service) Pause(ctx context.Context, c Caller) error {
	if p := mustOperate(c); p != nil {
		return p
	}
	if s.remembers {
		d, err := s.shared.Change(ctx, state.Fence{}, func(d *Shared) error {
			if d.Paused == "" {
				d.Paused, d.Since = c.Name, time.Now().UTC()
			}
			return nil
		})
		if err != nil {
			return controlAway(err)
		}
		s.obey(d)
		c.Name = d.Paused
	}
	s.notice(Notice{Kind: "paused", Detail: pausedBy(c.Name)})
	return s.Applier.Hold(ctx, pausedBy(c.Name))
}

// Resume lets applying go on, on all nodes, whatever it was held for. The error
// is a *Problem.
func (s *Service) Resume(ctx context.Context, c Caller) error {
	if p := mustOperate(c); p != nil {
		return p
	}
	if s.remembers {
		d, err := s.shared.Change(ctx, state.Fence{}, func(d *Shared) error {
			d.Paused, d.Since, d.Halted = "", time.Time{}, ""
			d.Resumed++
			return nil
		})
		if err != nil {
			return controlAway(err)
		}
		s.obey(d)
	}
	s.Applier.Resume()
	s.notice(Notice{Kind: "resumed", Detail: "resumed by " + c.Name})
	return nil
}

func controlAway(err error) *Problem {
	return &Problem{
		Kind: "control-unavailable", Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Err: err,
		Detail: "the control store does not answer: it may or may not have been done",
	}
}

var errSame = errors.New("the log is the one that is remembered")

// Agree returns when the log is the one that was applied from before, or when
// there was none before. A log that is gone and was made anew has lost what
// was accepted and not applied: then nothing is applied until somebody accepts
// that loss by name. What is accepted meanwhile is kept in the new log.
func (s *Service) Agree(ctx context.Context, fence state.Fence) error {
	if !s.remembers {
		return nil
	}
	for told := false; ; {
		err := s.agree(ctx, fence)
		if err == nil || errors.Is(err, state.ErrStale) {
			s.Applier.trouble(troubleLog, nil)
			return err
		}
		s.Applier.trouble(troubleLog, err)
		if errors.Is(err, ErrLost) && !told {
			told = true
			s.logger.ErrorContext(ctx, "nothing is applied until the loss is accepted", "err", err)
			s.notice(Notice{Kind: "lost", Detail: err.Error()})
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (s *Service) agree(ctx context.Context, fence state.Fence) error {
	st, err := s.log.State(ctx)
	if err != nil {
		return err
	}
	now := generation(st)
	d, err := s.shared.Change(ctx, fence, func(d *Shared) error {
		if d.Generation != "" {
			return errSame
		}
		d.Generation = now
		return nil
	})
	if err != nil && !errors.Is(err, errSame) {
		return err
	}
	if d.Generation != now {
		return fmt.Errorf("the log of generation %s is gone and this one is new (%s): %w; see `perdure queue accept-loss`", d.Generation, now, ErrLost)
	}
	return nil
}

func generation(st LogState) string { return fmt.Sprintf("%016x", st.Generation) }

// AcceptLoss gives up the log of that generation, which is gone: writes go on
// from the log there is. Writes of the lost log that were set aside in the
// database become dead letters, for somebody to retry or discard. The error is
// a *Problem.
func (s *Service) AcceptLoss(ctx context.Context, c Caller, lost string) error {
	if p := mustOperate(c); p != nil {
		return p
	}
	if !s.remembers {
		return problem(http.StatusConflict, "nothing-lost", "this node remembers no log")
	}
	st, err := s.log.State(ctx)
	if err != nil {
		return unavailable(err)
	}
	now := generation(st)
	d, _, err := s.shared.Get(ctx)
	switch {
	case err != nil:
		return controlAway(err)
	case d.Generation == "" || d.Generation == now:
		return problem(http.StatusConflict, "nothing-lost", "the log is the one that was applied from before (generation %s): nothing was changed", now)
	case lost != d.Generation:
		return &Problem{
			Kind: "name-the-loss", Status: http.StatusConflict, Detail: "the generation that is lost has to be named; nothing was changed",
			Hint: "see `perdure queue status` which one it is; what was accepted into it and not applied is given up",
		}
	}
	t, err := s.route.Writer(ctx)
	if err != nil {
		return databaseAway(err)
	}
	n, err := buryHeld(ctx, t.DB, st.Generation)
	if err != nil {
		return wrapDB(err, "burying what waits from the lost log")
	}
	d, err = s.shared.Change(ctx, state.Fence{}, func(d *Shared) error {
		if d.Generation != lost {
			return errMoved
		}
		d.Generation, d.Halted = now, ""
		d.Resumed++
		return nil
	})
	if errors.Is(err, errMoved) {
		return problem(http.StatusConflict, "nothing-lost", "somebody else accepted it meanwhile")
	}
	if err != nil {
		return controlAway(err)
	}
	s.obey(d)
	s.logger.WarnContext(ctx, "the loss of a log was accepted", "by", c.Name, "lost", lost, "now", now, "dead", n)
	s.notice(Notice{Kind: "resumed", Detail: fmt.Sprintf("%s accepted the loss of the log %s; %d writes of it lie with the dead letters", c.Name, lost, n)})
	return nil
}
