package proxy

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"github.com/perdure/perdure/internal/mysql/lexer"
	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/route"
)

// verdict is how bringing back an answer ended.
type verdict uint8

const (
	answered  verdict = iota
	clientErr         // the client is gone
	lost              // the member is gone, nothing went to the client
	torn              // the member is gone in the middle of an answer
	again             // it lost certification and may be tried again
	elsewhere         // the member refused before doing anything
	refused           // the member refused to commit
	garbage           // the member did not speak the protocol
)

// exchange sends a request and brings the answer to the client. What it returns
// ends the session; everything else has been answered.
func (s *session) exchange(r *request) error {
	s.lastNo, s.tries, s.unnamed, s.dying = 0, 0, false, false
	s.schemaBefore = s.st.schema
	// Of a transaction that was lost under an earlier request the client has heard:
	// rolled back, committed or in doubt. It must never run again after that.
	s.rec.lost = false
	var deadline int64
	for {
		if err := s.ensure(r.svc); err != nil {
			if e, ok := errors.AsType[*wire.ServerError](err); ok && e.Code == 1213 && ends(r) {
				return s.fine() // it is rolled back
			}
			if !s.replay(r) {
				return s.fail(r, err)
			}
			continue
		}
		if r.schema {
			if !r.gated && s.p.route.Plan().Spread {
				return errUngated
			}
			r.on, r.over = s.b, false
		}
		if s.b.read {
			if err := s.unread(r); err != nil {
				if err := s.loseFor(r); err != nil {
					return s.fail(r, err)
				}
				continue
			}
		}
		if r.ps != nil {
			if err := s.ready(r); err != nil {
				var e *wire.ServerError
				if errors.As(err, &e) || s.tries > 3 {
					return s.fail(r, err)
				}
				s.tries++
				if err := s.loseFor(r); err != nil {
					return s.fail(r, err)
				}
				continue
			}
		}
		s.keep(r)
		b := s.b
		if s.markNo = 0; s.marks(r) {
			s.addMark(b.caps)
		}
		unsent := false
		v := lost
		if err := s.send(b, r); err == nil {
			if s.markNo == 0 || s.markAnswer(b) == nil {
				v = s.answer(b, r)
			}
		} else if errors.Is(err, errClient) {
			return err
		} else if errors.Is(err, wire.ErrStale) {
			if err := s.loseFor(r); err != nil {
				return s.fail(r, err)
			}
			continue
		} else {
			// Not all of it left, so the member cannot have understood it. It may
			// have said why before it hung up.
			unsent = true
			s.ending = s.ending || r.stream // the rest of it is still coming
			s.p.log.Debug("send failed", "member", b.seat.name, "session", s.id, "err", err)
		}
		switch v {
		case answered:
			r.over = true
			s.kept(r)
			return nil
		case clientErr:
			s.p.log.Debug("client left in the middle of an answer", "session", s.id)
			return errClient
		case again:
			r.over = true
			s.tries++
			s.p.m.retries.Add(1)
			s.pause(s.tries)
			continue
		case garbage:
			s.p.log.Warn("a member did not speak the protocol", "member", b.seat.name, "session", s.id)
			s.ending = true
			if s.forwarded && !s.tr.Boundary() {
				return wire.ErrMalformed
			}
			return s.refuse(&wire.ServerError{Code: 1053, State: "08S01", Message: "perdure: member " + b.seat.name + " answered something that is not the protocol"})
		case torn:
			return s.torn(r)
		case refused:
			v, unsent = lost, true
		}
		if s.ended() {
			return errClient
		}
		if goOn, err := s.goElsewhere(b, r, v, unsent); !goOn {
			return err
		}
		if deadline == 0 {
			deadline = clock() + int64(s.p.cfg.HoldLimit)
		} else if clock() > deadline && !s.inTrans() {
			return s.refuse(noMember(r.svc, s.p.cfg.HoldLimit, "members went away one after the other"))
		}
		s.tries++
		s.p.m.reruns.Add(1)
	}
}

// goElsewhere leaves a member that did not answer. It returns true if the request
// may be sent again, to another one; otherwise it was answered.
func (s *session) goElsewhere(b *backend, r *request, v verdict, unsent bool) (goOn bool, err error) {
	name := b.seat.name
	if m := s.p.route.Plan().Member(name); m != nil && (v == lost || !s.fixed()) {
		s.p.doubt(m)
	}
	s.avoid = name
	if v != lost && !s.dying {
		if !s.depart() {
			return false, s.refuse(&wire.ServerError{Code: 1290, State: "HY000", Message: "perdure: member " + name + " refused the statement and the session cannot leave it: " + s.pins.load().String()})
		}
		return true, nil
	}
	began, fixed := s.inTrans(), s.fixed()
	trx := began || s.status&wire.StatusAutocommit == 0
	err = s.lose()
	if trx && !s.ending && ends(r) {
		return false, s.fine() // it is rolled back
	}
	whole := r.bytes != nil && !r.stream && !s.timedOut.Load() && !s.ending
	if !whole || fixed && !began {
		return false, s.refuse(s.blame(r, name, trx, unsent, err))
	}
	nothing := unsent || v == elsewhere || r.safe
	if !nothing && (!trx || commits(r.st)) {
		switch s.settled(name) {
		case nobodyKnows:
			return false, s.refuse(unknown(name))
		case tookEffect:
			return false, s.fine()
		case hadNone:
		}
	}
	// What ran in the transaction is gone, and nothing of it has happened.
	if began && !s.replay(r) {
		return false, s.refuse(rolledBack(name))
	}
	return true, nil
}

var errClient = errors.New("client is gone")

// fail answers a request that was never run.
func (s *session) fail(r *request, err error) error {
	if r.shape == wire.ShapeNone {
		return nil
	}
	if errors.Is(err, errClosed) {
		return err
	}
	if r.stream {
		// The rest of the request is still to come; there is no way to tell the
		// client before it has sent it all.
		if err := s.swallow(); err != nil {
			return err
		}
		r.bytes = nil
	}
	return s.refuse(err)
}

// blame finds the error for a request whose member was lost under it.
func (s *session) blame(r *request, name string, trx, unsent bool, err error) error {
	if s.timedOut.Load() {
		return &wire.ServerError{Code: 3024, State: "HY000", Message: "perdure: query execution was interrupted, maximum statement execution time exceeded"}
	}
	if trx && !commits(r.st) {
		return rolledBack(name)
	}
	var e *wire.ServerError
	if errors.As(err, &e) && s.ending {
		return err
	}
	if unsent {
		return &wire.ServerError{Code: 1053, State: "08S01", Message: "perdure: member " + name + " was lost before the statement could be sent; nothing was run"}
	}
	return unknown(name)
}

// ends tells whether a request does nothing but roll its transaction back.
func ends(r *request) bool {
	return r.st.Kind == lexer.Rollback && !r.st.Has(lexer.Chain) && r.bytes != nil
}

// commits tells whether a statement may commit the transaction it is in.
func commits(st lexer.Stmt) bool {
	const inside = 1<<lexer.Read | 1<<lexer.Write | 1<<lexer.Load | 1<<lexer.Savepoint | 1<<lexer.Rollback
	return st.Kinds&^inside != 0 || st.Kinds == 0
}

func (s *session) pause(try int) {
	// Up to 1, 2, 4 ... 128 ms: the winner needs a round of the group to finish.
	limit := time.Millisecond << min(try-1, 7)
	t := time.NewTimer(time.Duration(rand.Int64N(int64(limit))) + limit/2)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.quit:
	}
}

// send puts the request on the wire, together with what was waiting to go.
func (s *session) send(b *backend, r *request) error {
	out, first := r.bytes, true
	if len(s.pending) > 0 {
		s.pending = append(s.pending, r.bytes...)
		out, first = s.pending, false
		defer func() { s.pending = s.pending[:0] }()
	}
	switch {
	case r.stream && first:
		return s.stream(b, r, true)
	case r.stream:
		if err := b.conn.Write(out); err != nil {
			return err
		}
		return s.stream(b, r, false)
	case r.shape == wire.ShapeNone:
		return b.conn.Write(out)
	}
	return b.conn.Ask(out, !b.lively())
}

// stream passes a request on as it comes. first tells whether what is buffered
// still has to be sent.
func (s *session) stream(b *backend, r *request, first bool) error {
	h := r.bytes
	left := int(h[0]) | int(h[1])<<8 | int(h[2])<<16
	last := left < maxPacket
	if first {
		if err := b.conn.Write(r.bytes); err != nil {
			return err
		}
	}
	left -= len(r.bytes) - 4
	s.client.Advance(len(r.bytes))
	r.bytes = nil
	return s.pass(b, left, last)
}

// pass brings the rest of a packet, and those that continue it, to the member.
// A nil member swallows them.
func (s *session) pass(b *backend, left int, last bool) error {
	for {
		for left > 0 {
			if len(s.client.Buffered()) == 0 {
				if err := s.fillClient(); err != nil {
					return errClient
				}
			}
			chunk := s.client.Buffered()
			chunk = chunk[:min(left, len(chunk))]
			if b != nil {
				if err := b.conn.Write(chunk); err != nil {
					return err
				}
			}
			left -= len(chunk)
			s.client.Advance(len(chunk))
		}
		if last {
			return nil
		}
		if err := s.needClient(4); err != nil {
			return errClient
		}
		h := s.client.Buffered()
		left = int(h[0]) | int(h[1])<<8 | int(h[2])<<16
		last = left < maxPacket
		if b != nil {
			if err := b.conn.Write(h[:4]); err != nil {
				return err
			}
		}
		s.client.Advance(4)
	}
}

// swallow reads the request in hand to its end.
func (s *session) swallow() error {
	r := &s.req
	if r.bytes == nil {
		return errClient
	}
	left := int(r.bytes[0]) | int(r.bytes[1])<<8 | int(r.bytes[2])<<16
	last := left < maxPacket
	s.client.Advance(4)
	return s.pass(nil, left, last)
}

// answer brings the answer to the client while it arrives.
func (s *session) answer(b *backend, r *request) verdict {
	t := &s.tr
	t.Begin(r.shape, b.caps)
	for !t.Done() {
		buf := b.conn.Buffered()
		n, ev, size := t.Scan(buf)
		switch ev {
		case wire.More:
			if n > 0 {
				if s.hand(buf[:n]) != nil {
					return clientErr
				}
				b.conn.Advance(n)
			}
			if t.Done() {
				continue
			}
			if err := b.conn.Fill(); err != nil {
				s.p.log.Debug("a member did not answer", "member", b.seat.name, "session", s.id, "err", err)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					b.conn.SetReadDeadline(time.Time{})
				}
				if s.forwarded {
					return torn
				}
				return lost
			}
		case wire.Bad:
			if n > 0 {
				_ = s.hand(buf[:n])
			}
			return garbage
		case wire.Infile:
			if s.hand(buf[:n+size]) != nil {
				return clientErr
			}
			b.conn.Advance(n + size)
			if v := s.infile(b, r); v != answered {
				return v
			}
		case wire.Prepared:
			s.prepared(r, buf[n+4:n+size])
			if s.hand(buf[:n+size]) != nil {
				return clientErr
			}
			b.conn.Advance(n + size)
		case wire.Control:
			out := n + size
			if t.IsErr {
				if v := s.failed(r, buf[n+4:n+size]); v != answered && n == 0 && !s.forwarded {
					b.conn.Advance(size)
					return v
				}
			} else if m := s.succeeded(b, r, buf[n+4:n+size]); m != size-4 {
				wire.PutHeader(buf[n:], m, t.Seq)
				out = n + 4 + m
			}
			if s.hand(buf[:out]) != nil {
				return clientErr
			}
			b.conn.Advance(n + size)
		}
	}
	b.conn.Shrink()
	return answered
}

// succeeded takes note of an OK and returns the length it has once everything
// the client did not ask for is taken out.
func (s *session) succeeded(b *backend, r *request, p []byte) int {
	ok, err := wire.ParseOK(p, b.caps)
	if err != nil {
		s.pin(pinUnknown, r.text) // the client may make more of it than we do
		return len(p)
	}
	before := s.status
	s.status = ok.Status
	s.rec.id, s.rec.rows = ok.InsertID, ok.Affected
	unnamed := s.observe(&ok)
	if before&wire.StatusInTrans != 0 && ok.Status&wire.StatusInTrans == 0 {
		s.unpin(pinNextTrx)
	}
	if r.text != nil || r.ps != nil {
		s.unnamed = s.unnamed || unnamed // of several results, judged at the end
		if r.st.Kinds != 0 && s.tr.Done() {
			text := r.text
			if r.ps != nil {
				text = r.ps.text
			}
			s.learn(r.st, text, s.unnamed)
		}
		if ok.Warnings > 0 || r.st.Has(lexer.CalcFound) {
			s.pin(pinAnswer, nil)
		}
	} else if r.command == wire.ComInitDB && ok.Tracks == nil {
		s.st.schema = string(r.bytes[5:])
		b.schema = s.st.schema
		s.st.changed(b)
	}
	if r.ps != nil {
		s.cursorState(r, ok.Status)
	}
	switch {
	case s.pins.load()&pinTracks != 0:
		return len(p)
	case s.caps&wire.ClientSessionTrack == 0:
		return wire.KeepTracks(p, &ok, keepNone)
	}
	return wire.KeepTracks(p, &ok, keepDefault)
}

// failed decides about an ERR.
func (s *session) failed(r *request, p []byte) verdict {
	code := wire.ErrCode(p)
	s.lastNo = code
	s.p.m.errors.Add(1)
	trx := s.inTrans()
	v := answered
	if k := r.st.Kind; (k == lexer.Call || k == lexer.Execute) && s.st.schema != s.schemaBefore {
		// A procedure runs in its own schema, and the server reports that with
		// its results. When it fails, nothing reports the way back.
		s.st.schema, s.b.schema = s.schemaBefore, s.schemaBefore
		s.st.changed(s.b)
	}
	switch code {
	case 3101, 1213:
		if r.retry && s.mayRetry(trx) {
			v = again
		}
		s.trxOver()
		s.p.m.conflicts.Add(1)
	case 1180:
		if bytes.Contains(p, []byte("149")) {
			if r.retry && s.mayRetry(trx) {
				v = again
			}
			s.trxOver()
			s.p.m.conflicts.Add(1)
		}
	case 3100:
		if v = s.stopped(r, trx); v == answered {
			s.trxOver()
		}
	case 1290:
		if bytes.Contains(p, []byte("read-only")) {
			v = s.readOnly(r)
		}
	case 1836, 3032:
		v = s.readOnly(r)
	case 1053:
		v = s.interrupted()
	}
	if s.status&wire.StatusAutocommit == 0 && code != 3101 && code != 1213 {
		// An ERR does not say; under autocommit=0 a transaction may have begun.
		s.status |= wire.StatusInTrans
	}
	s.pin(pinAnswer, nil)
	if v != answered && (s.forwarded || r.bytes == nil) {
		v = answered
	}
	return v
}

// mayRetry tells whether a statement that lost certification was a transaction
// of its own, and has not been tried too often.
func (s *session) mayRetry(trx bool) bool {
	if trx || s.status&wire.StatusAutocommit == 0 || s.req.bytes == nil || s.tries >= s.p.cfg.Retries {
		return false
	}
	return s.req.ps == nil || !s.req.ps.long
}

// readOnly decides about a member that does not take writes. A transaction that
// meets one cannot be finished there; leaving rolls it back.
func (s *session) readOnly(r *request) verdict {
	switch {
	case s.l.Mode == ReadOnly:
		return answered // the client is on the reader by its own choice
	case s.inTrans() && s.pins.load()&^brief == 0 && !commits(r.st) && s.status&wire.StatusInTransReadOnly == 0:
		return lost
	case s.rec.on && r.st.Kinds == 1<<lexer.Commit:
		return refused // it can be run where it is not
	case s.fixed():
		return answered
	case s.svc == route.Read:
		r.svc = route.Write // the statement turned out to write
	}
	return elsewhere
}

// stopped decides about a transaction that the server's group replication did not
// let through, because it stops; or because the transaction is too large, which
// it would be elsewhere too. Either way it was rolled back.
func (s *session) stopped(r *request, trx bool) verdict {
	commit := trx && s.rec.on && r.st.Kinds == 1<<lexer.Commit
	if !commit && !(r.retry && s.mayRetry(trx)) {
		return answered
	}
	if m := s.p.route.Plan().Member(s.b.seat.name); m != nil {
		s.p.doubt(m)
	}
	switch {
	case !s.gone(s.b.seat.name, s.svc):
		return answered
	case commit:
		return refused
	}
	return elsewhere
}

// interrupted decides about a statement that failed because the server shuts
// down: it was rolled back, and the connection is about to close.
func (s *session) interrupted() verdict {
	if s.fixed() {
		return lost
	}
	s.dying = true
	return elsewhere
}

// infile brings the client's file to the member.
func (s *session) infile(b *backend, r *request) verdict {
	s.client.Advance(len(r.bytes))
	r.bytes, r.text = nil, nil
	for {
		if err := s.needClient(4); err != nil {
			return clientErr
		}
		h := s.client.Buffered()
		left := int(h[0]) | int(h[1])<<8 | int(h[2])<<16
		if left == 0 {
			err := b.conn.Write(h[:4])
			s.client.Advance(4)
			if err != nil {
				return torn
			}
			return answered
		}
		if err := s.needClient(min(4+left, 64<<10)); err != nil {
			return clientErr
		}
		first := s.client.Buffered()
		first = first[:min(4+left, len(first))]
		if err := b.conn.Write(first); err != nil {
			return torn
		}
		left -= len(first) - 4
		s.client.Advance(len(first))
		if err := s.pass(b, left, true); err != nil {
			if errors.Is(err, errClient) {
				return clientErr
			}
			return torn
		}
	}
}

// torn ends an answer the member did not finish. If the client has whole packets
// so far, an error can take the place of the rest.
func (s *session) torn(r *request) error {
	name := s.b.seat.name
	trx := s.inTrans()
	boundary := s.tr.Boundary()
	err := s.lose()
	if !boundary {
		return errors.New("member was lost in the middle of a packet")
	}
	if r.bytes == nil || err == nil {
		err = s.blame(r, name, trx, false, err)
	}
	return s.refuse(err)
}
