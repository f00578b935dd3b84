package jet

import (
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/perdure/perdure/internal/queue"
)

// space refuses appends while the file system is nearly full. JetStream
// switches itself off at the first write that meets a full disk; stopping
// before that keeps reading, trimming and acknowledging alive.
type space struct {
	dir     string
	reserve int64

	mu    sync.Mutex
	asked time.Time
	free  int64
}

func (s *space) check() error {
	if s.dir == "" || s.reserve <= 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.asked) > 100*time.Millisecond {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(s.dir, &fs); err != nil {
			return fmt.Errorf("free space of %s: %w", s.dir, err)
		}
		s.asked, s.free = now, int64(fs.Bavail)*fs.Bsize
	}
	if s.free < s.reserve {
		return fmt.Errorf("%w: %d MiB free on its disk, %d are kept in reserve", queue.ErrFull, s.free>>20, s.reserve>>20)
	}
	return nil
}
