package jet

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A stream of the embedded server that met a full disk remembers the failed
// write: from then on it neither stores nor answers, also when there is room
// again, until its store is opened anew. The reserve keeps us from getting
// there, unless somebody else fills the disk faster than we look.

// healPause is the least time between two attempts to open the store anew.
const healPause = 5 * time.Second

// healer opens the embedded server's store anew when a stream has stopped
// answering although its disk has room.
type healer struct {
	mu     sync.Mutex
	silent int // attempts in a row without an answer
	last   time.Time
}

// failed notes how an attempt to store ended and, if that is the second in a
// row without an answer, opens the store anew. Requests of others that meet
// that moment get no answer and are offered again by those who made them.
func (h *healer) failed(s *Server, err error, room error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		s.mend(room)
	}
	if !errors.Is(err, context.DeadlineExceeded) || room != nil {
		h.silent = 0
		return nil
	}
	h.silent++
	clustered := s.cfg.Cluster != nil // another node takes the stream over there
	if h.silent < 2 || s.embedded == nil || clustered || time.Since(h.last) < healPause {
		return nil
	}
	h.silent, h.last = 0, time.Now()
	return s.reopen()
}
