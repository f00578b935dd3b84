package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/perdure/perdure/internal/mysql/lexer"
	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/route"
)

// holdWhole is the largest request that is always held whole. Larger ones need
// room in the proxy's memory allowance, or are passed on as they come.
const holdWhole = 128 << 10

const maxPacket = 1<<24 - 1

// serve takes one request from the client and brings back the answer.
func (s *session) serve() error {
	if err := s.needClient(4); err != nil {
		return err
	}
	h := s.client.Buffered()
	length := int(h[0]) | int(h[1])<<8 | int(h[2])<<16
	if h[3] != 0 || length == 0 {
		_ = s.client.Write(wire.AppendErr(nil, h[3]+1, &wire.ServerError{Code: 1156, State: "08S01", Message: "Got packets out of order"}))
		return fmt.Errorf("request numbered %d with %d bytes: %w", h[3], length, wire.ErrMalformed)
	}
	s.began.Store(clock())
	s.forwarded = false
	if s.timedOut.Load() {
		s.timedOut.Store(false) // of an earlier one
	}
	r := &s.req
	*r = request{}
	size := 4 + length
	switch {
	case length == maxPacket:
		r.stream = true
	case length > holdWhole:
		if s.p.memory.Add(int64(length)) > s.p.cfg.Memory {
			s.p.memory.Add(-int64(length))
			r.stream = true
			break
		}
		defer s.p.memory.Add(-int64(length))
	}
	if r.stream {
		size = 4 + 4096
	}
	if err := s.needClient(size); err != nil {
		return err
	}
	r.bytes = s.client.Buffered()[:size]
	r.command = r.bytes[4]
	err := s.dispatch(r)
	if r.bytes != nil && !r.stream {
		s.client.Advance(size)
	}
	s.finish(r)
	return err
}

// finish does what is due after every answer.
func (s *session) finish(r *request) {
	now := clock()
	took := now - s.began.Load()
	s.p.m.observe(s.l.Mode, took)
	s.queries.Add(1)
	if !s.marked || s.b != nil && !s.b.dirty {
		s.mark(r)
	}
	if t := s.inTrans(); t != s.inTrx.Load() {
		s.inTrx.Store(t)
		s.trxSince.Store(now)
	}
	s.busyWith(lexer.Read)
	s.began.Store(0)
	s.rested.Store(now)
	if s.b != nil {
		s.b.rested.Store(now)
	}
	if slow := int64(s.p.cfg.SlowQuery); slow > 0 && took > slow && r.text != nil {
		s.slow(r, took)
	}
	if s.l.Pooling == PerTransaction && s.b != nil && !s.inTrans() && s.pins.load() == 0 {
		s.lend()
	}
	s.client.Shrink()
}

// lend lets other sessions use the connection until we need one again.
func (s *session) lend() {
	b := s.b
	if len(s.pending) > 0 {
		if b.conn.Write(s.pending) != nil {
			_ = s.lose()
			return
		}
		s.pending = s.pending[:0]
	}
	s.use(nil)
	s.sitDown(nil)
	if s.killing.Load() > 0 {
		// Somebody is about to end what runs here; it must not be the next
		// session's statement.
		b.seat.discard(b)
		return
	}
	s.lent[s.svc] = b
	b.seat.put(b)
}

func (s *session) dispatch(r *request) error {
	if r.stream {
		return s.large(r)
	}
	switch r.command {
	case wire.ComQuery:
		return s.query(r)
	case wire.ComStmtPrepare:
		return s.prepare(r)
	case wire.ComStmtExecute:
		return s.execute(r)
	case wire.ComStmtFetch:
		return s.fetch(r)
	case wire.ComStmtReset:
		return s.resetStatement(r)
	case wire.ComStmtSendLong:
		return s.sendLong(r)
	case wire.ComStmtClose:
		return s.closeStatement(r)
	case wire.ComQuit:
		return errQuit
	case wire.ComPing:
		if s.b == nil {
			return s.fine()
		}
		r.safe = true
	case wire.ComInitDB:
		r.safe = true
	case wire.ComResetConnection:
		return s.resetConnection(r)
	case wire.ComChangeUser:
		return s.changeUser(r)
	case wire.ComSetOption:
		return s.setOption(r)
	case wire.ComFieldList:
		r.shape, r.safe = wire.ShapeFields, true
	case wire.ComStatistics:
		r.shape, r.safe = wire.ShapeString, true
	case wire.ComProcessInfo:
		r.shape, r.safe = wire.ShapeQuery, true
	case wire.ComProcessKill:
		if len(r.bytes) >= 9 {
			if id := uint64(binary.LittleEndian.Uint32(r.bytes[5:])); s.p.ours(id) {
				return s.kill(id, false)
			}
		}
	case wire.ComRefresh, wire.ComShutdown, wire.ComDebug:
	case wire.ComCreateDB, wire.ComDropDB:
		r.st.Kind = lexer.Schema
		return s.changeSchema(r)
	default:
		return s.tunnel(r)
	}
	r.svc = s.plainService()
	return s.exchange(r)
}

// plainService is where requests go that are not statements.
func (s *session) plainService() route.Service {
	if s.l.Mode == ReadOnly {
		return route.Read
	}
	if s.l.Mode == Split {
		return s.svc // where the last statement was: answers count its warnings
	}
	return route.Write
}

// query runs a COM_QUERY.
func (s *session) query(r *request) error {
	attrs, text, ok := wire.QueryText(r.bytes[5:], s.caps)
	if !ok {
		return s.refuse(&wire.ServerError{Code: 1835, State: "HY000", Message: "Malformed communication packet."})
	}
	r.shape, r.text = wire.ShapeQuery, text
	r.st = lexer.Look(text, s.status&wire.StatusNoBackslashEscapes != 0)
	if len(attrs) > 2 {
		s.hint(r, attrs)
	}
	return s.statement(r)
}

// statement runs what has text, prepared or not.
func (s *session) statement(r *request) error {
	st := r.st
	r.svc = s.service(st)
	r.safe = st.Kind == lexer.Read && !st.Has(lexer.Calls|lexer.Locks|lexer.Assigns|lexer.Into) ||
		st.Kind == lexer.Use || st.Kind == lexer.Begin || st.Kind == lexer.BeginReadOnly
	r.retry = st.Kind == lexer.Write && !st.Has(lexer.Assigns|lexer.Locks|lexer.Multi)
	if st.Kinds&rare != 0 || st.Flags&(lexer.Tracks|lexer.Diagnostic) != 0 {
		if done, err := s.rare(r); done {
			return err
		}
	} else if s.pins.load()&pinAnswer != 0 {
		s.unpin(pinAnswer)
	}
	s.busyWith(busyKind(st))
	return s.exchange(r)
}

// rare are the kinds of statement that take more than passing on.
const rare = 1<<lexer.Kill | 1<<lexer.Schema | 1<<lexer.Execute

func (s *session) rare(r *request) (done bool, err error) {
	if r.st.Kind == lexer.Kill && r.text != nil {
		if id, query, ok := lexer.KillTarget(r.text); ok && s.p.ours(id) {
			return true, s.kill(id, query)
		}
	}
	if r.st.Has(lexer.Tracks) && s.pins.load()&pinTracks == 0 {
		if err := s.untrack(r); err != nil {
			return true, s.refuse(err)
		}
	}
	if r.st.Contains(lexer.Schema) || r.st.Contains(lexer.Execute) && s.schemaText {
		return true, s.changeSchema(r)
	}
	return false, nil
}

// untrack hands session tracking over to the client: from here on it sees what
// the server says, and we no longer know enough to move it.
func (s *session) untrack(r *request) error {
	if err := s.ensure(r.svc); err != nil {
		return err
	}
	s.pin(pinTracks, r.text)
	s.out = wire.AppendQuery(s.out[:0], s.b.caps, untracked)
	return s.converse(s.b, s.out, 1, false)
}

// service says where a statement goes.
func (s *session) service(st lexer.Stmt) route.Service {
	switch s.l.Mode {
	case ReadOnly:
		return route.Read
	case ReadWrite:
		return route.Write
	}
	return s.splitService(st)
}

// resetConnection starts the session afresh, trackers included.
func (s *session) resetConnection(r *request) error {
	r.svc, r.safe = s.plainService(), true
	if err := s.exchange(r); err != nil || s.lastNo != 0 || s.b == nil {
		return err
	}
	s.st.reset()
	s.pins.store(s.pins.load() & (pinCredential | pinTunnel))
	clear(s.stmts)
	s.cursors = 0
	s.trxOver()
	for i, b := range s.parked {
		if b != nil {
			s.parked[i] = nil
			s.giveUp(b)
		}
	}
	s.lent = [2]*backend{}
	s.b.serial = s.p.serial.Add(1)
	s.out = wire.AppendQuery(s.out[:0], s.b.caps, "SET "+trackers)
	if err := s.converse(s.b, s.out, 1, false); err != nil {
		return s.lose()
	}
	s.st.changed(s.b)
	return nil
}

func (s *session) setOption(r *request) error {
	if len(r.bytes) < 7 {
		return s.refuse(&wire.ServerError{Code: 1835, State: "HY000", Message: "Malformed communication packet."})
	}
	option := r.bytes[5]
	r.svc, r.safe = s.plainService(), true
	if err := s.exchange(r); err != nil || s.lastNo != 0 {
		return err
	}
	if option <= 1 {
		s.st.multi = int8(option)
		if s.b != nil {
			s.b.multi = option
		}
		s.st.changed(s.b)
	}
	return nil
}

// large passes on a request that is too large to hold. It cannot be run again,
// and what it leaves in the session is not known.
func (s *session) large(r *request) error {
	switch r.command {
	case wire.ComQuery, wire.ComStmtPrepare:
		text := r.bytes[5:]
		if _, t, ok := wire.QueryText(text, s.caps); ok && r.command == wire.ComQuery {
			text = t
		}
		r.st = lexer.Look(text, s.status&wire.StatusNoBackslashEscapes != 0)
		r.svc = s.service(r.st)
		r.shape = wire.ShapeQuery
		if r.st.Kind != lexer.Write && r.st.Kind != lexer.Read {
			s.pin(pinLarge, text)
		}
		// A list of values as long as this is data; still, what ends it was not
		// seen. Only a client that may send several statements can hide one.
		if s.caps&wire.ClientMultiStatements != 0 || s.st.multi == 0 {
			s.pin(pinLarge, text)
		}
		if r.command == wire.ComStmtPrepare {
			return errors.New("a statement of more than 16 MiB cannot be prepared")
		}
	case wire.ComStmtExecute, wire.ComStmtSendLong:
		ps := s.stmts[wire.StmtID(r.bytes[4:])]
		if ps == nil {
			return fmt.Errorf("large request for an unknown statement: %w", wire.ErrMalformed)
		}
		r.ps, r.st = ps, ps.look
		r.svc = s.service(ps.look)
		r.shape = wire.ShapeExecute
		if r.command == wire.ComStmtSendLong {
			r.shape = wire.ShapeNone
			ps.long = true
			s.pin(pinLongData, nil)
		}
	default:
		return fmt.Errorf("command %d with more than 16 MiB: %w", r.command, wire.ErrMalformed)
	}
	if r.st.Contains(lexer.Schema) {
		return errors.New("a change of schema of more than 16 MiB cannot wait for its turn")
	}
	s.busyWith(busyKind(r.st))
	return s.exchange(r)
}
