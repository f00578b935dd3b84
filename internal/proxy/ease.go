package proxy

import (
	"errors"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/route"
)

// easingAtOnce is how many places are opened at a time for the sessions of a
// drained member. Few: what they cost is taken from the requests that go on.
const easingAtOnce = 8

// door is what it takes to open a connection for a session beside it.
type door struct {
	key   key
	cred  *credential
	caps  uint32
	attrs []byte
}

// ease brings the sessions of a member that is being drained elsewhere without
// their waiting for a new connection: they go on where they are, which still
// works, and leave when their place is open. Signing in costs more than a hundred
// statements, and all of them at once would be felt. p.mu is held.
func (p *Proxy) ease(plan *route.Plan, m *route.Member) {
	if p.leaving.Load() || m.Lost() || !plan.Can(route.Write) && !plan.Can(route.Read) {
		return
	}
	var all []*session
	for _, s := range p.sessions {
		if b := s.att.Load(); b != nil && b.seat.name == m.Name {
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return
	}
	p.easing[m.Name] = true
	p.background(func() {
		defer p.eased(m.Name)
		p.openPlaces(m.Name, all)
	})
}

// eased asks whoever is still on the member to leave with their next request, or
// now if they are idle.
func (p *Proxy) eased(member string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.easing, member)
	if m := p.route.Plan().Member(member); m == nil || !m.Drained {
		return
	}
	for _, s := range p.sessions {
		if b := s.att.Load(); b != nil && b.seat.name == member && s.next.Load() == nil {
			s.goNow()
		}
	}
}

func (p *Proxy) isEasing(member string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.easing[member]
}

func (p *Proxy) openPlaces(from string, all []*session) {
	deadline := time.Now().Add(p.cfg.DrainLimit / 2) // transactions need the rest
	queue := make(chan *session)
	var workers sync.WaitGroup
	for range min(easingAtOnce, len(all)) {
		workers.Go(func() {
			for s := range queue {
				if err := p.openPlace(s); err != nil && !errors.Is(err, errClosed) {
					p.log.Debug("no place opened ahead", "session", s.id, "err", err)
				}
				s.goNow()
			}
		})
	}
	for _, s := range all {
		m := p.route.Plan().Member(from)
		if m == nil || !m.Drained || m.Lost() || p.leaving.Load() || time.Now().After(deadline) {
			break
		}
		if b := s.att.Load(); b != nil && b.seat.name == from && !s.ended() {
			queue <- s
		}
	}
	close(queue)
	workers.Wait()
}

// openPlace opens a connection for a session on a member that can take it.
func (p *Proxy) openPlace(s *session) error {
	d := s.door.Load()
	if d == nil || s.pins.load()&^(brief|resolvable) != 0 {
		return nil // it cannot leave, or not by its own strength
	}
	svc := route.Write
	if s.l.Mode == ReadOnly {
		svc = route.Read
	}
	m := p.route.Plan().Pick(svc, time.Now(), "")
	if m == nil {
		return nil
	}
	st := p.seat(m.Name)
	b := st.take(d.key, true)
	if b == nil {
		if st.full() {
			return errBusy // whoever asks for something first gets what there is
		}
		in := &wire.SignIn{User: d.cred.user, Password: d.cred.password, Caps: d.caps, Collation: d.key.collation, Attrs: d.attrs}
		var err error
		if b, err = st.dial(s.quit, m, in, d.key); err != nil {
			return err
		}
		d.cred.verified()
	}
	if old := s.next.Swap(b); old != nil {
		old.seat.put(old)
	}
	if s.ended() {
		s.notNext()
	}
	return nil
}

// goNow asks the session to leave its member. Any goroutine may call it.
func (s *session) goNow() {
	s.leave.Store(true)
	if s.began.Load() == 0 {
		s.client.Wake()
	}
}

// notNext gives back the place that was opened for the session. Any goroutine may
// call it.
func (s *session) notNext() {
	if b := s.next.Swap(nil); b != nil {
		b.seat.put(b)
	}
}

// lingers tells whether the session may go on using a drained member because its
// place elsewhere is being opened.
func (s *session) lingers(m *route.Member, svc route.Service) bool {
	return m.Lingers(svc) && s.l.Pooling == PerConnection && s.p.isEasing(m.Name)
}

// moveIn takes the place that was opened for the session, and tells whether it
// could.
func (s *session) moveIn(plan *route.Plan, svc route.Service) bool {
	b := s.next.Swap(nil)
	if b == nil {
		return false
	}
	m := plan.Member(b.seat.name)
	if m == nil || m.Lost() || !m.Serves(svc) || s.cred == nil || b.key != s.key {
		b.seat.put(b)
		return false
	}
	return s.adopt(b, plan, m, svc) == nil
}

// moveInIdle is moveIn between two requests, so that not even the first of them
// waits. A session that would have to wait for what it wrote lets that be: its
// client may come first.
func (s *session) moveInIdle(plan *route.Plan) {
	b := s.next.Load()
	if b == nil || plan.Holding || len(s.st.gtid) > 0 && s.st.wrote != b.seat.name {
		return
	}
	s.moveIn(plan, s.svc)
}
