package proxy

import (
	"errors"
	"fmt"
	"strings"
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
	// What the others committed before has to be applied where the change runs:
	// rows written under the old schema do not fit into the new one, and a member
	// that meets such rows leaves the group.
	target := on
	if s.fixed() && s.b != nil {
		target = s.b.seat.name // it cannot leave its member
	}
	if err := s.gather(target); err != nil {
		return open, err
	}
	undo = append(undo, s.spreadSchema)
	return open, nil
}

// gather waits until a member has applied everything the others have.
func (s *session) gather(to string) error {
	if s.cred == nil {
		return nil // it cannot open a second connection
	}
	for _, m := range s.p.route.Plan().Members {
		if m.Name == to || !m.Counted() {
			continue
		}
		// One that does not answer may have committed anything. Better no change
		// of schema than one that meets it.
		a, err := s.aside(m.Name, "SELECT @@GLOBAL.gtid_executed")
		if err != nil {
			return fmt.Errorf("the schema was not changed: member %s does not say what it has committed: %w", m.Name, err)
		}
		if err := s.waitApplied(to, strings.ReplaceAll(string(a.Rows[0][0]), "\n", "")); err != nil {
			return err
		}
	}
	return nil
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

// waitApplied waits until a member has applied a set of transactions. It gives
// up only when the member is out of the group or the session ends: going on too
// early costs the group a member, waiting costs time.
func (s *session) waitApplied(member, gtid string) error {
	const turn = 5 * time.Second
	for began := time.Now(); ; {
		plan := s.p.route.Plan()
		m := plan.Member(member)
		if m == nil || !m.Counted() {
			return fmt.Errorf("member %s: %w", member, errBehind)
		}
		a, err := s.aside(member, fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET('%s',%d)", gtid, int(turn.Seconds())))
		switch {
		case err == nil && string(a.Rows[0][0]) == "0":
			return nil
		case err == nil:
			s.p.log.Warn("a change of schema waits for a member to catch up", "member", member, "for", time.Since(began).Round(time.Second))
			if s.ended() || s.p.leaving.Load() {
				return errClosed
			}
		default:
			t := time.NewTimer(100 * time.Millisecond)
			select {
			case <-plan.Changed():
			case <-t.C:
			case <-s.quit:
			}
			t.Stop()
			if s.ended() || s.p.leaving.Load() {
				return errClosed
			}
		}
	}
}

// spreadSchema waits until the other members have applied the change, so that
// no write that follows there is made under the old schema.
func (s *session) spreadSchema() {
	if len(s.st.gtid) == 0 || s.cred == nil {
		return
	}
	gtid := string(s.st.gtid)
	h := s.helper() // the client may leave; this has to be waited for all the same
	for _, m := range s.p.route.Plan().Members {
		if m.Name == s.st.wrote || !m.Counted() {
			continue
		}
		if err := h.waitApplied(m.Name, gtid); err != nil {
			s.p.log.Warn("a member left before it applied a change of schema", "member", m.Name, "err", err)
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
