package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/mysql/lexer"
	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/route"
)

// SchemaLock is the user-level lock by which several proxies take turns to change
// the schema. It is held on the member that the plan names for that.
const SchemaLock = "perdure.schema"

// errUngated means that a change of schema was about to run without its turn: the
// plan changed while it waited for a member.
var errUngated = errors.New("the change of schema has to wait for its turn")

// changeSchema runs a change of schema. Where more than one member takes writes,
// two changes at once, or a change beside writes on another member, can break
// every applier of the group; so they run one at a time, on one member, while
// all writes go to that member too.
func (s *session) changeSchema(r *request) error {
	r.svc, r.safe, r.retry, r.schema = s.service(r.st), false, false, true
	for {
		err := s.schemaTurn(r)
		if !errors.Is(err, errUngated) {
			return err
		}
	}
}

func (s *session) schemaTurn(r *request) error {
	r.gated = false
	if !s.p.route.Plan().Spread {
		s.busyWith(lexer.Schema)
		return s.exchange(r)
	}
	if s.l.Mode == ReadOnly {
		return s.refuse(&wire.ServerError{Code: 1290, State: "HY000", Message: "perdure: the schema is not changed through a listener for reads; use one for writes"})
	}
	if s.cred == nil {
		return s.refuse(&wire.ServerError{Code: 1290, State: "HY000", Message: "perdure: the schema was not changed: for that, sign in with caching_sha2_password over TLS, so that the proxy can ask the other members"})
	}
	s.busyWith(lexer.Read) // waiting for the gate is not writing
	open, err := s.schemaGate(r)
	if err != nil {
		return s.fail(r, err)
	}
	defer open()
	r.gated = true
	s.busyWith(lexer.Schema)
	return s.exchange(r)
}

// schemaGate waits until this session may change the schema, and returns what
// lets the next one in.
func (s *session) schemaGate(r *request) (open func(), err error) {
	var undo []func()
	open = func() {
		for _, back := range slices.Backward(undo) {
			back()
		}
	}
	defer func() {
		if err != nil {
			open()
		}
	}()
	// Before its turn comes: whoever is in turn waits for open transactions.
	if err := s.commitFirst(); err != nil {
		return open, err
	}
	select {
	case s.p.schema <- struct{}{}:
		undo = append(undo, func() { <-s.p.schema })
	case <-s.quit:
		return open, errClosed
	}
	on, err := s.schemaMember()
	if err != nil {
		return open, err
	}
	unlock, err := s.lockSchema(on)
	if err != nil {
		return open, fmt.Errorf("wait for other changes of schema on %s: %w", on, err)
	}
	undo = append(undo, unlock)
	target := on
	if s.fixed() && s.b != nil {
		target = s.b.seat.name // it cannot leave its member
	}
	release, err := s.p.route.Funnel(target)
	if err != nil {
		return open, err
	}
	undo = append(undo, release)
	if err := s.p.quiesce(s, target); err != nil {
		return open, err
	}
	if s.p.cfg.Others != nil {
		release, err := s.funnelOthers(target, on)
		if err != nil {
			return open, err
		}
		undo = append(undo, release)
	}
	// What the others committed before has to be applied where the change runs:
	// rows written under the old schema do not fit into the new one, and a member
	// that meets such rows leaves the group.
	if err := s.gather(target); err != nil {
		return open, err
	}
	undo = append(undo, func() { s.spreadSchema(r, target) })
	return open, nil
}

// schemaMember waits until there is a member that runs changes of schema.
func (s *session) schemaMember() (string, error) {
	plan := s.p.route.Plan()
	err := s.waitWhile(plan, func(p *route.Plan) bool { return p.Schema == "" })
	if err != nil {
		return "", noMember(route.Write, s.p.cfg.HoldLimit, "no member serves it")
	}
	if on := s.p.route.Plan().Schema; on != "" {
		return on, nil
	}
	return "", noMember(route.Write, 0, "no member serves it")
}

// funnelOthers has everybody else keep away from the other members, too.
func (s *session) funnelOthers(target, lockedOn string) (release func(), err error) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 2*s.p.cfg.DrainLimit, errors.New("it took too long"))
	defer cancel()
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-s.quit:
			cancel()
		case <-ctx.Done():
		}
	})
	defer watching.Wait()
	defer cancel()
	release, err = s.p.cfg.Others.Funnel(ctx, target, lockedOn)
	if err != nil {
		return nil, &wire.ServerError{Code: 1205, State: "HY000", Message: "perdure: the schema was not changed: " + err.Error() + "; try again"}
	}
	return release, nil
}

// gather waits until a member has applied everything the others have. A member
// that does not answer may have committed anything: better no change of schema
// than one that meets it.
func (s *session) gather(to string) error {
	deadline := time.Now().Add(s.p.cfg.HoldLimit)
	for _, m := range s.p.route.Plan().Members {
		for m.Name != to {
			plan := s.p.route.Plan()
			if now := plan.Member(m.Name); now == nil || !now.Counted() {
				break
			}
			a, err := s.aside(m.Name, "SELECT @@GLOBAL.gtid_executed")
			if err == nil {
				if err := s.waitApplied(to, strings.ReplaceAll(string(a.Rows[0][0]), "\n", "")); err != nil {
					return err
				}
				break
			}
			if err := s.waitPlan(plan, deadline, 200*time.Millisecond); err != nil {
				return &wire.ServerError{Code: 1205, State: "HY000", Message: "perdure: the schema was not changed: member " + m.Name + " does not say what it has committed; try again"}
			}
		}
	}
	return nil
}

// commitFirst ends an open transaction, as the change of schema would.
func (s *session) commitFirst() error {
	if s.b == nil || !s.inTrans() || s.pins.load()&(pinXA|pinTables) != 0 {
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
	b, err := s.sideConnection(on)
	if err != nil {
		return nil, err
	}
	a, err := b.ask("SELECT GET_LOCK('"+SchemaLock+"', 3600)", time.Hour+time.Minute)
	if err != nil || len(a.Rows) != 1 || string(a.Rows[0][0]) != "1" {
		b.seat.discard(b)
		return nil, errors.Join(err, errors.New("lock not granted"))
	}
	return func() {
		if _, err := b.ask("DO RELEASE_LOCK('"+SchemaLock+"')", s.p.cfg.HoldLimit); err != nil {
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

// spreadSchema waits until the change is over and the other members have applied
// it, so that no write that follows there is made under the old schema.
func (s *session) spreadSchema(r *request, target string) {
	if r.on == nil {
		return // it never left us
	}
	h := s.helper() // the client may leave; this has to be waited for all the same
	if !r.over {
		h.endThread(r.on)
	}
	gtid, ok := h.executed(target)
	if !ok {
		return
	}
	for _, m := range s.p.route.Plan().Members {
		if m.Name == target || !m.Counted() {
			continue
		}
		if err := h.waitApplied(m.Name, gtid); err != nil {
			s.p.log.Warn("a member left before it applied a change of schema", "member", m.Name, "err", err)
		}
	}
}

// endThread ends what runs on a connection whose answer nobody has, and returns
// when it has ended or its member is out of the group.
func (s *session) endThread(b *backend) {
	for {
		err := s.killThread(b, false)
		var e *wire.ServerError
		if errors.As(err, &e) && e.Code == 1094 || !s.member(b.seat.name) {
			return // there is no such thread
		}
		<-time.After(50 * time.Millisecond) // ends when the member is out of the group
	}
}

// executed asks a member what it has committed. It gives up when the member is
// out of the group.
func (s *session) executed(name string) (gtid string, ok bool) {
	for {
		a, err := s.aside(name, "SELECT @@GLOBAL.gtid_executed")
		if err == nil {
			return strings.ReplaceAll(string(a.Rows[0][0]), "\n", ""), true
		}
		if !s.member(name) {
			return "", false
		}
		<-time.After(50 * time.Millisecond) // ends when the member is out of the group
	}
}

// member tells whether a change of schema still has to care for a member.
func (s *session) member(name string) bool {
	m := s.p.route.Plan().Member(name)
	return m != nil && m.Counted() && !s.p.leaving.Load()
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
		if t == s {
			continue
		}
		b := t.att.Load()
		if b == nil || b.seat.name == on {
			continue
		}
		// An open transaction on a listener for reads has written nothing.
		if t.inTrx.Load() && t.l.Mode != ReadOnly || lexer.Kind(t.kind.Load()) != lexer.Read {
			return t
		}
	}
	return nil
}

// WritesElsewhere tells whether a session of this proxy still writes on another
// member than the one named.
func (p *Proxy) WritesElsewhere(member string) bool { return p.writerElsewhere(nil, member) != nil }

// Others speaks for what one proxy does not see: the other proxies of the
// cluster, and who else is connected to the members.
type Others interface {
	// Funnel has all other proxies send their writes to one member. It returns
	// when they do and no other member has a transaction open that wrote, or an
	// error that says why that cannot be. The caller holds the schema lock on
	// lockedOn, and keeps it until after release: whoever finds it free knows
	// that the caller is gone.
	Funnel(ctx context.Context, member, lockedOn string) (release func(), err error)
}

// preparesSchema tells whether a PREPARE in text may prepare a change of schema:
// it says so, or its text is in a variable.
func preparesSchema(text []byte, noBackslash bool) bool {
	i := bytes.IndexAny(text, "'\"")
	if i < 0 {
		return true
	}
	j := bytes.LastIndexByte(text, text[i])
	return j <= i || lexer.Look(text[i+1:j], noBackslash).Contains(lexer.Schema)
}

// busyWith says what the session is doing, for those who wait for writers.
func (s *session) busyWith(k lexer.Kind) { s.kind.Store(uint32(k)) }

// busyKind is what a statement counts as for those who wait for writers: a
// function may write.
func busyKind(st lexer.Stmt) lexer.Kind {
	if st.Kind == lexer.Read && st.Has(lexer.Calls) {
		return lexer.Other
	}
	return st.Kind
}
