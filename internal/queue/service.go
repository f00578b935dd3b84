package queue

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/perdure/perdure/internal/state"
)

// Config is what a Service is made of.
type Config struct {
	Log        Log
	Seal       Sealer // nil stores frames as they are; for tests
	Operations *Operations
	Limits     Limits
	// Rules, if set, looks at every text that is not declared free, besides the
	// search for SQL and script.
	Rules *Ruleset
	// Window is how old an id may be: how late a retry may come. The ledger
	// keeps ids at least that long. Default 7 days.
	Window time.Duration
	// Flights is how many frames are on their way to the disk at once. One is
	// best where the log is on this node; a replicated log gains from more.
	// Default 1.
	Flights int
	// AcceptLimit is how long the log may take to store a frame before the
	// client is told to come back. Default 10 s.
	AcceptLimit time.Duration
	Route       Route // to the database, for applying and for questions
	Apply       ApplierConfig
	// Store keeps what all nodes know together: whether the queue is paused or
	// halted, and which log it is. Without it nothing of that survives a node.
	Store  state.Store
	Logger *slog.Logger
}

// Sealer encrypts frames; envelope.Keyring is one.
type Sealer interface {
	Seal(plain []byte, purpose string) ([]byte, error)
	Open(sealed []byte, purpose string) ([]byte, error)
}

// purpose keeps frames from being opened as anything else.
const purpose = "perdure queue frame"

// Service accepts writes and answers questions about them.
type Service struct {
	// Applier brings accepted writes into the database. It runs only where, and
	// as long as, its Run is called: on the node that holds the lease.
	Applier *Applier

	log     Log
	ops     *Operations
	limits  Limits
	rules   *Ruleset
	window  time.Duration
	gather  *gather
	open    func([]byte) ([]byte, error)
	route   Route
	hub     *hub
	recent  *recent
	count   counters
	letters atomic.Int64 // dead letters in the database; -1 while it does not tell
	logger  *slog.Logger
	lasting time.Duration
	aged    atomic.Pointer[checkpoint]

	remembers bool
	shared    state.Doc[Shared]
	halts     chan string
	tell      func(Notice)
	obeying   sync.Mutex
	obeyed    atomic.Pointer[Shared]

	mu     sync.Mutex
	guards map[guardKey]compiled
	rates  map[string]*limiter
}

type guardKey struct {
	sql   string
	allow allow
}

type limiter struct {
	writes, bytes *rate.Limiter
	perSecond     [2]float64
}

// New makes a service. Nothing runs before Run.
func New(cfg Config) (*Service, error) {
	if cfg.Log == nil || cfg.Route == nil {
		return nil, errors.New("queue: a log and a route are needed")
	}
	s := &Service{
		log: cfg.Log, ops: cfg.Operations, limits: cfg.Limits.withDefaults(), rules: cfg.Rules, window: cmp.Or(cfg.Window, 7*24*time.Hour),
		route: cfg.Route, hub: newHub(), recent: newRecent(250_000), logger: cmp.Or(cfg.Logger, slog.Default()),
		guards: map[guardKey]compiled{}, rates: map[string]*limiter{}, lasting: cmp.Or(cfg.AcceptLimit, 10*time.Second),
	}
	if s.ops == nil {
		s.ops, _ = NewOperations(nil)
	}
	seal := func(b []byte) ([]byte, error) { return b, nil }
	s.open = seal
	if cfg.Seal != nil {
		seal = func(b []byte) ([]byte, error) { return cfg.Seal.Seal(b, purpose) }
		s.open = func(b []byte) ([]byte, error) { return cfg.Seal.Open(b, purpose) }
	}
	s.gather = newGather(cfg.Log, seal, cmp.Or(cfg.Flights, 1), s.lasting)
	s.tell, cfg.Apply.Notice = cfg.Apply.Notice, s.notice
	s.halts = make(chan string, 8)
	s.Applier = newApplier(cfg.Log, s.open, cfg.Route, cfg.Apply, s.hub, &s.count, s.logger)
	s.letters.Store(-1)
	if cfg.Store != nil {
		s.remembers, s.shared = true, state.NewDoc[Shared](cfg.Store, "queue")
		s.Applier.gate.close(unread)
	}
	return s, nil
}

// notice passes on what happened, and has a halt written down.
func (s *Service) notice(n Notice) {
	if n.Kind == "halted" {
		select {
		case s.halts <- n.Detail:
		default: // one of them is enough
		}
	}
	if s.tell != nil {
		s.tell(n)
	}
}

// Operations is the set of named writes; replace its content to reload.
func (s *Service) Operations() *Operations { return s.ops }

// Run accepts writes, and prunes the ledger, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.gather.run(ctx) })
	g.Go(func() error { return s.pruning(ctx) })
	g.Go(func() error { return s.countLetters(ctx) })
	g.Go(func() error { return s.follow(ctx) })
	g.Go(func() error { return s.keepHalts(ctx) })
	return g.Wait()
}

// Submit stores writes, all or none, and returns their receipts in order. When
// it returns without an error they are on disk, on a majority where there are
// several nodes. The error is a *Problem.
//
// Writes of one request keep their order. A client that retries uses the same
// ids; each write takes effect once.
func (s *Service) Submit(ctx context.Context, c Caller, writes []Write) ([]Receipt, error) {
	out, p := s.submit(ctx, c, writes)
	if p != nil {
		s.count.refused.Add(1)
		return nil, p
	}
	return out, nil
}

func (s *Service) submit(ctx context.Context, c Caller, writes []Write) ([]Receipt, *Problem) {
	if len(writes) == 0 {
		return nil, problem(http.StatusBadRequest, "empty", "there is no write in the request")
	}
	if len(writes) > s.limits.Batch {
		return nil, tooLarge("%d writes in one request, %d are allowed", len(writes), s.limits.Batch)
	}
	now := time.Now()
	out := make([]Receipt, len(writes))
	fresh := make([]*record, 0, len(writes))
	at := make([]int, 0, len(writes))
	bytes := 0
	first := map[ID]int{}
	for i, w := range writes {
		r, p := s.build(w, c, now)
		if p != nil {
			if len(writes) > 1 {
				p = in("writes."+itoa(i), p)
			}
			return nil, p
		}
		out[i] = Receipt{ID: r.id, State: Queued}
		if w.ID != "" {
			old, p := s.known(r, first, i)
			if p != nil {
				return nil, p
			}
			if old != nil {
				out[i] = *old
				continue
			}
		}
		bytes += r.size()
		fresh, at = append(fresh, r), append(at, i)
	}
	if bytes > maxFrameBytes {
		return nil, tooLarge("the request has %d bytes, %d are allowed", bytes, maxFrameBytes)
	}
	if p := s.admit(c, len(fresh), bytes); p != nil {
		return nil, p
	}
	if len(fresh) == 0 {
		return out, nil
	}
	g, err := s.gather.put(ctx, fresh)
	if err != nil {
		return nil, unavailable(err)
	}
	s.count.accepted.Add(int64(len(fresh)))
	s.count.acceptedBytes.Add(int64(bytes))
	for i, r := range fresh {
		out[at[i]].Sequence = g.first + uint64(i)
		s.recent.add(r.id, seen{seq: g.first + uint64(i), digest: r.digest()})
	}
	return out, nil
}

// known finds a write that this node has accepted before, or that the same
// request names twice.
func (s *Service) known(r *record, first map[ID]int, i int) (*Receipt, *Problem) {
	if j, twice := first[r.id]; twice {
		return nil, in("writes."+itoa(i)+".id", invalid("bad-id", "the same id as write %d of this request", j))
	}
	first[r.id] = i
	old, ok := s.recent.get(r.id)
	if !ok {
		return nil, nil
	}
	if old.digest != r.digest() {
		return nil, in("id", &Problem{
			Kind: "id-reused", Status: http.StatusConflict, Detail: "another write was accepted under this id",
			Hint: "a retry sends exactly what it sent before; a new write needs a new id",
		})
	}
	return &Receipt{ID: r.id, State: Queued, Sequence: old.seq, Duplicate: true}, nil
}

// admit counts writes and bytes against what the caller may send a second.
func (s *Service) admit(c Caller, writes, bytes int) *Problem {
	if c.WritesPerSecond <= 0 && c.BytesPerSecond <= 0 {
		return nil
	}
	s.mu.Lock()
	l := s.rates[c.Name]
	if l == nil || l.perSecond != [2]float64{c.WritesPerSecond, c.BytesPerSecond} {
		if len(s.rates) > 10_000 {
			clear(s.rates)
		}
		l = &limiter{
			perSecond: [2]float64{c.WritesPerSecond, c.BytesPerSecond},
			writes:    perSecond(c.WritesPerSecond, maxFrameWrites), bytes: perSecond(c.BytesPerSecond, maxFrameBytes),
		}
		s.rates[c.Name] = l
	}
	s.mu.Unlock()
	now := time.Now()
	a, b := l.writes.ReserveN(now, writes), l.bytes.ReserveN(now, bytes)
	if wait := max(a.DelayFrom(now), b.DelayFrom(now)); wait > 0 {
		a.CancelAt(now)
		b.CancelAt(now)
		return &Problem{
			Kind: "too-fast", Status: http.StatusTooManyRequests, RetryAfter: wait,
			Detail: "this token sends more than it may; nothing was stored",
		}
	}
	return nil
}

// perSecond allows a burst of one second, but always one whole request.
func perSecond(n float64, request int) *rate.Limiter {
	if n <= 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(n), max(int(n), request))
}

// Wait returns when the write with id is applied or dead, or ctx ends; then
// the receipt says what is known. A write is found wherever it is applied.
func (s *Service) Wait(ctx context.Context, id ID) (Receipt, error) {
	ch, stop := s.hub.watch(id)
	defer stop()
	return s.waitOn(ctx, id, ch, 0)
}

// waitOn listens to the applier of this node, and asks the database as well:
// the applier may be elsewhere, or have been faster than we.
func (s *Service) waitOn(ctx context.Context, id ID, ch <-chan Receipt, first time.Duration) (Receipt, error) {
	for wait := first; ; wait = min(max(wait*2, 10*time.Millisecond), time.Second) {
		select {
		case r := <-ch:
			return r, nil
		case <-ctx.Done():
			return Receipt{ID: id, State: Queued}, context.Cause(ctx)
		case <-time.After(wait):
		}
		if r, err := s.settled(ctx, id); err == nil && r.State != Queued {
			r.GTID = s.reached(ctx)
			return r, nil
		}
	}
}

// reached is what the writer has committed by now.
func (s *Service) reached(ctx context.Context) string {
	set := ""
	if t, err := s.route.Writer(ctx); err == nil {
		_ = t.DB.QueryRowContext(ctx, "SELECT @@global.gtid_executed").Scan(&set)
	}
	return set
}

// SubmitAndWait is Submit and then Wait for each write until ctx ends. What is
// not applied by then is reported as queued: it is safe either way.
func (s *Service) SubmitAndWait(ctx context.Context, c Caller, writes []Write, limit time.Duration) ([]Receipt, error) {
	now := time.Now()
	for i := range writes { // to be listening before the applier is done
		if writes[i].ID == "" {
			writes[i].ID = NewID(now).String()
		}
	}
	var chans []<-chan Receipt
	for _, w := range writes {
		id, err := ParseID(w.ID)
		if err != nil {
			break // Submit says it better
		}
		ch, stop := s.hub.watch(id)
		defer stop()
		chans = append(chans, ch)
	}
	out, err := s.Submit(ctx, c, writes)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for i := range out {
		r, err := s.waitOn(ctx, out[i].ID, chans[i], 20*time.Millisecond)
		if err != nil {
			break
		}
		r.Sequence, r.Duplicate = cmp.Or(r.Sequence, out[i].Sequence), r.Duplicate || out[i].Duplicate
		out[i] = r
	}
	return out, nil
}

// guardCached spares clients that send the same SQL again and again the cost
// of reading it.
func (s *Service) guardCached(text string, a allow) (compiled, *Problem) {
	k := guardKey{text, a}
	if len(text) > 4096 {
		return guard(text, a)
	}
	s.mu.Lock()
	c, ok := s.guards[k]
	s.mu.Unlock()
	if ok {
		return c, nil
	}
	c, p := guard(text, a)
	if p == nil {
		s.mu.Lock()
		if len(s.guards) >= 1024 {
			clear(s.guards)
		}
		s.guards[k] = c
		s.mu.Unlock()
	}
	return c, p
}

// db is the database to ask. The error is a *Problem.
func (s *Service) db(ctx context.Context) (*sql.DB, *Problem) {
	t, err := s.route.Writer(ctx)
	if err != nil {
		return nil, databaseAway(err)
	}
	return t.DB, nil
}

func mustOperate(c Caller) *Problem {
	if !c.Operate {
		return forbidden("this token may not operate the queue")
	}
	return nil
}

func wrapDB(err error, what string) *Problem {
	return databaseAway(fmt.Errorf("%s: %w", what, err))
}
