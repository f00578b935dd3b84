package proxy

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/mysql/wire"
)

// lose forgets a connection that is gone. The error, if any, is for the client:
// something was lost with it. If the session cannot go on, it ends after that.
func (s *session) lose() error {
	b := s.b
	name := b.seat.name
	b.seat.discard(b)
	s.use(nil)
	s.p.m.losses.Add(1)
	p := s.pins.load() &^ brief
	trx := s.inTrans()
	s.trxOver()
	if p&^(pinNextTrx|pinCursor|pinLongData) != 0 {
		s.ending = true
		return &wire.ServerError{
			Code: 1053, State: "08S01",
			Message: fmt.Sprintf("perdure: member %s is gone, and with it state of this session that cannot be made again: %s", name, p),
		}
	}
	s.unpin(pinNextTrx | pinCursor | pinLongData | pinAnswer)
	for _, ps := range s.stmts {
		ps.cursor, ps.long = false, false
	}
	s.cursors = 0
	if trx {
		s.rec.lost, s.rec.from = s.rec.on && p == 0, name
		return rolledBack(name)
	}
	return nil
}

func (s *session) trxOver() {
	s.status &^= wire.StatusInTrans | wire.StatusInTransReadOnly
	s.inTrx.Store(false)
}

// rolledBack is the error for a transaction that certainly was not committed. It
// has the code of a deadlock, because what to do is the same: run it again.
func rolledBack(member string) error {
	return &wire.ServerError{
		Code: 1213, State: "40001",
		Message: "perdure: member " + member + " was lost and the transaction with it; nothing was committed; try restarting transaction",
	}
}

// unknown is the error for a statement whose effect nobody can tell.
func unknown(member string) error {
	return &wire.ServerError{
		Code: 1053, State: "08S01",
		Message: "perdure: the connection to member " + member + " was lost before it answered; whether the statement took effect is unknown",
	}
}

// depart leaves a member on purpose, taking along what has to be asked for
// first. It returns false if the session has to stay.
func (s *session) depart() bool {
	if p := s.pins.load() &^ brief; p&^resolvable != 0 {
		return false
	}
	if s.st.lastID != 0 || s.st.unknownUser() {
		if !s.fetchState() {
			return false
		}
	}
	b := s.b
	s.use(nil)
	for i, other := range s.parked {
		if other != nil && other.seat == b.seat {
			s.parked[i] = nil
			s.giveUp(other)
		}
	}
	s.giveUp(b)
	return true
}

// giveUp is settle for a session that goes on elsewhere.
func (s *session) giveUp(b *backend) {
	began := s.began.Swap(0)
	s.settle(b)
	s.began.Store(began)
}

// fetchState asks the server for what only it knows: the last insert id, for
// which the answers are a guess, and user variables.
func (s *session) fetchState() bool {
	var names []string
	sql := "SELECT LAST_INSERT_ID()"
	for name, v := range s.st.user {
		if v == "" {
			names = append(names, name)
			sql += "," + quoteVar(name)
		}
	}
	b := s.b
	s.out = wire.AppendQuery(s.out[:0], b.caps, sql)
	b.conn.SetReadDeadline(time.Now().Add(s.p.cfg.ConnectTimeout))
	defer b.conn.SetReadDeadline(time.Time{})
	if b.conn.Write(s.out) != nil {
		return false
	}
	a, err := b.conn.ReadAnswer(b.caps, 16<<20)
	if err != nil || len(a.Rows) != 1 || len(a.Rows[0]) != len(names)+1 {
		return false
	}
	s.st.lastID, _ = strconv.ParseUint(string(a.Rows[0][0]), 10, 64)
	for i, name := range names {
		lit, ok := literal(a.Columns[i+1], a.Rows[0][i+1])
		if !ok {
			return false
		}
		s.st.setUser(name, lit)
	}
	if s.st.size > s.p.cfg.MaxState {
		return false
	}
	s.st.changed(nil)
	s.unpin(pinVariable)
	return true
}

// Column types of user variables, as the protocol numbers them.
const (
	typeDouble     = 0x05
	typeLongLong   = 0x08
	typeNewDecimal = 0xf6
	flagUnsigned   = 0x20
	binaryCharset  = 63
)

// literal writes a value so that a variable set to it has the same type, value
// and character set.
func literal(c wire.Column, v []byte) (string, bool) {
	if v == nil {
		return "NULL", true
	}
	switch c.Type {
	case typeLongLong:
		if c.Flags&flagUnsigned != 0 {
			return "CAST(" + string(v) + " AS UNSIGNED)", true
		}
		return string(v), true
	case typeNewDecimal:
		return string(v), true
	case typeDouble:
		if !strings.ContainsAny(string(v), "eE") {
			return string(v) + "e0", true
		}
		return string(v), true
	}
	hex := fmt.Sprintf("0x%x", v)
	if len(v) == 0 {
		hex = "''"
	}
	if c.Charset == binaryCharset {
		if len(v) == 0 {
			return "_binary ''", true
		}
		return hex, true
	}
	// Results are converted to character_set_results on the way, which is what
	// the column says; the literal names it.
	name := charsetOf(c.Charset)
	if name == "" {
		return "", false
	}
	return "_" + name + " " + hex, true
}

// charsetOf names the character set of the collations that variables commonly
// have. A variable of any other keeps its session where it is.
func charsetOf(collation uint16) string {
	switch {
	case collation == 8 || collation == 47 || collation == 48 || collation == 49 || collation == 5 || collation == 31 || collation == 15 || collation == 94:
		return "latin1"
	case collation == 33 || collation == 83 || collation >= 192 && collation <= 215 || collation == 76:
		return "utf8mb3"
	case collation == 45 || collation == 46 || collation >= 224 && collation <= 247 || collation >= 255 && collation <= 323:
		return "utf8mb4"
	case collation == 11 || collation == 65:
		return "ascii"
	}
	return ""
}

// reconsider is called when an idle session was woken: its member may have
// changed, or it has been idle for long.
func (s *session) reconsider() {
	plan := s.p.route.Plan()
	for i, b := range s.parked {
		if b == nil {
			continue
		}
		if m := plan.Member(b.seat.name); m == nil || m.Lost() {
			b.seat.discard(b)
			s.parked[i] = nil
		} else if !m.Serves(routeService(i)) {
			s.giveUp(b)
			s.parked[i] = nil
		}
	}
	if s.b == nil || s.fixed() && s.pins.load()&^(brief|resolvable) != 0 || s.inTrans() {
		return
	}
	m := plan.Member(s.b.seat.name)
	switch {
	case m == nil || m.Lost():
		if s.fixed() {
			return // the next request hears of it
		}
		_ = s.lose()
		s.sitDown(nil)
	case s.leave.Load() || !m.Serves(s.svc) && !s.lingers(m, s.svc):
		s.leave.Store(false)
		if s.cred != nil && s.depart() {
			s.sitDown(nil)
			s.moved.Add(1)
			s.p.m.moves.Add(1)
			s.moveInIdle(plan)
		}
	}
}
