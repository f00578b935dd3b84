package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// maxFrameBytes keeps a frame well below what the log takes as one message
	// (8 MiB), after encryption.
	maxFrameBytes = 4 << 20
	// maxWaiting is how much may wait for the disk before callers are told to
	// come back: some seconds of a slow disk, and a bound on memory.
	maxWaiting = 64 << 20
	// apart is how long after a frame the next one leaves, if the first is still
	// on its way. Where the other nodes are near, it has landed long before, and
	// one large frame at a time is best: with three, the same three nodes stored
	// a third less. Where they are far, frames follow each other like this.
	apart = 4 * time.Millisecond
)

// gather turns many requests into few frames: while one frame is on its way to
// the disk, the next one fills. So the disk's flush is shared by everybody who
// came meanwhile, and a lone client waits for nobody.
type gather struct {
	log     Log
	seal    func([]byte) ([]byte, error)
	flights int           // frames on their way at once
	limit   time.Duration // for one frame to be stored

	mu      sync.Mutex
	waiting []*group
	bytes   int
	wake    chan struct{}
	landed  chan struct{} // one of the frames on their way is stored
	away    int           // frames on their way
	left    time.Time     // when the last of them left
	closed  error
}

// group is the writes of one request. They stay together and in order.
type group struct {
	records []*record
	bytes   int
	done    chan struct{}
	first   uint64 // sequence of the first write, once done
	at      time.Time
	err     error
}

func newGather(log Log, seal func([]byte) ([]byte, error), flights int, limit time.Duration) *gather {
	return &gather{log: log, seal: seal, flights: flights, limit: limit, wake: make(chan struct{}, 1), landed: make(chan struct{}, 1)}
}

// run stores what is handed to put until ctx ends. What waits then is refused.
func (g *gather) run(ctx context.Context) error {
	var wg errgroup.Group
	for range g.flights {
		wg.Go(func() error {
			for g.next(ctx) {
				g.space(ctx)
				groups := g.take()
				if len(groups) > 0 {
					g.store(groups)
					g.land()
				}
			}
			return nil
		})
	}
	_ = wg.Wait()
	g.mu.Lock()
	left := g.waiting
	g.waiting, g.closed = nil, fmt.Errorf("%w: this node is stopping", ErrUnavailable)
	g.mu.Unlock()
	for _, w := range left {
		w.err = g.closed
		close(w.done)
	}
	return context.Cause(ctx)
}

func (g *gather) next(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-g.wake:
		return true
	}
}

// space waits until no frame is on its way, or the last one left a while ago.
func (g *gather) space(ctx context.Context) {
	for {
		g.mu.Lock()
		away, rest := g.away, time.Until(g.left.Add(apart))
		g.mu.Unlock()
		if away == 0 || rest <= 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-g.landed:
		case <-time.After(rest):
		}
	}
}

// land notes that a frame is stored, or will not be.
func (g *gather) land() {
	g.mu.Lock()
	g.away--
	g.mu.Unlock()
	signal(g.landed)
}

// signal leaves one word, if none lies there.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// take removes what fits in one frame from the front.
func (g *gather) take() []*group {
	g.mu.Lock()
	defer g.mu.Unlock()
	bytes, writes, n := 0, 0, 0
	for n < len(g.waiting) {
		w := g.waiting[n]
		if n > 0 && (bytes+w.bytes > maxFrameBytes || writes+len(w.records) > maxFrameWrites) {
			break
		}
		bytes += w.bytes
		writes += len(w.records)
		n++
	}
	out := g.waiting[:n:n]
	if n > 0 {
		g.away, g.left = g.away+1, time.Now()
	}
	if g.waiting = g.waiting[n:]; len(g.waiting) > 0 {
		signal(g.wake)
	} else {
		g.waiting = nil
	}
	g.bytes -= bytes
	return out
}

func (g *gather) store(groups []*group) {
	var all []*record
	for _, w := range groups {
		all = append(all, w.records...)
	}
	at := time.Now().Truncate(time.Microsecond)
	frame, err := g.seal(encodeFrame(all, at))
	var seq uint64
	if err == nil {
		// Not the context of any caller: a frame belongs to many.
		ctx, cancel := context.WithTimeout(context.Background(), g.limit)
		seq, err = g.log.Append(ctx, frame)
		cancel()
	}
	index := 0
	for _, w := range groups {
		w.first, w.at, w.err = writeSeq(seq, index), at, err
		index += len(w.records)
		close(w.done)
	}
}

// put stores the writes of one request, all or none, and returns the sequence
// of the first. When ctx ends before the answer, the outcome is in doubt.
func (g *gather) put(ctx context.Context, records []*record) (*group, error) {
	w := &group{records: records, done: make(chan struct{})}
	for _, r := range records {
		w.bytes += r.size()
	}
	if w.bytes > maxFrameBytes || len(records) > maxFrameWrites {
		return nil, fmt.Errorf("a request of %d writes and %d bytes does not fit in one frame", len(records), w.bytes)
	}
	if err := g.offer(w); err != nil {
		return nil, err
	}
	select {
	case <-w.done:
		return w, w.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w (%w)", ErrInDoubt, context.Cause(ctx))
	}
}

func (g *gather) offer(w *group) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed != nil:
		return g.closed
	case g.bytes+w.bytes > maxWaiting:
		return fmt.Errorf("%w: too much waits for the disk", ErrUnavailable)
	}
	g.bytes += w.bytes
	g.waiting = append(g.waiting, w)
	signal(g.wake)
	return nil
}
