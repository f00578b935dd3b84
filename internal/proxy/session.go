package proxy

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/internal/mysql/lexer"
	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/route"
)

// session is one client. Its goroutine alone touches it, but for the fields
// marked as shared.
type session struct {
	p      *Proxy
	l      *Listener
	id     uint32
	client *wire.Conn
	caps   uint32 // agreed with the client
	addr   string
	since  time.Time

	user      string
	collation byte
	attrs     []byte
	attrSum   uint64
	cred      *credential // nil: it cannot be moved
	key       key

	st     state
	status uint16 // as the server said last

	// b is the connection in use or used last; parked is the one for the other
	// service of a split session, lent the ones given back that may still have
	// our state.
	b      *backend
	svc    route.Service
	plan   *route.Plan
	seat   *route.Seat // counted there
	parked [2]*backend
	lent   [2]*backend
	avoid  string // member that just failed us

	stmts    map[uint32]*statement
	nextStmt uint32
	cursors  int

	tr        wire.Tracker
	forwarded bool // part of the answer went to the client
	req       request
	out       []byte // scratch
	early     []byte // of a sign-in: said together with how it went
	pending   []byte // requests without an answer, to go with the next

	rec     record
	writes  bool   // the open transaction may have written
	markNo  uint64 // of the mark sent with the request in hand, 0 if there is none
	scratch [64]byte

	inTurn error // of the last request that turn served

	marked  bool // it did more than plain reads
	set     settings
	ending  bool   // close after the answer
	lastNo  uint16 // error number of the last answer, 0 if it was fine
	tries   int    // of the request in hand
	unnamed bool   // a change of state was reported without its name
	// schemaBefore is the schema when the request in hand began.
	schemaBefore string
	dying        bool // the server said that it shuts down
	schemaText   bool // EXECUTE in text may change the schema

	// Shared from here on.
	pins      atomicPins
	began     atomic.Int64 // clock when the request in hand began, 0 while idle
	rested    atomic.Int64 // clock when the last one ended
	att       atomic.Pointer[backend]
	killing   atomic.Int32
	kind      atomic.Uint32 // of the request in hand; Read while idle
	leave     atomic.Bool   // please move, for balance
	inTrx     atomic.Bool
	who       atomic.Pointer[string] // the user, for others to read
	pinText   atomic.Pointer[string]
	queries   atomic.Int64
	moved     atomic.Int64
	trxSince  atomic.Int64
	door      atomic.Pointer[door]    // how to get in as this session's user
	next      atomic.Pointer[backend] // opened for us where we are to go
	timedOut  atomic.Bool
	stoppedAt atomic.Int64 // clock when the query timeout stopped it last
	resting   atomic.Bool
	quit      chan struct{}
	quitOnce  sync.Once
}

type atomicPins struct{ v atomic.Uint32 }

func (a *atomicPins) load() pins   { return pins(a.v.Load()) }
func (a *atomicPins) store(p pins) { a.v.Store(uint32(p)) }

// request is what the client asked, in the form it can be sent (again).
type request struct {
	bytes []byte // nil once it cannot be sent again
	shape wire.Shape
	st    lexer.Stmt
	text  []byte
	ps    *statement
	svc   route.Service
	// safe: running it twice does no harm. retry: it may be tried again after it
	// lost certification.
	safe, retry bool
	stream      bool // too large to hold: the rest comes from the client
	// schema: it changes the schema; gated: and its turn has come. on is where it
	// was sent then, over whether its answer came.
	schema, gated bool
	on            *backend
	over          bool
	command       byte
}

var (
	errQuit = errors.New("client left")
	epoch   = time.Now()
)

// clock is a monotonic time in nanoseconds, never 0.
func clock() int64 { return int64(time.Since(epoch)) + 1 }

func (s *session) pin(p pins, text []byte) {
	old := s.pins.load()
	if old&p == p {
		return
	}
	s.pins.store(old | p)
	if p&^brief != 0 {
		s.p.m.pinned(p &^ old &^ brief)
		d := lexer.Digest(text, s.status&wire.StatusNoBackslashEscapes != 0, 200)
		s.pinText.Store(&d)
	}
}

func (s *session) unpin(p pins) {
	if old := s.pins.load(); old&p != 0 {
		s.pins.store(old &^ p)
	}
}

// userName is the user as other goroutines may read it.
func (s *session) userName() string {
	if u := s.who.Load(); u != nil {
		return *u
	}
	return ""
}

func (s *session) inTrans() bool { return s.status&wire.StatusInTrans != 0 }

// fixed tells that the session cannot leave its connection now.
func (s *session) fixed() bool {
	return s.inTrans() || s.pins.load()&^brief != 0
}

// end makes the session stop as soon as it looks. Any goroutine may call it.
func (s *session) end() {
	s.quitOnce.Do(func() { close(s.quit) })
	s.client.Wake()
}

func (s *session) ended() bool {
	select {
	case <-s.quit:
		return true
	default:
		return false
	}
}

// run serves the client until one side leaves.
func (s *session) run() {
	serve := s.turn // made once: it is a value on the heap
	for {
		if err := s.await(serve); err != nil {
			return
		}
		err := s.inTurn
		s.inTurn = nil
		if err == nil && len(s.client.Buffered()) > 0 {
			err = s.serve()
		}
		if err != nil {
			if !errors.Is(err, errQuit) && !errors.Is(err, io.EOF) {
				s.p.log.Debug("session ended", "session", s.id, "user", s.user, "client", s.addr, "err", err)
			}
			return
		}
		if s.ending {
			return
		}
	}
}

// turn serves what has arrived if it is one whole request of the common kinds,
// which need nothing more of the client. It returns false for run to go on.
func (s *session) turn() bool {
	b := s.client.Buffered()
	if len(b) < 5 || int(b[0])|int(b[1])<<8|int(b[2])<<16 != len(b)-4 || b[4] != wire.ComQuery && b[4] != wire.ComStmtExecute {
		return false
	}
	s.resting.Store(false)
	s.inTurn = s.serve()
	return s.inTurn == nil && !s.ending && !s.ended() && !s.called() && len(s.client.Buffered()) == 0
}

// called tells that the session should look at its place before it waits.
func (s *session) called() bool {
	return s.b != nil && (s.plan != s.p.route.Plan() || s.leave.Load())
}

// await waits for a request that is not served in turn, or for the end of one
// that was. Meanwhile the session may be woken to leave
// its member, to give its buffers back, or to end.
func (s *session) await(serve func() bool) error {
	for len(s.client.Buffered()) == 0 {
		if s.called() || s.ended() {
			if s.ended() {
				s.goodbye()
				return errQuit
			}
			s.reconsider()
		}
		var err error
		if s.resting.Load() {
			if s.b != nil {
				s.b.conn.Rest()
			}
			err = s.client.FillIdle()
		} else {
			err = s.client.Turns(serve)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		s.client.SetReadDeadline(time.Time{})
		if s.ended() {
			s.goodbye()
			return errQuit
		}
		s.reconsider()
	}
	if s.resting.Load() {
		s.resting.Store(false)
	}
	return nil
}

// fillClient is Fill that is not disturbed by being woken.
func (s *session) needClient(n int) error {
	for {
		err := s.client.Need(n)
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || s.ended() {
			return err
		}
		s.client.SetReadDeadline(time.Time{})
	}
}

func (s *session) fillClient() error { return s.needClient(len(s.client.Buffered()) + 1) }

// goodbye tells an idle client that we end the session, not the network.
func (s *session) goodbye() {
	s.client.SetDeadline(time.Now().Add(time.Second))
	_ = s.client.Write(wire.AppendErr(nil, 0, &wire.ServerError{
		Code: 1053, State: "08S01", Message: "perdure: the proxy ends this session",
	}))
}

// refuse answers the request in hand with an error of ours.
func (s *session) refuse(err error) error {
	var e *wire.ServerError
	if !errors.As(err, &e) {
		e = &wire.ServerError{Code: 1105, State: "HY000", Message: "perdure: " + err.Error()}
	}
	seq := byte(1)
	if s.forwarded {
		seq = s.tr.Seq + 1
	}
	s.lastNo = e.Code
	s.p.m.errors.Add(1)
	s.out = wire.AppendErr(s.out[:0], seq, e)
	return s.client.Write(s.out)
}

// fine answers the request in hand with a plain OK.
func (s *session) fine() error {
	const lasting = wire.StatusInTrans | wire.StatusAutocommit | wire.StatusNoBackslashEscapes | wire.StatusInTransReadOnly
	s.out = wire.AppendOK(s.out[:0], 1, wire.OK{Status: s.status & lasting})
	return s.client.Write(s.out)
}

// close gives everything back.
func (s *session) close() {
	s.quitOnce.Do(func() { close(s.quit) })
	s.client.Release()
	s.settle(s.b)
	for i := range s.parked {
		s.settle(s.parked[i])
	}
	s.b, s.parked = nil, [2]*backend{}
	s.notNext()
	s.sitDown(nil)
}

// settle gives a connection back for others, reset, or closes it if that is not
// possible.
func (s *session) settle(b *backend) {
	if b == nil {
		return
	}
	if b == s.b {
		s.att.Store(nil)
	}
	if s.cred == nil || s.pins.load()&(pinTunnel|pinLongData|pinCredential) != 0 || s.killing.Load() > 0 || s.began.Load() != 0 {
		b.seat.discard(b)
		return
	}
	if m := s.p.route.Plan().Member(b.seat.name); m != nil && m.Drained {
		// It will be closed soon, and reset first should somebody get it before.
		// While all sessions leave the member at once, either can wait.
		b.owner, b.read = &somebody, false
		b.seat.put(b)
		return
	}
	b.owner = nil
	if b.plain && !s.marked && s.st.version == 0 && s.pins.load() == 0 && !s.inTrans() {
		b.fresh, b.read = true, true
		b.seat.put(b)
		return
	}
	b.read = false
	s.out = wire.AppendCommand(s.out[:0], wire.ComResetConnection, "")
	if err := b.conn.Write(s.out); err != nil {
		b.seat.discard(b)
		return
	}
	b.owed++
	b.serial = s.p.serial.Add(1)
	b.seat.put(b)
}

// mark notes requests that may leave something behind on a connection which only
// a reset takes away: everything but reads that succeeded and pings.
func (s *session) mark(r *request) {
	switch r.command {
	case wire.ComQuery:
		if r.st.Kinds == 1<<lexer.Read && r.st.Flags&^(lexer.SysVar|lexer.HintReader|lexer.HintWriter) == 0 && s.lastNo == 0 && s.pins.load() == 0 {
			return
		}
	case wire.ComPing, wire.ComQuit, wire.ComStatistics:
		return
	}
	s.marked = true
	if s.b != nil {
		s.b.dirty = true
	}
}

// unread is for a connection that was given back without a reset. What the reads
// left there is ROW_COUNT(), so a first question about the statement before costs
// the reset after all. (FOUND_ROWS() is left, too, and outlives a reset.)
func (s *session) unread(r *request) error {
	if r.command != wire.ComQuery && r.command != wire.ComStmtExecute {
		return nil
	}
	s.b.read = false
	if !r.st.Has(lexer.Diagnostic) {
		return nil
	}
	s.b.owner = &somebody
	return s.restore(s.b)
}

// sitDown counts the session on another member.
func (s *session) sitDown(seat *route.Seat) {
	if s.seat == seat {
		return
	}
	if s.seat != nil {
		s.seat.Sessions.Add(-1)
	}
	s.seat = seat
	if seat != nil {
		seat.Sessions.Add(1)
	}
}
