package mysqld

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// life is the time from a Start until the server is down for good. It may see
// several processes.
type life struct {
	// proc is the newest process, guarded by Server.mu.
	proc *process
	// condemned is set, and downed closed, when no further process may start;
	// guarded by Server.mu.
	condemned bool
	downed    chan struct{}
	// ended is closed when supervise returns. Who ends a life waits for it.
	ended chan struct{}
}

// again decides whether a server is started again after exit, and how long to
// wait first.
func again(exit Exit, condemned bool, crashDelay time.Duration) (delay time.Duration, yes bool) {
	switch {
	case condemned:
		return 0, false
	case exit.asksForRestart():
		return 0, true
	case exit.Code == 0: // SHUTDOWN over SQL: somebody wanted it down
		return 0, false
	case crashDelay > 0:
		return crashDelay, true
	}
	return 0, false
}

// supervise follows the processes of one life and ends with it.
func (s *Server) supervise(l *life) {
	defer close(l.ended)
	for p := l.first(s); ; {
		<-p.done
		s.mu.Lock()
		delay, yes := again(p.exit, l.condemned, s.cfg.RestartDelay)
		if !yes {
			s.life = nil
			s.mu.Unlock()
			s.cfg.Log.Info("server is down", "exit", p.exit.String())
			return
		}
		s.mu.Unlock()
		s.cfg.Log.Info("server is started again", "exit", p.exit.String(), "in", delay)
		select {
		case <-time.After(delay):
		case <-l.downed:
		}
		if p = s.relaunch(l, p.exit); p == nil {
			return
		}
	}
}

func (l *life) first(s *Server) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.proc
}

// relaunch starts the next process, or ends the life when it was condemned
// meanwhile or nothing can be started.
func (s *Server) relaunch(l *life, exit Exit) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.condemned {
		s.life = nil
		return nil
	}
	p, err := s.launch()
	if err != nil {
		s.cfg.Log.Error("server cannot be started again", "exit", exit.String(), "err", err)
		s.life = nil
		return nil
	}
	l.proc = p
	return p
}

// Exited is closed when the process that runs now has ended, whatever comes
// after it. It is closed already when the server is down.
func (s *Server) Exited() <-chan struct{} {
	l := s.current()
	if l == nil {
		return closed
	}
	return s.process(l).done
}

// Down is closed when the server is down and will not come back by itself.
func (s *Server) Down() <-chan struct{} {
	l := s.current()
	if l == nil {
		return closed
	}
	return l.ended
}

// PID is the process that runs now, 0 when there is none.
func (s *Server) PID() int {
	l := s.current()
	if l == nil {
		return 0
	}
	p := s.process(l)
	select {
	case <-p.done:
		return 0
	default:
		return p.pid
	}
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (s *Server) current() *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life
}

func (s *Server) process(l *life) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.proc
}

// condemn says that no further process may start in this life.
func (s *Server) condemn(l *life) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !l.condemned {
		l.condemned = true
		close(l.downed)
	}
}

// signal reaches the process that runs now.
func (s *Server) signal(l *life, sig syscall.Signal) error {
	if err := s.process(l).signal(sig); err != nil {
		return fmt.Errorf("server %s: %w", s.cfg.Name, err)
	}
	return nil
}

// end condemns the life, sends sig and waits for the end.
func (s *Server) end(l *life, sig syscall.Signal) error {
	s.condemn(l)
	if err := s.signal(l, sig); err != nil {
		return err
	}
	<-l.ended
	return nil
}

// untilUsable waits for the first usable moment of a life. A process that asks
// for a restart on the way is no failure: the next one may be usable.
func (s *Server) untilUsable(ctx context.Context, l *life) error {
	for {
		p := s.process(l)
		err := usable(ctx, p, s.socket, s.Address())
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-p.done:
			if p.exit.asksForRestart() && s.next(ctx, l, p) {
				continue
			}
		default:
		}
		return err
	}
}

// next waits for the process after p, and is false when there will be none or
// ctx ends.
func (s *Server) next(ctx context.Context, l *life, p *process) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.process(l) == p {
		select {
		case <-l.ended:
			return false
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}
