package proxy

import (
	"context"
	"strconv"
	"time"

	"github.com/perdure/perdure/internal/mysql/lexer"
	"github.com/perdure/perdure/internal/mysql/wire"
)

// Outcomes finds out what became of commits that were never answered.
type Outcomes interface {
	// Committed tells whether the group has the transaction. It returns when
	// nothing can change that any more, or with an error when ctx ends or nobody
	// can tell.
	Committed(ctx context.Context, c LostCommit) (bool, error)
}

// LostCommit is a commit whose member was lost before it answered.
type LostCommit struct {
	Member string    // its name
	Mark   string    // the name of a savepoint in the transaction, its own alone
	Since  time.Time // when it was sent, or a little earlier
}

// fate is what became of a request.
type fate uint8

const (
	nobodyKnows fate = iota
	tookEffect
	hadNone
)

// A transaction that wrote is given a mark with its COMMIT, in one write: a
// savepoint. Its name goes into the binary logs of all members, between what the
// transaction did and its end, and is the only thing there that tells the
// transactions of one member apart. Without writes there is nothing to look for,
// and the server logs nothing.

// marks tells whether a request is to be sent with a mark.
func (s *session) marks(r *request) bool {
	return s.p.cfg.Outcomes != nil && s.writes && s.inTrans() && r.st.Kinds == 1<<lexer.Commit && !r.st.Has(lexer.Chain) &&
		s.pins.load()&(pinTracks|pinXA) == 0 && !s.unlogged()
}

// addMark puts the mark before the request that is sent next.
func (s *session) addMark(caps uint32) {
	s.markNo = s.p.markNo.Add(1)
	text := append(s.scratch[:0], "SAVEPOINT "...)
	text = s.p.appendMark(text, s.markNo)
	s.pending = wire.AppendQuery(s.pending, caps, text)
}

func (p *Proxy) appendMark(b []byte, no uint64) []byte {
	return strconv.AppendUint(append(b, p.markBase...), no, 16)
}

// markAnswer reads the answer to the savepoint.
func (s *session) markAnswer(b *backend) error {
	var t wire.Tracker
	t.Begin(wire.ShapeQuery, b.caps)
	for !t.Done() {
		n, ev, size := t.Scan(b.conn.Buffered())
		if ev == wire.Bad {
			return wire.ErrMalformed
		}
		b.conn.Advance(n + size)
		if ev == wire.More && !t.Done() {
			if err := b.conn.Fill(); err != nil {
				return err
			}
		}
	}
	if t.IsErr {
		s.markNo = 0
	}
	return nil
}

// settled finds out what became of a COMMIT that was sent with a mark.
func (s *session) settled(member string) fate {
	if s.markNo == 0 {
		return nobodyKnows
	}
	c := LostCommit{
		Member: member, Mark: string(s.p.appendMark(nil, s.markNo)),
		Since: time.Now().Add(-time.Duration(clock() - s.began.Load())),
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.p.cfg.OutcomeLimit)
	left := make(chan struct{})
	go func() {
		defer close(left)
		select {
		case <-s.quit:
			cancel()
		case <-ctx.Done():
		}
	}()
	committed, err := s.p.cfg.Outcomes.Committed(ctx, c)
	cancel()
	<-left
	switch {
	case err != nil:
		s.p.log.Warn("what became of a commit could not be found out", "session", s.id, "user", s.user, "member", c.Member, "err", err)
		return nobodyKnows
	case committed:
		s.p.m.settled.Add(1)
		return tookEffect
	}
	s.p.m.settled.Add(1)
	return hadNone
}

// unlogged tells that the session keeps its writes out of the binary log, where
// they would be looked for.
func (s *session) unlogged() bool {
	for _, v := range s.st.vars {
		if v.name == "sql_log_bin" {
			return v.value == "OFF"
		}
	}
	return false
}
