package queue

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// ApplierConfig tunes applying. The zero value is good.
type ApplierConfig struct {
	// Partitions is how many keys can be applied side by side. It is fixed when
	// a log first meets a database; later values are ignored. Default 8.
	Partitions int
	// Batch is how many writes one transaction has at most. Default 500.
	Batch int
	// BatchBytes bounds a transaction, far below what a group refuses. Default 1 MiB.
	BatchBytes int64
	// MaxAttempts is how often a write may fail by its own fault. Default and most: 25.
	MaxAttempts int
	// RetryFirst and RetryMost shape the wait between attempts: it grows by 1.6
	// from the first to the last. Default 200 ms and 1 min (25 attempts in about
	// a quarter of an hour).
	RetryFirst, RetryMost time.Duration
	// Park makes a key wait behind its dead letter until somebody retries or
	// discards it. Otherwise the key goes on without it.
	Park bool
	// StatementLimit is how long one packet of statements may take. Default 60 s.
	StatementLimit time.Duration
	// Quarantine is how often in a row the connection may be lost during one and
	// the same write before it is set aside. Default 15.
	Quarantine int
	// Keep is how long applied writes stay in the log. Default 10 min.
	Keep time.Duration
	// Safe, if set, gives the lowest sequence of the log (of frames) that
	// somebody else still needs, such as a site whose database lags behind.
	// While it errs nothing is trimmed.
	Safe func(ctx context.Context) (uint64, error)
	// Notice is told what an operator should hear of. It must not block.
	Notice func(Notice)

	retry backoff
}

// Notice is something that happened to a write or to the queue.
type Notice struct {
	Kind   string // held, dead, id-reused, halted, fenced, lost, paused, resumed
	Write  ID
	Key    string
	Detail string
}

func (c ApplierConfig) withDefaults() ApplierConfig {
	c.Partitions = cmp.Or(c.Partitions, 8)
	c.Batch = cmp.Or(c.Batch, 500)
	c.BatchBytes = cmp.Or(c.BatchBytes, 1<<20)
	c.MaxAttempts = min(cmp.Or(c.MaxAttempts, 25), 25)
	c.StatementLimit = cmp.Or(c.StatementLimit, time.Minute)
	c.Quarantine = max(cmp.Or(c.Quarantine, 15), carefulAfter+1)
	c.Keep = cmp.Or(c.Keep, 10*time.Minute)
	c.retry = backoff{cmp.Or(c.RetryFirst, 200*time.Millisecond), cmp.Or(c.RetryMost, time.Minute)}
	return c
}

// inMemory bounds what was read from the log and is not applied yet.
const inMemory = 32 << 20

// Applier brings the writes of one log into the database, each once.
type Applier struct {
	cfg    ApplierConfig
	src    Log
	open   func([]byte) ([]byte, error)
	route  Route
	log    *slog.Logger
	hub    *hub
	gate   *gate
	count  *counters
	holder uint64

	// Set by term, for the length of one.
	stream   uint64
	epoch    int64
	budget   *semaphore.Weighted
	position []*atomic.Uint64
	oldest   []*atomic.Int64 // when the oldest write in hand was accepted, µs; 0 none
	heldKeys atomic.Int64
	inHand   atomic.Int64  // writes that were read and are not applied
	handed   atomic.Uint64 // the frame whose writes were counted last

	mu        sync.Mutex
	running   bool
	read      uint64 // frame the dispatcher has handed out last
	troubles  map[int]error
	marks     []checkpoint
	followers map[*follower]bool
}

// checkpoint remembers when a frame was met, for trimming by age.
type checkpoint struct {
	frame uint64
	at    time.Time
}

func newApplier(src Log, open func([]byte) ([]byte, error), route Route, cfg ApplierConfig, h *hub, c *counters, log *slog.Logger) *Applier {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return &Applier{
		cfg: cfg.withDefaults(), src: src, open: open, route: route, hub: h, count: c, log: log,
		gate: newGate(), holder: binary.BigEndian.Uint64(b[:]), troubles: map[int]error{}, followers: map[*follower]bool{},
	}
}

func (a *Applier) now() time.Time { return time.Now() }

// Run applies until ctx ends or a newer epoch has taken over (ErrFenced). The
// epoch is the term of the lease under which this node applies; 0 takes the
// partitions from whoever has them, for a single node without a lease.
func (a *Applier) Run(ctx context.Context, epoch int64) error {
	var b [8]byte
	_, _ = rand.Read(b[:])
	a.holder, a.epoch = binary.BigEndian.Uint64(b[:])>>1, epoch
	wait := backoff{100 * time.Millisecond, 5 * time.Second}
	for failed := 0; ; failed++ {
		began := time.Now()
		err := a.term(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrFenced):
			a.notice(Notice{Kind: "fenced", Detail: err.Error()})
			return err
		case errors.Is(err, ErrLost):
			a.Halt(err.Error())
			a.notice(Notice{Kind: "lost", Detail: err.Error()})
		}
		if time.Since(began) > time.Minute {
			failed = 0
		}
		a.trouble(troubleRun, err)
		a.log.WarnContext(ctx, "applying stopped and will start again", "err", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait.after(failed)):
		}
	}
}

// term is one run from the positions in the database on. It ends with an error
// after which the log must be read again from there.
func (a *Applier) term(ctx context.Context) error {
	st, err := a.src.State(ctx)
	if err != nil {
		return err
	}
	target, err := a.route.Writer(ctx)
	if err != nil {
		return err
	}
	setup, cancel := context.WithTimeout(ctx, 30*time.Second)
	n, err := setUp(setup, target.DB, st.Generation, a.cfg.Partitions)
	cancel()
	if err != nil {
		return err
	}
	a.stream = st.Generation
	a.budget = semaphore.NewWeighted(inMemory)
	parts := make([]*partition, n)
	a.mu.Lock()
	a.position, a.oldest = make([]*atomic.Uint64, n), make([]*atomic.Int64, n)
	a.heldKeys.Store(0)
	a.inHand.Store(0)
	a.handed.Store(0)
	for i := range parts {
		a.position[i], a.oldest[i] = &atomic.Uint64{}, &atomic.Int64{}
	}
	a.mu.Unlock()
	for i := range parts {
		parts[i] = &partition{a: a, n: i, in: make(chan item, 2048), size: a.cfg.Batch, log: a.log.With("partition", i)}
		if err := parts[i].open(ctx); err != nil {
			for _, p := range parts[:i] {
				p.s.close()
			}
			return err
		}
	}
	a.trouble(troubleRun, nil)
	a.setRunning(true)
	defer a.setRunning(false)
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range parts {
		g.Go(func() error { return p.run(ctx) })
	}
	g.Go(func() error { return a.dispatch(ctx, parts) })
	g.Go(func() error { return a.lead(ctx) })
	g.Go(func() error { return a.trimming(ctx) })
	return g.Wait()
}

func (a *Applier) setRunning(v bool) {
	a.mu.Lock()
	a.running = v
	a.mu.Unlock()
}

// dispatch reads the log from the lowest position on and hands each write to
// the partition of its key. It holds at most inMemory bytes.
func (a *Applier) dispatch(ctx context.Context, parts []*partition) error {
	// Asked after the claims: until then another applier moved the positions.
	st, err := a.src.State(ctx)
	if err != nil {
		return err
	}
	from := make([]uint64, len(parts))
	low := ^uint64(0)
	for i, p := range parts {
		from[i] = a.position[i].Load()
		low = min(low, from[i])
		if err := a.checkMark(ctx, from[i], p.mark, st); err != nil {
			return err
		}
	}
	next := max(frameOf(low), 1)
	if next < st.First {
		// Trimming asks every position, so what is missing was removed by
		// somebody else, or this database is older than the log reaches back.
		if frameOf(low)+1 < st.First {
			return fmt.Errorf("the database has applied up to frame %d, the log begins at %d: %w", frameOf(low), st.First, ErrLost)
		}
		next = st.First
	}
	a.handed.Store(next - 1)
	var last Entry // handed out, and not marked in all partitions yet
	for {
		entries, err := a.readSome(ctx, next, last.Seq != 0)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := a.handOut(ctx, parts, from, e); err != nil {
				return err
			}
			next, last = e.Seq+1, e
			a.handed.Store(e.Seq)
		}
		if n := len(entries); n > 0 {
			a.reached(entries[n-1].Seq)
		}
		if last.Seq != 0 && (len(entries) == 0 || last.Seq%256 == 0) {
			if err := a.handMarkers(ctx, parts, from, last); err != nil {
				return err
			}
			last = Entry{}
		}
	}
}

// readSome reads on from next. With short it comes back empty after a second
// without anything new.
func (a *Applier) readSome(ctx context.Context, next uint64, short bool) ([]Entry, error) {
	try := ctx
	if short {
		var cancel context.CancelFunc
		try, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
	}
	entries, err := a.src.Read(try, next)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && try.Err() != nil:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	return entries, nil
}

// handOut gives the writes of one frame to their partitions.
func (a *Applier) handOut(ctx context.Context, parts []*partition, from []uint64, e Entry) error {
	plain, err := a.open(e.Data)
	if err != nil {
		return fmt.Errorf("frame %d does not open: %w", e.Seq, err)
	}
	records, err := decodeFrame(plain)
	if err != nil {
		return fmt.Errorf("frame %d: %w", e.Seq, err)
	}
	mark := frameMark(e.Data)
	for i := range records {
		r := &records[i]
		n := partOf(r.key, len(parts))
		seq := writeSeq(e.Seq, i)
		if seq <= from[n] {
			continue
		}
		it := item{seq: seq, mark: mark, rec: r, size: min(int64(r.size()), inMemory)}
		if err := a.give(ctx, parts[n], it); err != nil {
			return err
		}
	}
	return nil
}

func (a *Applier) give(ctx context.Context, p *partition, it item) error {
	if err := a.budget.Acquire(ctx, it.size); err != nil {
		return context.Cause(ctx)
	}
	if it.rec != nil {
		a.inHand.Add(1)
	}
	select {
	case p.in <- it:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// handMarkers lets the positions of partitions without writes follow, so that
// the log can be trimmed.
func (a *Applier) handMarkers(ctx context.Context, parts []*partition, from []uint64, last Entry) error {
	seq := writeSeq(last.Seq, maxFrameWrites-1)
	for i, p := range parts {
		if seq <= from[i] {
			continue
		}
		if err := a.give(ctx, p, item{seq: seq, mark: frameMark(last.Data)}); err != nil {
			return err
		}
	}
	return nil
}

func (a *Applier) reached(frame uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.read = frame
	now := a.now()
	if n := len(a.marks); n == 0 || now.Sub(a.marks[n-1].at) > time.Second {
		a.marks = append(a.marks, checkpoint{frame, now})
		if len(a.marks) > 8192 { // more than two hours at one a second: thin out
			for i := range 4096 {
				a.marks[i] = a.marks[2*i]
			}
			a.marks = append(a.marks[:4096], a.marks[8192:]...)
		}
	}
}

// checkMark compares what the database says about the frame it reached with
// what the log has there. A log that lost its end and grew another would
// otherwise have its new writes taken for applied ones.
func (a *Applier) checkMark(ctx context.Context, seq, mark uint64, st LogState) error {
	frame := frameOf(seq)
	if frame == 0 || frame < st.First {
		return nil
	}
	// A leader elected a moment ago may not have told itself yet how far the
	// log goes. What is lost stays lost, so there is time to ask again.
	for asked := 0; frame > st.Last && asked < 20; asked++ {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(250 * time.Millisecond):
		}
		now, err := a.src.State(ctx)
		if err != nil {
			return err
		}
		st = now
	}
	if frame > st.Last {
		return fmt.Errorf("the database has applied up to frame %d, the log ends at %d: %w", frame, st.Last, ErrLost)
	}
	entries, err := a.src.Read(ctx, frame)
	if err != nil {
		return err
	}
	if got := frameMark(entries[0].Data); got != mark {
		return fmt.Errorf("frame %d is not the one that was applied: %w", frame, ErrLost)
	}
	return nil
}

func partOf(key string, n int) int {
	h := fnv.New32a()
	h.Write([]byte(key))
	return int(h.Sum32() % uint32(n))
}

var errFollow = errors.New("the writer is another member now")

// follower is a session that ends when the route names another member.
type follower struct {
	member string
	end    context.CancelCauseFunc
}

// follow ends its context when the route names another member.
func (a *Applier) follow(ctx context.Context, member string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	f := &follower{member, cancel}
	a.mu.Lock()
	a.followers[f] = true
	a.mu.Unlock()
	return ctx, func() {
		a.mu.Lock()
		delete(a.followers, f)
		a.mu.Unlock()
		cancel(nil)
	}
}

// lead looks where the route points, for all that follow it, until ctx ends.
func (a *Applier) lead(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		t, err := a.route.Writer(ctx)
		if err != nil {
			continue
		}
		a.mu.Lock()
		for f := range a.followers {
			if f.member != t.Member {
				f.end(errFollow)
			}
		}
		a.mu.Unlock()
	}
}

// Hold stops applying before the next transaction and returns when the last
// one has ended. Accepting goes on.
func (a *Applier) Hold(ctx context.Context, reason string) error { return a.gate.hold(ctx, reason) }

// Release takes one reason away; applying goes on when none is left.
func (a *Applier) Release(reason string) { a.gate.release(reason) }

// Halt holds applying until a person has looked.
func (a *Applier) Halt(reason string) {
	a.gate.close("halted: " + reason)
	a.log.Error("applying is halted until a person resumes it", "reason", reason)
	a.notice(Notice{Kind: "halted", Detail: reason})
}

// Resume takes all reasons away.
func (a *Applier) Resume() {
	for _, r := range a.gate.why() {
		a.gate.release(r)
	}
}

func (a *Applier) notice(n Notice) {
	if a.cfg.Notice != nil {
		a.cfg.Notice(n)
	}
}

// What stands in the way of all partitions has a number too.
const (
	troubleRun = -1
	troubleLog = -2
)

func (a *Applier) trouble(part int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil {
		delete(a.troubles, part)
	} else {
		a.troubles[part] = err
	}
}
