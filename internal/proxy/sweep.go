package proxy

import (
	"context"
	"time"

	"github.com/perdure/perdure/internal/mysql/lexer"
	"github.com/perdure/perdure/internal/route"
)

const (
	sweepEvery = 250 * time.Millisecond
	// restAfter is when an idle session gives its buffers back.
	restAfter = time.Second
	// longRequest is when we begin to look whether the client is still there.
	longRequest = time.Second
	// stopAgain is when a statement that runs too long, and did not stop, is
	// stopped once more: it may not have reached its member the first time.
	stopAgain = time.Second
	// balanceEvery is how often sessions may be asked to move for balance.
	balanceEvery = 2 * time.Second
)

// sweep looks after everything that is a matter of time, so that no session
// needs a timer of its own.
func (p *Proxy) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var pruned, balanced int64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := clock()
		for _, s := range p.list() {
			p.look(s, now)
		}
		if now-pruned > int64(5*time.Second) {
			pruned = now
			for _, st := range p.seatList() {
				st.prune(p.drainedFor(st.name) > 2*time.Second)
			}
			p.creds.prune(10 * time.Minute)
			p.rates.prune()
		}
		if now-balanced > int64(balanceEvery) {
			balanced = now
			p.balance(route.Write)
			p.balance(route.Read)
		}
	}
}

func (p *Proxy) look(s *session, now int64) {
	began := s.began.Load()
	if began == 0 {
		p.lookIdle(s, now)
		return
	}
	took := now - began
	if took > int64(longRequest) && s.who.Load() != nil && s.client.Gone() && !s.ended() {
		p.log.Info("client left while its statement ran", "session", s.id, "user", s.userName())
		s.quitOnce.Do(func() { close(s.quit) })
		p.background(func() { s.stop(true) })
		return
	}
	if limit := int64(p.cfg.QueryTimeout); limit > 0 && took > limit && now-s.stoppedAt.Load() > int64(stopAgain) {
		if !s.timedOut.Swap(true) {
			p.m.timeouts.Add(1)
		}
		s.stoppedAt.Store(now)
		p.background(func() { s.stop(false) })
	}
}

func (p *Proxy) lookIdle(s *session, now int64) {
	rested := s.rested.Load()
	if rested == 0 || s.pins.load()&pinTunnel != 0 {
		return
	}
	idle := now - rested
	switch {
	case p.cfg.IdleTimeout > 0 && idle > int64(p.cfg.IdleTimeout):
		s.end()
	case idle > int64(restAfter) && !s.resting.Load():
		s.resting.Store(true)
		s.client.Wake()
	}
	if !s.inTrx.Load() || now-s.trxSince.Load() < int64(p.cfg.DrainLimit) {
		return
	}
	// An idle transaction keeps its member only so long while that is drained.
	b := s.att.Load()
	if b == nil {
		return
	}
	if m := p.route.Plan().Member(b.seat.name); m != nil && m.Drained && p.drainedFor(b.seat.name) > p.cfg.DrainLimit {
		_ = b.conn.Close() // the next request hears that the transaction is gone
	}
}

// helper is a session of the same user that has no client and never ends: for
// what is done beside a session, or after it.
func (s *session) helper() *session {
	return &session{p: s.p, l: s.l, user: s.user, cred: s.cred, key: s.key, quit: make(chan struct{})}
}

// stop ends the statement a session runs. It is called beside the session, so it
// uses a copy of what it needs.
func (s *session) stop(cut bool) {
	s.killing.Add(1)
	defer s.killing.Add(-1)
	b := s.att.Load()
	if b == nil {
		return
	}
	if s.cred != nil {
		if err := s.helper().killThread(b, true); err != nil {
			s.p.log.Warn("could not stop a statement", "session", s.id, "member", b.seat.name, "err", err)
		}
	}
	if cut || s.cred == nil {
		b.conn.Wake()
	}
}

// balance asks sessions of the fullest member to move if another is much emptier:
// a member that came back would otherwise wait for work until clients reconnect.
func (p *Proxy) balance(svc route.Service) {
	plan := p.route.Plan()
	var full, empty *route.Member
	serving := 0
	for _, m := range plan.Members {
		if !m.Serves(svc) {
			continue
		}
		serving++
		n := m.Seat.Sessions.Load()
		if full == nil || n > full.Seat.Sessions.Load() {
			full = m
		}
		if empty == nil || n < empty.Seat.Sessions.Load() {
			empty = m
		}
	}
	if serving < 2 || plan.Holding {
		return
	}
	most, least := full.Seat.Sessions.Load(), empty.Seat.Sessions.Load()
	surplus := most - least
	if surplus <= 8 || surplus <= most/4 {
		return
	}
	ask := surplus / 4
	for _, s := range p.list() {
		if ask == 0 {
			return
		}
		b := s.att.Load()
		if b == nil || b.seat.name != full.Name || s.l.Pooling == PerTransaction || s.pins.load() != 0 ||
			(svc == route.Read) != (s.l.Mode == ReadOnly) || lexer.Kind(s.kind.Load()) == lexer.Schema {
			continue
		}
		ask--
		s.leave.Store(true)
		if s.began.Load() == 0 {
			s.client.Wake()
		}
	}
}
