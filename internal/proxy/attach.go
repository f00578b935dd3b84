package proxy

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/mysql/lexer"
	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/route"
)

// idleProbe is how long a connection may rest before we look whether the server
// has hung up. Looking costs a system call, so a busy session is spared.
const idleProbe = int64(time.Millisecond)

// errBehind means a member did not catch up with what the session wrote.
var errBehind = errors.New("member has not applied what the session wrote")

// ensure makes s.b a connection to a member that serves svc under the plan in
// force, with the session's state on it. It waits, within limits, for there to
// be one.
func (s *session) ensure(svc route.Service) error {
	if s.b != nil && s.svc == svc && s.plan == s.p.route.Plan() && !s.leave.Load() {
		if s.sound() {
			return nil
		}
		if err := s.lose(); err != nil {
			return err
		}
	}
	return s.find(svc)
}

// alive tells whether the connection in use can be written to.
func (s *session) alive() bool { return s.b.lively() || s.b.conn.Quiet() }

// sound is alive for a connection that will be asked something next: if asking
// looks by itself, we need not.
func (s *session) sound() bool { return s.b.conn.Probes() || s.alive() }

// lively tells that the connection was in use a moment ago.
func (b *backend) lively() bool { return clock()-b.rested.Load() < idleProbe }

func (s *session) find(svc route.Service) error {
	var deadline time.Time
	behind := false // no member tried so far has what the session wrote
	wait := func(plan *route.Plan, at time.Duration) error {
		if deadline.IsZero() {
			deadline = time.Now().Add(s.p.cfg.HoldLimit)
			s.p.m.holds.Add(1)
			s.p.m.holding.Add(1)
		}
		return s.waitPlan(plan, deadline, at)
	}
	defer func() {
		if !deadline.IsZero() {
			s.p.m.holding.Add(-1)
		}
	}()
	for {
		plan := s.p.route.Plan()
		done, err := s.stay(plan, svc)
		if err != nil {
			return err
		}
		if done && plan == s.p.route.Plan() {
			// Looked at again now that others see where we sit: a change of schema
			// that began meanwhile either saw us, or we see it.
			return nil
		}
		if s.b != nil {
			continue // it waited on the connection it has, or the plan is an old one
		}
		if plan.Holding {
			if err := wait(plan, s.p.cfg.HoldLimit); err != nil {
				return noMember(svc, s.p.cfg.HoldLimit, "the cluster is on hold")
			}
			continue
		}
		if s.moveIn(plan, svc) {
			continue
		}
		m := plan.Pick(svc, time.Now(), s.avoid)
		if behind {
			// The member it left has it, if it is for us again.
			if before := plan.Member(s.st.wrote); before != nil && before.Serves(svc) {
				m = before
			}
		}
		if m == nil {
			if err := wait(plan, s.p.cfg.HoldLimit); err != nil {
				return noMember(svc, s.p.cfg.HoldLimit, "no member serves it")
			}
			continue
		}
		err = s.attach(plan, m, svc)
		if err == nil {
			s.avoid = ""
			continue // to the same look, under the plan in force now
		}
		if final := s.final(err, m); final != nil {
			return final
		}
		s.avoid, behind = m.Name, errors.Is(err, errBehind)
		if wait(plan, 20*time.Millisecond) != nil {
			s.p.log.Warn("no member lets a session in", "session", s.id, "user", s.user, "member", m.Name, "err", err)
			if behind {
				// It may have been lost with a majority of the members. The client is
				// told once, not with every request for as long as it stays.
				s.st.gtid = s.st.gtid[:0]
			}
			return noMember(svc, s.p.cfg.HoldLimit, reason(m, err))
		}
	}
}

// reason is what a client is told about a member that does not let us in. What
// the network says is for the log: the client may be a stranger.
func reason(m *route.Member, err error) string {
	if errors.Is(err, errBehind) {
		return "no member has applied what this session wrote last; it may be lost"
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "the certificate of member " + m.Name + " is not trusted: " + cert.Err.Error()
	}
	return "members do not let us in"
}

func noMember(svc route.Service, waited time.Duration, why string) error {
	return &wire.ServerError{
		Code: 1053, State: "08S01",
		Message: fmt.Sprintf("perdure: nothing was run: no member for a %s within %s: %s", svc, waited, why),
	}
}

// waitPlan waits for a newer plan, for at most the given time.
func (s *session) waitPlan(plan *route.Plan, deadline time.Time, at time.Duration) error {
	left := time.Until(deadline)
	if left <= 0 {
		return errors.New("waited too long")
	}
	t := time.NewTimer(min(left, at))
	defer t.Stop()
	select {
	case <-plan.Changed():
	case <-t.C:
	case <-s.quit:
		return errClosed
	}
	return nil
}

// final decides about a failed attempt to get a connection: what it returns is
// the client's, nil means that another attempt may succeed.
func (s *session) final(err error, m *route.Member) error {
	if e, ok := errors.AsType[*wire.ServerError](err); ok {
		switch e.Code {
		case 1045, 1698, 3118, 3955, 1862, 1820: // the account is not let in
			s.p.creds.forget(s.user)
			return err
		case 1040, 1203, 1226: // too many connections there: idle ones of ours may be why
			s.p.seat(m.Name).prune(true)
			return nil
		case 1053, 3032, 1290, 1836:
			s.p.doubt(m)
			return nil
		}
		return err
	}
	if errors.Is(err, errBusy) {
		return &wire.ServerError{Code: 1040, State: "08004", Message: "perdure: too many connections to the server"}
	}
	if errors.Is(err, errClosed) {
		return err
	}
	if !errors.Is(err, errBehind) {
		s.p.doubt(m)
	}
	return nil
}

// stay decides about the connection at hand under a plan. done means that it can
// be used; otherwise the session has none when stay returns without error.
func (s *session) stay(plan *route.Plan, svc route.Service) (done bool, err error) {
	if s.b == nil || s.svc != svc {
		if s.b != nil {
			if s.fixed() {
				return s.stayFixed(plan)
			}
			s.parked[s.svc] = s.b
			s.use(nil)
		}
		s.svc = svc
		s.use(s.parked[svc])
		s.parked[svc] = nil
		if s.b == nil {
			if b := s.borrowBack(svc); b != nil {
				s.use(b)
			}
		}
		if s.b == nil {
			return false, nil
		}
	}
	if s.fixed() {
		return s.stayFixed(plan)
	}
	m := plan.Member(s.b.seat.name)
	switch {
	case m == nil || m.Lost():
		return false, s.lose()
	case s.leave.Load() || !m.Serves(svc) && !s.lingers(m, svc):
		s.leave.Store(false)
		if !s.depart() {
			return false, s.lose() // it did not even answer what the session's state is
		}
		return false, nil
	case plan.Holding:
		return false, s.holdHere(plan)
	}
	if !s.sound() {
		return false, s.lose()
	}
	if err := s.restore(s.b); err != nil {
		if errors.Is(err, errBehind) {
			s.b.seat.discard(s.b)
			s.use(nil)
			return false, err
		}
		return false, s.lose()
	}
	s.plan = plan
	s.sitDown(m.Seat)
	return true, nil
}

// stayFixed keeps a session that cannot leave, unless its member is lost.
func (s *session) stayFixed(plan *route.Plan) (bool, error) {
	m := plan.Member(s.b.seat.name)
	if m == nil || m.Lost() || !s.alive() {
		return false, s.lose()
	}
	if plan.Funnel != "" && plan.Funnel != m.Name && !s.inTrans() {
		// A change of schema runs elsewhere and this session cannot go there. It
		// may read; for writes it waits. The plan is not taken as seen, so that
		// the next request is asked again.
		if k := lexer.Kind(s.kind.Load()); k == lexer.Read || k == lexer.Schema {
			return true, nil
		}
		s.busyWith(lexer.Read)
		err := s.waitWhile(plan, func(p *route.Plan) bool { return p.Funnel != "" && p.Funnel != m.Name })
		if err != nil {
			return false, noMember(s.svc, s.p.cfg.HoldLimit, "a change of schema runs")
		}
		s.busyWith(busyKind(s.req.st))
		return false, nil // look again at what is in force now
	}
	// A plan that wants it elsewhere is not taken as seen: the session would sit
	// here for good once what keeps it is over.
	s.plan = nil
	if m.Serves(s.svc) && !plan.Holding {
		s.plan = plan
	}
	return true, nil
}

// holdHere waits on the connection at hand until the hold is over.
func (s *session) holdHere(plan *route.Plan) error {
	if err := s.waitWhile(plan, func(p *route.Plan) bool { return p.Holding }); err != nil {
		return noMember(s.svc, s.p.cfg.HoldLimit, "the cluster is on hold")
	}
	return nil
}

// waitWhile waits, at most HoldLimit, until the plan in force is no longer so.
func (s *session) waitWhile(plan *route.Plan, so func(*route.Plan) bool) error {
	s.p.m.holds.Add(1)
	s.p.m.holding.Add(1)
	defer s.p.m.holding.Add(-1)
	deadline := time.Now().Add(s.p.cfg.HoldLimit)
	for so(plan) {
		if err := s.waitPlan(plan, deadline, s.p.cfg.HoldLimit); err != nil {
			return err
		}
		plan = s.p.route.Plan()
	}
	return nil
}

func (s *session) use(b *backend) {
	s.b = b
	s.att.Store(b)
}

// borrowBack takes the connection again that was lent to the pool last, if
// nobody else has had it since.
func (s *session) borrowBack(svc route.Service) *backend {
	b := s.lent[svc]
	if b == nil {
		return nil
	}
	s.lent[svc] = nil
	if !b.busy.CompareAndSwap(false, true) {
		return nil
	}
	if b.owner != s {
		b.seat.release(b) // whoever looked for one meanwhile took it off the list
		return nil
	}
	return b
}

// attach gets a connection to m and puts the session's state on it.
func (s *session) attach(plan *route.Plan, m *route.Member, svc route.Service) error {
	st := s.p.seat(m.Name)
	for s.cred != nil && s.cred.trusted() {
		b := st.take(s.key, s.st.schema == "")
		if b == nil {
			break
		}
		err := s.adopt(b, plan, m, svc)
		var e *wire.ServerError
		if err == nil || errors.As(err, &e) || errors.Is(err, errBehind) {
			return err
		}
		// It had died unnoticed; the next may be better.
	}
	if s.cred == nil {
		return errors.New("the session has no password to sign in with")
	}
	in := &wire.SignIn{
		User: s.user, Password: s.cred.password, Schema: s.st.schema, Caps: s.caps,
		Collation: s.collation, Attrs: s.attrs,
	}
	b, err := st.dial(s.quit, m, in, s.key)
	if err != nil {
		return err
	}
	s.cred.verified()
	if err := s.restore(b); err != nil {
		st.discard(b)
		return err
	}
	s.sit(b, plan, m, svc)
	return nil
}

// adopt makes an idle connection to m the session's, or closes it.
func (s *session) adopt(b *backend, plan *route.Plan, m *route.Member, svc route.Service) error {
	if s.fits(b) {
		// Whether the server has hung up is found out by asking it.
		b.owner, b.version, b.read = s, s.st.version, true
		b.seat.borrowed.Add(1)
		s.sit(b, plan, m, svc)
		return nil
	}
	if err := b.collect(s.p.cfg.ConnectTimeout); err != nil || !b.conn.Quiet() {
		b.seat.discard(b)
		return cmp.Or(err, wire.ErrStale)
	}
	b.rested.Store(clock())
	if b.owner == s {
		b.owner = &somebody // it has a state of ours from before a reset
	}
	if err := s.restore(b); err != nil {
		b.seat.discard(b)
		return err
	}
	b.seat.borrowed.Add(1)
	s.sit(b, plan, m, svc)
	return nil
}

// somebody is the owner of connections that have to be reset before use.
var somebody session

func (s *session) sit(b *backend, plan *route.Plan, m *route.Member, svc route.Service) {
	if s.seat != nil && s.seat != m.Seat {
		s.p.m.moves.Add(1)
		s.moved.Add(1)
	}
	s.use(b)
	s.svc, s.plan = svc, plan
	s.sitDown(m.Seat)
}

// restore makes the state on b equal to the session's, in one round trip.
func (s *session) restore(b *backend) error {
	own := b.owner == s
	clean := b.fresh && b.owner == nil
	wait := len(s.st.gtid) > 0 && s.st.wrote != b.seat.name && b.gtid != string(s.st.gtid)
	// A plain read on a reader does not ask for the last insert id; it is spared
	// the round trip.
	told := b.lastID == s.st.lastID || s.svc == route.Read && s.req.st.Kind == lexer.Read
	if own && b.version == s.st.version && told && !wait && b.schema == s.st.schema {
		return nil
	}
	out, answers := s.out[:0], 0
	if !own && (b.owner != nil || clean && s.st.plain) {
		out = wire.AppendCommand(out, wire.ComResetConnection, "")
		answers++
		b.serial = s.p.serial.Add(1)
	}
	if b.schema != s.st.schema {
		if s.st.schema == "" {
			return errors.New("connection has a schema and cannot lose it")
		}
		out = wire.AppendCommand(out, wire.ComInitDB, s.st.schema)
		answers++
	}
	if !clean || !b.tracks || s.st.version != 0 || s.st.lastID != b.lastID {
		b.lastID = s.st.lastID
		out = wire.AppendQuery(out, b.caps, s.settings(b.seat))
		answers++
	}
	if s.st.role != "" {
		out = wire.AppendQuery(out, b.caps, s.st.role)
		answers++
	}
	multi := s.multi()
	if b.multi != multi {
		// Resetting a connection does not undo this.
		out = wire.AppendCommand(out, wire.ComSetOption, []byte{multi, 0})
		answers++
	}
	if wait {
		// A move may have to wait, but not so long on one member that another, or
		// the one before, cannot be tried; a read that only would like to be on a
		// reader goes to the writer after a second.
		limit := "3"
		if s.svc == route.Read {
			limit = "1"
		}
		out = wire.AppendQuery(out, b.caps, "SELECT WAIT_FOR_EXECUTED_GTID_SET('"+string(s.st.gtid)+"',"+limit+")")
		answers++
	}
	s.out = out
	b.fresh = false
	b.owner = nil // until all of it succeeded
	if answers > 0 {
		if err := s.converse(b, out, answers, wait); err != nil {
			return err
		}
	}
	b.owner, b.version, b.schema, b.multi, b.tracks = s, s.st.version, s.st.schema, multi, true
	b.set, b.role = s.settings(b.seat), s.st.role
	if !own {
		b.dirty = false
	}
	b.plain = s.st.version == 0 && s.st.role == "" && s.st.lastID == 0 && !s.st.plain && multi == multiOf(b.caps)
	return nil
}

// settings is the statement that gives a connection to a member the session's
// state, kept from the last time.
type settings struct {
	seat            *seat
	version, lastID uint64
	text            string
}

func (s *session) settings(on *seat) string {
	k := &s.set
	if k.seat != on || k.version != s.st.version || k.lastID != s.st.lastID {
		*k = settings{on, s.st.version, s.st.lastID, string(s.st.setText(nil, on.base(s.collation)))}
	}
	return k.text
}

// fits tells whether a connection that another session used has the state of this
// one already, as those of one application often do.
func (s *session) fits(b *backend) bool {
	return !b.dirty && b.tracks && b.owed == 0 && b.owner != nil && b.owner != s && b.owner != &somebody && b.conn.Probes() &&
		b.lastID == s.st.lastID && b.schema == s.st.schema && b.multi == s.multi() && b.role == s.st.role &&
		(len(s.st.gtid) == 0 || s.st.wrote == b.seat.name) && b.set == s.settings(b.seat)
}

// multi is the option for several statements in one text, as COM_SET_OPTION
// takes it: 0 on, 1 off.
func (s *session) multi() byte {
	if s.st.multi >= 0 {
		return byte(s.st.multi)
	}
	return multiOf(s.caps)
}

func multiOf(caps uint32) byte {
	if caps&wire.ClientMultiStatements != 0 {
		return 0
	}
	return 1
}

// converse sends questions of ours and reads their answers. The last may be the
// wait for a GTID.
func (s *session) converse(b *backend, out []byte, answers int, wait bool) error {
	b.conn.SetReadDeadline(time.Now().Add(s.p.cfg.HoldLimit + s.p.cfg.ConnectTimeout))
	defer b.conn.SetReadDeadline(time.Time{})
	if err := b.conn.Write(out); err != nil {
		return err
	}
	var failed error
	for i := range answers {
		a, err := b.conn.ReadAnswer(b.caps, maxSmall)
		var e *wire.ServerError
		if err != nil && !errors.As(err, &e) {
			return err
		}
		if err != nil && failed == nil {
			failed = err
		}
		if wait && i == answers-1 && err == nil {
			if len(a.Rows) != 1 || string(a.Rows[0][0]) != "0" {
				failed = errBehind
				continue
			}
			b.gtid = string(s.st.gtid)
		}
	}
	b.rested.Store(clock())
	return failed
}
