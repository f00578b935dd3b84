package proxy

import (
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/mysql/lexer"
	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/route"
)

// schemaLock is the user-level lock, held on the member that runs changes of
// schema, by which several proxies take turns.
const schemaLock = "perdure.schema"

// changeSchema runs a change of schema. Where more than one member takes writes,
// two changes at once, or a change beside writes on another member, can break
// every applier of the group; so they run one at a time, on one member, while
// all writes of this proxy go to that member too.
func (s *session) changeSchema(r *request) error {
	r.svc, r.safe, r.retry = s.service(r.st), false, false
	plan := s.p.route.Plan()
	if s.l.Mode == ReadOnly || !plan.Spread {
		return s.exchange(r)
	}
	s.busyWith(lexer.Read) // waiting for the gate is not writing
	open, err := s.schemaGate(plan)
	if err != nil {
		return s.fail(r, err)
	}
	defer open()
	s.busyWith(lexer.Schema)
	return s.exchange(r)
}

// schemaGate waits until this session may change the schema, and returns what
// lets the next one in.
func (s *session) schemaGate(plan *route.Plan) (open func(), err error) {
	var undo []func()
	open = func() {
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
		}
	}
	defer func() {
		if err != nil {
			open()
		}
	}()
	select {
	case s.p.schema <- struct{}{}:
		undo = append(undo, func() { <-s.p.schema })
	case <-s.quit:
		return open, errClosed
	}
	if err := s.commitFirst(); err != nil {
		return open, err
	}
	plan = s.p.route.Plan()
	on := plan.Schema
	if on == "" || !plan.Spread {
		return open, nil
	}
	unlock, err := s.lockSchema(on)
	if err != nil {
		return open, fmt.Errorf("wait for other changes of schema on %s: %w", on, err)
	}
	undo = append(undo, unlock)
	release, err := s.p.route.Funnel(on)
	if err != nil {
		return open, err
	}
	undo = append(undo, release)
	if err := s.p.quiesce(s, on); err != nil {
		return open, err
	}
	if s.fixed() && s.b.seat.name != on {
		// It cannot leave its member, so it has to see what the others did first.
		if err := s.catchUp(on, s.b.seat.name); err != nil {
			return open, err
		}
	}
	undo = append(undo, func() { s.spreadSchema() })
	return open, nil
}

// commitFirst ends an open transaction, as the change of schema would.
func (s *session) commitFirst() error {
	if s.b == nil || !s.inTrans() || s.pins.load()&^brief != 0 {
		return nil
	}
	name := s.b.seat.name
	a, err := s.b.ask("COMMIT", s.p.cfg.HoldLimit)
	var e *wire.ServerError
	switch {
	case errors.As(err, &e):
		s.trxOver()
		return err
	case err != nil:
		_ = s.lose()
		return unknown(name)
	}
	s.status = a.OK.Status
	s.observe(&a.OK)
	return nil
}

// lockSchema takes the lock that proxies share.
func (s *session) lockSchema(on string) (unlock func(), err error) {
	if s.cred == nil {
		return func() {}, nil // it cannot open a second connection
	}
	b, err := s.sideConnection(on)
	if err != nil {
		return nil, err
	}
	a, err := b.ask("SELECT GET_LOCK('"+schemaLock+"', 3600)", time.Hour+time.Minute)
	if err != nil || len(a.Rows) != 1 || string(a.Rows[0][0]) != "1" {
		b.seat.discard(b)
		return nil, errors.Join(err, errors.New("lock not granted"))
	}
	return func() {
		if _, err := b.ask("DO RELEASE_LOCK('"+schemaLock+"')", s.p.cfg.HoldLimit); err != nil {
			b.seat.discard(b)
			return
		}
		b.seat.put(b)
	}, nil
}

// catchUp waits until one member has applied everything another has.
func (s *session) catchUp(from, to string) error {
	if s.cred == nil {
		return nil
	}
	a, err := s.aside(from, "SELECT @@GLOBAL.gtid_executed")
	if err != nil {
		return err
	}
	return s.waitApplied(to, string(a.Rows[0][0]))
}

func (s *session) waitApplied(member, gtid string) error {
	a, err := s.aside(member, fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET('%s',%d)", gtid, int(s.p.cfg.HoldLimit.Seconds())))
	if err != nil {
		return err
	}
	if string(a.Rows[0][0]) != "0" {
		return fmt.Errorf("member %s: %w", member, errBehind)
	}
	return nil
}

// spreadSchema waits until the other members have applied the change, so that
// the next one, or a write that follows on another member, finds it there.
func (s *session) spreadSchema() {
	if len(s.st.gtid) == 0 || s.cred == nil {
		return
	}
	gtid := string(s.st.gtid)
	for _, m := range s.p.route.Plan().Members {
		if m.Name == s.st.wrote || m.Lost() || m.State != "ONLINE" {
			continue
		}
		if err := s.waitApplied(m.Name, gtid); err != nil {
			s.p.log.Warn("a member was slow to apply a change of schema", "member", m.Name, "err", err)
		}
	}
}

// quiesce waits until nobody but s writes on a member other than on.
func (p *Proxy) quiesce(s *session, on string) error {
	deadline := time.NewTimer(p.cfg.DrainLimit)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		other := p.writerElsewhere(s, on)
		if other == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.quit:
			return errClosed
		case <-deadline.C:
			return &wire.ServerError{
				Code: 1205, State: "HY000",
				Message: fmt.Sprintf("perdure: the schema was not changed: session %d keeps a transaction open on another member; try restarting transaction", other.id),
			}
		}
	}
}

func (p *Proxy) writerElsewhere(s *session, on string) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.sessions {
		if t == s || t.l.Mode == ReadOnly {
			continue
		}
		b := t.att.Load()
		if b == nil || b.seat.name == on {
			continue
		}
		if t.inTrx.Load() || lexer.Kind(t.kind.Load()) != lexer.Read {
			return t
		}
	}
	return nil
}

// busyWith says what the session is doing, for those who wait for writers.
func (s *session) busyWith(k lexer.Kind) { s.kind.Store(uint32(k)) }
