package drill

import (
	"context"
	"sync"
	"time"
)

// writeLimit bounds one write of the client; longer, and a person would have
// given up.
const writeLimit = 20 * time.Second

// felt is what a client notices.
type felt struct {
	mu           sync.Mutex
	last         time.Time
	pause        time.Duration
	good, failed int64
}

func newFelt() *felt { return &felt{last: time.Now()} }

// write writes one row after the other until ctx ends.
func (f *felt) write(ctx context.Context, c Client) {
	tick := time.NewTicker(writePause)
	defer tick.Stop()
	for {
		limited, cancel := context.WithTimeout(ctx, writeLimit)
		err := c.Write(limited)
		cancel()
		if ctx.Err() != nil {
			return
		}
		f.mu.Lock()
		if err != nil {
			f.failed++
		} else {
			now := time.Now()
			f.good++
			f.pause, f.last = max(f.pause, now.Sub(f.last)), now
		}
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (f *felt) sum() (good, failed, pauseMillis int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.good, f.failed, f.pause.Milliseconds()
}
