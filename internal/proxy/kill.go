package proxy

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/route"
)

// Our session ids have this bit set, so that they are told apart from thread ids
// of servers, and fit a signed 32-bit number.
const idBase = 1 << 30

// ours tells whether an id can be one of our sessions.
func (p *Proxy) ours(id uint64) bool { return id&idBase != 0 && id < 2*idBase }

// kill ends a session of this proxy, or the statement it runs. The member's
// server decides whether this client may.
func (s *session) kill(id uint64, query bool) error {
	t := s.p.session(uint32(id))
	if t == nil {
		return s.refuse(&wire.ServerError{Code: 1094, State: "HY000", Message: fmt.Sprintf("Unknown thread id: %d", id)})
	}
	if t == s {
		if query {
			return s.refuse(&wire.ServerError{Code: 1317, State: "70100", Message: "Query execution was interrupted"})
		}
		s.ending = true
		return s.refuse(&wire.ServerError{Code: 1317, State: "70100", Message: "Query execution was interrupted"})
	}
	t.killing.Add(1)
	defer t.killing.Add(-1)
	b := t.att.Load()
	switch {
	case b != nil:
		if err := s.killThread(b, query); err != nil {
			return s.refuse(err)
		}
	case s.user != t.userName():
		return s.refuse(&wire.ServerError{Code: 1095, State: "HY000", Message: fmt.Sprintf("You are not owner of thread %d", id)})
	}
	if !query {
		t.end()
	}
	return s.fine()
}

// killThread has a server end a thread, in the name of this session's user.
func (s *session) killThread(b *backend, query bool) error {
	verb := "KILL "
	if query {
		verb = "KILL QUERY "
	}
	if s.cred == nil {
		if s.b == nil || s.b.seat != b.seat {
			return errors.New("the session cannot reach that member without its password")
		}
		s.out = wire.AppendQuery(s.out[:0], s.b.caps, verb+strconv.FormatUint(uint64(b.id), 10))
		return s.converse(s.b, s.out, 1, false)
	}
	_, err := s.aside(b.seat.name, verb+strconv.FormatUint(uint64(b.id), 10))
	return err
}

// aside asks a member something on a connection of its own, as the session's
// user.
func (s *session) aside(member, sql string) (*wire.Answer, error) {
	b, err := s.sideConnection(member)
	if err != nil {
		return nil, err
	}
	a, err := b.ask(sql, s.p.cfg.HoldLimit)
	var e *wire.ServerError
	if err != nil && !errors.As(err, &e) {
		b.seat.discard(b)
		return nil, err
	}
	b.seat.put(b)
	return a, err
}

// sideConnection opens or borrows a connection that has nothing to do with the
// session's state.
func (s *session) sideConnection(member string) (*backend, error) {
	m := s.p.route.Plan().Member(member)
	if m == nil {
		return nil, fmt.Errorf("member %s: %w", member, route.ErrNoMember)
	}
	st := s.p.seat(member)
	k := s.key
	k.caps, k.collation, k.attrs = sideCaps&wire.Shaping, 255, 0
	if b := st.take(k, false); b != nil {
		if b.collect(s.p.cfg.ConnectTimeout) == nil && b.conn.Quiet() {
			return b, nil
		}
		st.discard(b)
	}
	b, err := st.dial(s.quit, m, &wire.SignIn{User: s.user, Password: s.cred.password, Caps: sideCaps, Collation: 255}, k)
	return b, err
}

// sideCaps set side connections apart from every client's: no client leaves out
// both.
const sideCaps = wire.ClientDeprecateEOF | wire.ClientNoSchema

// ask runs one statement of ours and reads the answer whole.
func (b *backend) ask(sql string, limit time.Duration) (*wire.Answer, error) {
	b.conn.SetReadDeadline(time.Now().Add(limit))
	defer b.conn.SetReadDeadline(time.Time{})
	if err := b.conn.Write(wire.AppendQuery(nil, b.caps, sql)); err != nil {
		return nil, err
	}
	return b.conn.ReadAnswer(b.caps, maxSmall)
}
