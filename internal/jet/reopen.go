package jet

import (
	"fmt"
	"time"
)

// reopen closes the store of the embedded server and opens it again, unless
// somebody did so a moment ago.
func (s *Server) reopen() error {
	s.opening.Lock()
	defer s.opening.Unlock()
	if time.Since(s.opened) < healPause {
		return nil
	}
	s.opened = time.Now()
	s.log.Warn("the store does not work although its disk has room: it is opened anew")
	if err := s.embedded.ShutdownJetStream(); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	again := s.store
	if err := s.embedded.EnableJetStream(&again); err != nil {
		return fmt.Errorf("open the store anew: %w", err)
	}
	return nil
}

// closing is how long a server that switches its store off may take for it; it
// waits two seconds for another node to lead.
const closing = 4 * time.Second

// mend opens the store anew where a full disk made the embedded server switch
// it off, which a node of a cluster does. room says whether there is space.
func (s *Server) mend(room error) {
	if s.embedded == nil {
		return
	}
	if s.embedded.JetStreamEnabled() {
		s.off.Store(0)
		return
	}
	now := time.Now().UnixNano()
	if s.off.CompareAndSwap(0, now) || now-s.off.Load() < int64(closing) || room != nil {
		return
	}
	if err := s.reopen(); err != nil {
		s.log.Error("the store stays closed; it is tried again", "err", err)
	}
}
