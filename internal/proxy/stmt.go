package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/perdure/perdure/internal/mysql/lexer"
	"github.com/perdure/perdure/internal/mysql/wire"
)

// statement is one prepared statement as its client knows it. Clients see ids of
// ours, so that it may live on any number of members.
type statement struct {
	id     uint32
	text   []byte
	schema string // the one in use when it was prepared: its names are looked up there
	look   lexer.Stmt
	params int
	types  []byte // the parameter types sent last, for members that missed them
	on     [2]place
	long   bool // parameters were sent ahead
	cursor bool
}

// place is where a statement exists on a server.
type place struct {
	serial uint64 // of the connection
	id     uint32
	typed  bool // the server has the parameter types
}

func (s *session) prepare(r *request) error {
	if len(s.stmts) >= s.p.cfg.MaxStatements {
		return s.refuse(&wire.ServerError{Code: 1461, State: "42000", Message: "Can't create more than max_prepared_stmt_count statements (current value: " + strconv.Itoa(s.p.cfg.MaxStatements) + ")"})
	}
	r.shape, r.safe = wire.ShapePrepare, true
	text := r.bytes[5:]
	r.st = lexer.Look(text, s.status&wire.StatusNoBackslashEscapes != 0)
	r.svc = s.service(r.st)
	r.st = lexer.Stmt{} // preparing leaves nothing behind
	return s.exchange(r)
}

// prepared gives a new statement our id.
func (s *session) prepared(r *request, p []byte) {
	s.nextStmt++
	ps := &statement{
		id: s.nextStmt, text: append([]byte(nil), r.bytes[5:]...), schema: s.st.schema,
		params: int(binary.LittleEndian.Uint16(p[7:])),
	}
	ps.look = lexer.Look(ps.text, s.status&wire.StatusNoBackslashEscapes != 0)
	ps.on[s.svc] = place{serial: s.b.serial, id: wire.StmtID(p)}
	if s.stmts == nil {
		s.stmts = map[uint32]*statement{}
	}
	s.stmts[ps.id] = ps
	wire.PutStmtID(p, ps.id)
}

// find looks up the statement a request is about; the second value is the error
// if there is none.
func (s *session) findStatement(r *request) (*statement, error) {
	if len(r.bytes) < 9 {
		return nil, &wire.ServerError{Code: 1835, State: "HY000", Message: "Malformed communication packet."}
	}
	id := wire.StmtID(r.bytes[4:])
	if ps := s.stmts[id]; ps != nil {
		return ps, nil
	}
	return nil, &wire.ServerError{
		Code: 1243, State: "HY000",
		Message: fmt.Sprintf("Unknown prepared statement handler (%d) given to mysql_stmt_precheck", id),
	}
}

func (s *session) execute(r *request) error {
	ps, err := s.findStatement(r)
	if err != nil {
		return s.refuse(err)
	}
	r.shape, r.ps, r.st = wire.ShapeExecute, ps, ps.look
	s.dropCursor(ps)
	err = s.statement(r)
	if ps.long {
		ps.long = false
		s.checkLong()
	}
	return err
}

// ready makes sure that the statement exists on the connection in use, and makes
// the request fit it.
func (s *session) ready(r *request) error {
	ps, b := r.ps, s.b
	at := &ps.on[s.svc]
	if at.serial != b.serial {
		if err := s.reprepare(ps, at); err != nil {
			return err
		}
	}
	req := r.bytes
	if r.command == wire.ComStmtExecute && !r.stream {
		e, ok := wire.ParseExecute(req[4:], ps.params, b.caps)
		switch {
		case !ok:
			// The server will say what is wrong with it.
		case e.Types != nil:
			ps.types = append(ps.types[:0], e.Types...)
			at.typed = true
		case e.TypesAt > 0 && !at.typed && len(ps.types) > 0:
			r.bytes = splice(req, 4+e.TypesAt, ps.types)
			at.typed = true
		}
	}
	wire.PutStmtID(r.bytes[4:], at.id)
	return nil
}

// splice puts the parameter types into a request that came without them. The
// result is memory of its own; it is needed once per statement and move.
func splice(req []byte, at int, types []byte) []byte {
	out := make([]byte, 0, len(req)+len(types))
	out = append(out, req[:at]...)
	out = append(out, types...)
	out = append(out, req[at+1:]...)
	wire.PutHeader(out, len(out)-4, req[3])
	return out
}

// reprepare prepares a statement on a connection that does not know it.
func (s *session) reprepare(ps *statement, at *place) error {
	b := s.b
	there := ps.schema != "" && ps.schema != s.st.schema && s.st.schema != ""
	s.out = append(s.out[:0], s.pending...)
	s.pending = s.pending[:0]
	if there {
		s.out = wire.AppendCommand(s.out, wire.ComInitDB, ps.schema)
	}
	s.out = wire.AppendCommand(s.out, wire.ComStmtPrepare, ps.text)
	if there {
		s.out = wire.AppendCommand(s.out, wire.ComInitDB, s.st.schema)
	}
	if err := b.conn.Write(s.out); err != nil {
		return err
	}
	var e *wire.ServerError
	if there {
		if _, err := b.conn.ReadAnswer(b.caps, maxSmall); err != nil && !errors.As(err, &e) {
			return err
		}
	}
	var t wire.Tracker
	t.Begin(wire.ShapePrepare, b.caps)
	var failed error
	for !t.Done() {
		buf := b.conn.Buffered()
		n, ev, size := t.Scan(buf)
		switch ev {
		case wire.Prepared:
			*at = place{serial: b.serial, id: wire.StmtID(buf[n+4:])}
		case wire.Control:
			failed = wire.ParseErr(buf[n+4 : n+size])
		case wire.Bad:
			return wire.ErrMalformed
		}
		b.conn.Advance(n + size)
		if ev == wire.More && !t.Done() {
			if err := b.conn.Fill(); err != nil {
				return err
			}
		}
	}
	s.p.m.prepares.Add(1)
	if there {
		if _, err := b.conn.ReadAnswer(b.caps, maxSmall); err != nil {
			return err
		}
	}
	if e != nil {
		return e // that schema is gone
	}
	return failed
}

func (s *session) cursorState(r *request, status uint16) {
	ps := r.ps
	switch r.command {
	case wire.ComStmtExecute:
		if status&wire.StatusCursorExists != 0 && !ps.cursor {
			ps.cursor = true
			s.cursors++
			s.pin(pinCursor, nil)
		}
	case wire.ComStmtFetch:
		if status&wire.StatusLastRowSent != 0 {
			s.dropCursor(ps)
		}
	}
}

func (s *session) dropCursor(ps *statement) {
	if at := ps.on[s.svc]; !ps.cursor && (s.b == nil || at.serial != s.b.serial || at.id != ps.id) {
		// The server would name its own id.
		return
	}
	ps.cursor = false
	if s.cursors--; s.cursors == 0 {
		s.unpin(pinCursor)
	}
}

func (s *session) checkLong() {
	for _, ps := range s.stmts {
		if ps.long {
			return
		}
	}
	s.unpin(pinLongData)
}

func (s *session) fetch(r *request) error {
	ps, err := s.findStatement(r)
	if err != nil {
		return s.refuse(err)
	}
	if at := ps.on[s.svc]; !ps.cursor && (s.b == nil || at.serial != s.b.serial || at.id != ps.id) {
		// The server would name its own id.
		return s.refuse(&wire.ServerError{Code: 1421, State: "HY000", Message: fmt.Sprintf("The statement (%d) has no open cursor.", ps.id)})
	}
	r.shape, r.ps, r.svc = wire.ShapeFetch, ps, s.svc
	return s.exchange(r)
}

func (s *session) resetStatement(r *request) error {
	ps, err := s.findStatement(r)
	if err != nil {
		return s.refuse(err)
	}
	had := ps.cursor || ps.long
	s.dropCursor(ps)
	ps.long = false
	s.checkLong()
	if s.b == nil || ps.on[s.svc].serial != s.b.serial || s.l.Pooling == PerTransaction && !had {
		return s.fine()
	}
	r.ps, r.svc, r.safe = ps, s.svc, true
	return s.exchange(r)
}

func (s *session) sendLong(r *request) error {
	ps, err := s.findStatement(r)
	if err != nil {
		return nil // no answer is due; the execute will hear of it
	}
	ps.long = true
	s.pin(pinLongData, nil)
	r.shape, r.ps, r.svc = wire.ShapeNone, ps, s.service(ps.look)
	return s.exchange(r)
}

func (s *session) closeStatement(r *request) error {
	ps, err := s.findStatement(r)
	if err != nil {
		return nil
	}
	s.dropCursor(ps)
	delete(s.stmts, ps.id)
	if ps.long {
		ps.long = false
		s.checkLong()
	}
	if s.b == nil || ps.on[s.svc].serial != s.b.serial {
		return nil
	}
	// It goes with the next request: nothing waits for it.
	wire.PutStmtID(r.bytes[4:], ps.on[s.svc].id)
	s.pending = append(s.pending, r.bytes...)
	if len(s.pending) > 4096 {
		err := s.b.conn.Write(s.pending)
		s.pending = s.pending[:0]
		if err != nil {
			return s.lose()
		}
	}
	return nil
}
