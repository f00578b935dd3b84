package proxy

import (
	"encoding/binary"
	"errors"
	"hash/maphash"
	"strconv"
	"time"

	"github.com/perdure/perdure/internal/mysql/lexer"
	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/route"
)

// record is the open transaction of a session, kept so that it can be run again
// on another member should its own be lost. The requests are kept, and a sum of
// the answers: only if all answers are the same the second time, byte by byte,
// has the client seen nothing that is not so, and may go on.
type record struct {
	on   bool // what is kept is the whole transaction so far
	live bool // the request in hand is part of it: its answer is summed
	lost bool // the transaction was lost, with member from, and not run again yet
	mute bool // it is being run again: answers are summed and go to nobody

	from  string
	bytes []byte // the requests, one after the other
	parts []part
	sum   maphash.Hash
	size  int64 // bytes of answers

	// What the request in hand got from AUTO_INCREMENT, and how many rows it changed.
	id, rows uint64

	// As they were when it began.
	svc     route.Service
	lastID  uint64
	version uint64
}

// part is one request of a record.
type part struct {
	at, n   int // in bytes
	command byte
	shape   wire.Shape
	st      lexer.Stmt
	ps      *statement
	id      uint64 // the one it got from AUTO_INCREMENT, 0 for none
}

const (
	// mostParts bounds the requests of a record, besides their bytes.
	mostParts = 1000
	// goneWithin is how long there may be doubt whether a member is gone or only
	// a connection to it: somebody who ends a connection to get rid of its
	// transaction does not want it back.
	goneWithin = 1500 * time.Millisecond
	// keptBytes is what a record may hold on to between transactions.
	keptBytes = 4 << 10
)

// once is the flags that do not let a statement be run again: what it leaves
// behind or sees is not the transaction's alone.
const once = lexer.Assigns | lexer.Locks | lexer.Into | lexer.Multi | lexer.Tracks | lexer.Temporary | lexer.Role |
	lexer.Names | lexer.NextTrx | lexer.Global | lexer.Resource | lexer.ReadLock | lexer.Chain

// stays are the kinds of statement that stay inside their transaction.
const stays = 1<<lexer.Read | 1<<lexer.Write | 1<<lexer.Savepoint | 1<<lexer.Rollback

// keep is called before a request is sent. It tells the record what the answer
// will mean for it.
func (s *session) keep(r *request) {
	c := &s.rec
	c.live, c.id = false, 0
	kinds := uint32(stays)
	if !s.inTrans() {
		c.on = false
		if r.st.Kind != lexer.Begin && r.st.Kind != lexer.BeginReadOnly && s.status&wire.StatusAutocommit != 0 || s.p.cfg.MaxReplay <= 0 {
			return
		}
		kinds |= 1<<lexer.Begin | 1<<lexer.BeginReadOnly
		c.on = s.pins.load()&^brief == 0
		c.bytes, c.parts, c.size = c.bytes[:0], c.parts[:0], 0
		c.sum.Reset()
		c.svc, c.lastID, c.version = r.svc, s.st.lastID, s.st.version
	}
	if !c.on || r.bytes == nil || r.stream {
		return
	}
	switch r.command {
	case wire.ComQuery:
	case wire.ComStmtExecute:
		if r.ps.long || len(r.bytes) > 9 && r.bytes[9]&0x07 != 0 {
			return
		}
	default:
		return
	}
	c.live = r.st.Kinds&^kinds == 0 && r.st.Kinds != 0 && !r.st.Has(once)
}

// kept is called after a request was answered.
func (s *session) kept(r *request) {
	const reads = 1<<lexer.Read | 1<<lexer.Begin | 1<<lexer.BeginReadOnly | 1<<lexer.Savepoint
	s.writes = s.inTrans() && (s.writes || r.st.Kinds&^reads != 0 || r.st.Has(lexer.Calls))
	c := &s.rec
	switch {
	case !c.on:
	case !s.inTrans():
		c.on = false
		if cap(c.bytes) > keptBytes {
			c.bytes, c.parts = nil, nil
		}
	case c.live:
		c.on = r.bytes != nil && c.add(r, s.b.caps, s.p.cfg.MaxReplay)
	case r.command != wire.ComPing && r.command != wire.ComStmtPrepare && r.command != wire.ComStmtReset:
		c.on = false
	}
	c.live = false
}

// add keeps a request as it can be sent to any member.
func (c *record) add(r *request, caps uint32, most int) bool {
	req := r.bytes
	if r.ps != nil {
		e, ok := wire.ParseExecute(req[4:], r.ps.params, caps)
		if !ok {
			return false
		}
		if e.Types == nil && e.TypesAt > 0 {
			// The types were sent with an earlier one. They may be others by the
			// time this is run again.
			req = splice(req, 4+e.TypesAt, r.ps.types)
		}
	}
	if c.id != 0 && c.rows != 1 {
		return false // the client may count on from the first id
	}
	if len(c.bytes)+len(req) > most || len(c.parts) == mostParts {
		return false
	}
	c.parts = append(c.parts, part{at: len(c.bytes), n: len(req), command: r.command, shape: r.shape, st: r.st, ps: r.ps, id: c.id})
	c.bytes = append(c.bytes, req...)
	return true
}

// hand gives a part of an answer to the client.
func (s *session) hand(p []byte) error {
	if s.rec.live {
		_, _ = s.rec.sum.Write(p) // cannot fail
		s.rec.size += int64(len(p))
	}
	if s.rec.mute {
		return nil
	}
	s.forwarded = true
	return s.client.Write(p)
}

// loseFor is lose with a request in hand. It returns nil if that can go on: there
// was no transaction, or it has been run again elsewhere.
func (s *session) loseFor(r *request) error {
	err := s.lose()
	if err != nil && s.replay(r) {
		return nil
	}
	return err
}

// replay runs a transaction that was lost with its member again on another one,
// up to before the request in hand. It returns true if the session is where it
// was: every answer was the one the client has.
func (s *session) replay(r *request) bool {
	c := &s.rec
	if !c.lost {
		return false
	}
	c.lost = false
	if s.killing.Load() > 0 || s.timedOut.Load() || s.ended() || s.st.version != c.version || !s.gone(c.from, c.svc) {
		c.on = false
		return false
	}
	want, size := c.sum.Sum64(), c.size
	s.busyWith(lexer.Write)
	defer s.busyWith(busyKind(r.st))
	var err error
	for range 3 {
		if err = s.rerun(); err == nil || !errors.Is(err, errMember) {
			break
		}
	}
	s.lastNo, s.unnamed = 0, false
	if err == nil && (c.sum.Sum64() != want || c.size != size || !s.inTrans()) {
		err = errDiffers
	}
	if err != nil {
		c.on = false
		s.p.m.differing.Add(1)
		s.p.log.Info("a transaction could not be run again on another member", "session", s.id, "user", s.user, "err", err)
		if s.b != nil {
			_ = s.lose()
			c.lost = false
		}
		s.trxOver()
		return false
	}
	s.inTrx.Store(true)
	s.marked, s.b.dirty = true, true
	s.p.m.replays.Add(1)
	return true
}

var (
	errMember  = errors.New("the next member was lost too")
	errDiffers = errors.New("an answer was not the same")
)

// rerun sends what is kept to a member.
func (s *session) rerun() error {
	c := &s.rec
	c.mute = true
	defer func() { c.mute, c.live = false, false }()
	c.sum.Reset()
	c.size, c.live = 0, false
	s.st.lastID = c.lastID
	if err := s.ensure(c.svc); err != nil {
		return err
	}
	b := s.b
	for _, p := range c.parts {
		r := request{command: p.command, shape: p.shape, st: p.st, ps: p.ps, svc: c.svc}
		r.bytes = append(r.bytes, c.bytes[p.at:p.at+p.n]...) // it is made to fit the member
		var err error
		if p.id != 0 {
			// Members give out ids in steps of their own.
			s.out = wire.AppendQuery(s.out[:0], b.caps, "SET insert_id="+strconv.FormatUint(p.id, 10))
			err = s.converse(b, s.out, 1, false)
		}
		switch {
		case err != nil:
		case p.ps != nil:
			err = s.ready(&r)
		default:
			_, r.text, _ = wire.QueryText(r.bytes[5:], s.caps)
		}
		if err == nil {
			err = s.send(b, &r)
		}
		v := lost
		if err == nil {
			c.live = true
			v = s.answer(b, &r)
			c.live = false
		}
		if e, ok := errors.AsType[*wire.ServerError](err); ok {
			return e
		}
		if v != answered {
			s.avoid = b.seat.name
			_ = s.lose()
			c.lost = false
			return errMember
		}
		s.forget(p.ps)
	}
	return nil
}

// forget closes a statement on the member in use if its client has closed it.
func (s *session) forget(ps *statement) {
	if ps == nil || s.stmts[ps.id] == ps {
		return
	}
	at := &ps.on[s.svc]
	s.pending = wire.AppendCommand(s.pending, wire.ComStmtClose, binary.LittleEndian.AppendUint32(nil, at.id))
	*at = place{}
}

// gone waits, for a moment, for evidence that a member is not for us any more. A
// connection that is lost while its member is well was ended by somebody.
func (s *session) gone(name string, svc route.Service) bool {
	deadline := time.Now().Add(goneWithin)
	for {
		plan := s.p.route.Plan()
		m := plan.Member(name)
		if m == nil || m.Lost() || m.Refuses() || !m.Serves(svc) {
			return true
		}
		if s.waitPlan(plan, deadline, goneWithin) != nil {
			return false
		}
	}
}
