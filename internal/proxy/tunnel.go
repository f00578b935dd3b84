package proxy

import (
	"io"
	"time"
)

// tunnel joins client and server for good: replication, clone and commands we do
// not know. Nothing is read on the way any more.
func (s *session) tunnel(r *request) error {
	if err := s.ensure(s.plainService()); err != nil {
		return s.refuse(err)
	}
	s.pin(pinTunnel, nil)
	b := s.b
	if err := s.send(b, r); err != nil {
		return err
	}
	s.client.Advance(len(r.bytes))
	r.bytes = nil
	if rest := s.client.Buffered(); len(rest) > 0 {
		if err := b.conn.Write(rest); err != nil {
			return err
		}
		s.client.Advance(len(rest))
	}
	s.began.Store(0) // as long as it takes
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(s.client.Net(), b.conn.Net())
		// The client's side is blocked in a read; wake it for good.
		s.end()
	}()
	for {
		_, err := io.Copy(b.conn.Net(), s.client.Net())
		if s.ended() || err == nil {
			break
		}
		if ne, ok := err.(interface{ Timeout() bool }); ok && ne.Timeout() {
			s.client.SetReadDeadline(time.Time{})
			continue
		}
		break
	}
	_ = b.conn.Close()
	<-back
	return errQuit
}
