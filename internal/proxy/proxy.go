package proxy

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/internal/mysql/lexer"
	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/route"
)

// Proxy accepts clients and serves them until Run's context ends.
type Proxy struct {
	cfg     Config
	route   *route.Table
	log     *slog.Logger
	creds   *credentials
	m       *metrics
	rates   *rates
	rsaKey  func() *rsa.PrivateKey
	serial  atomic.Uint64
	memory  atomic.Int64
	opening chan struct{}
	schema  chan struct{}
	leaving atomic.Bool
	lastID  atomic.Uint32
	markNo  atomic.Uint64
	// markBase is what the names of this proxy's marks begin with; another one's,
	// or this one's of another day, begin otherwise.
	markBase string
	spoken   atomic.Pointer[string] // version announced last

	seatsMu sync.Mutex
	seats   map[string]*seat

	mu       sync.Mutex
	sessions map[uint32]*session
	drains   map[string]time.Time
	easing   map[string]bool // members whose sessions stay until they have a place elsewhere
	tasks    sync.WaitGroup
	bound    []net.Listener
}

// New makes a proxy and opens its listeners. Nobody is accepted before Run.
func New(cfg Config) (*Proxy, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		cfg: cfg, route: cfg.Route, log: cfg.Log, creds: newCredentials(cfg.TrustPassword),
		m: newMetrics(), rates: newRates(cfg.ConnRate),
		seats: map[string]*seat{}, sessions: map[uint32]*session{}, drains: map[string]time.Time{}, easing: map[string]bool{},
		opening: make(chan struct{}, cfg.Opening), schema: make(chan struct{}, 1),
		markBase: "perdure_" + hex.EncodeToString(binary.BigEndian.AppendUint32(nil, mathrand.Uint32())) + "_",
	}
	p.rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err) // the system has no randomness: nothing can be safe
		}
		return k
	})
	for i := range p.cfg.Listeners {
		l := &p.cfg.Listeners[i]
		if l.Listening == nil {
			if l.Listening, err = (&net.ListenConfig{}).Listen(context.Background(), network(l.Address), l.Address); err != nil {
				for _, n := range p.bound {
					_ = n.Close()
				}
				return nil, fmt.Errorf("proxy listener %s: %w", l.Mode, err)
			}
		}
		p.bound = append(p.bound, l.Listening)
	}
	return p, nil
}

// Addr is where the first listener of a mode accepts clients, nil if there is
// none.
func (p *Proxy) Addr(m Mode) net.Addr {
	for _, l := range p.cfg.Listeners {
		if l.Mode == m {
			return l.Listening.Addr()
		}
	}
	return nil
}

// Run serves until ctx ends, then drains: it says "not ready", stops accepting,
// lets transactions finish for at most DrainLimit and closes the rest. It owns
// no goroutine after it returns.
func (p *Proxy) Run(ctx context.Context) error {
	p.route.OnChange(p.planChanged)
	sweepCtx, stopSweep := context.WithCancel(context.Background())
	var own sync.WaitGroup
	own.Go(func() { p.sweep(sweepCtx) })
	var accepting sync.WaitGroup
	for i := range p.cfg.Listeners {
		l := &p.cfg.Listeners[i]
		accepting.Go(func() { p.accept(l) })
	}
	<-ctx.Done()
	p.leaving.Store(true)
	if p.cfg.LeaveDelay > 0 {
		<-time.After(p.cfg.LeaveDelay) // the balancers in front need this long to see it
	}
	for _, n := range p.bound {
		_ = n.Close()
	}
	accepting.Wait()
	p.endSessions()
	stopSweep()
	own.Wait()
	p.tasks.Wait()
	for _, st := range p.seatList() {
		st.prune(true)
	}
	return context.Cause(ctx)
}

// endSessions ends idle sessions at once, the others when their transaction is
// over, and what is left after DrainLimit.
func (p *Proxy) endSessions() {
	deadline := time.Now().Add(p.cfg.DrainLimit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left := p.list()
		if len(left) == 0 {
			return
		}
		late := time.Now().After(deadline)
		for _, s := range left {
			if late {
				s.end()
				if b := s.att.Load(); b != nil {
					b.conn.Wake()
				}
				_ = s.client.Close()
			} else if s.began.Load() == 0 && !s.inTrx.Load() {
				s.end()
			}
		}
		<-tick.C
	}
}

// background runs f beside the session it is about; Run waits for it.
func (p *Proxy) background(f func()) { p.tasks.Go(f) }

func (p *Proxy) accept(l *Listener) {
	for {
		nc, err := l.Listening.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			p.log.Warn("accept failed", "listener", string(l.Mode), "err", err)
			<-time.After(10 * time.Millisecond) // out of files, most likely: let some go
			continue
		}
		p.tasks.Go(func() { p.welcome(l, nc) })
	}
}

// welcome serves one client from its first byte to its last.
func (p *Proxy) welcome(l *Listener, nc net.Conn) {
	p.m.accepted.Add(1)
	nc, addr, err := p.realClient(nc)
	if err != nil {
		p.m.rejected.Add(1)
		p.log.Warn("connection refused", "from", nc.RemoteAddr().String(), "err", err)
		_ = nc.Close()
		return
	}
	s := &session{
		p: p, l: l, client: wire.NewConn(nc), addr: addr, since: time.Now(), quit: make(chan struct{}),
	}
	if !p.rates.allow(addr) || !p.register(s) {
		p.m.rejected.Add(1)
		_ = s.client.Write(wire.AppendErr(nil, 0, &wire.ServerError{Code: 1040, State: "08004", Message: "Too many connections"}))
		s.client.Release()
		return
	}
	defer p.unregister(s)
	defer s.close()
	s.began.Store(clock())
	if err := s.login(); err != nil {
		p.m.loginFailures.Add(1)
		p.log.Debug("sign-in failed", "client", addr, "user", s.user, "err", err)
		return
	}
	s.began.Store(0)
	s.rested.Store(clock())
	s.run()
}

func (p *Proxy) register(s *session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sessions) >= p.cfg.MaxClients {
		return false
	}
	for {
		n := p.lastID.Add(1) & (1<<24 - 1)
		s.id = idBase | uint32(p.cfg.Slot&63)<<24 | n
		if p.sessions[s.id] == nil {
			p.sessions[s.id] = s
			return true
		}
	}
}

func (p *Proxy) unregister(s *session) {
	p.mu.Lock()
	delete(p.sessions, s.id)
	p.mu.Unlock()
}

func (p *Proxy) session(id uint32) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[id]
}

func (p *Proxy) list() []*session {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*session, 0, len(p.sessions))
	for _, s := range p.sessions {
		out = append(out, s)
	}
	return out
}

func (p *Proxy) seatList() []*seat {
	p.seatsMu.Lock()
	defer p.seatsMu.Unlock()
	out := make([]*seat, 0, len(p.seats))
	for _, st := range p.seats {
		out = append(out, st)
	}
	return out
}

// version is what we announce: that of a member in service.
func (p *Proxy) version() string {
	for _, m := range p.route.Plan().Members {
		if m.Version != "" && !m.Lost() {
			p.spoken.Store(&m.Version)
			return m.Version
		}
	}
	for _, st := range p.seatList() {
		if v := st.version.Load(); v != nil {
			return *v
		}
	}
	if v := p.spoken.Load(); v != nil {
		return *v
	}
	return "8.4.0"
}

// doubt says that a member gave cause for concern.
func (p *Proxy) doubt(m *route.Member) {
	m.Doubt(time.Now().Add(time.Second))
	if p.cfg.Doubt != nil {
		p.cfg.Doubt.Doubt(m.Name)
	}
}

// planChanged wakes the sessions a new plan concerns. It is called by the table.
func (p *Proxy) planChanged(plan *route.Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range plan.Members {
		p.log.Debug("plan", "number", plan.Number, "member", m.Name, "state", m.State, "lost", m.Lost(), "refuses", m.Refuses())
		if _, was := p.drains[m.Name]; m.Drained && !was {
			p.drains[m.Name] = time.Now()
			p.ease(plan, m)
		} else if !m.Drained {
			delete(p.drains, m.Name)
		}
	}
	var closing []asked
	for _, s := range p.sessions {
		b := s.att.Load()
		if b == nil {
			continue
		}
		m, began := plan.Member(b.seat.name), s.began.Load()
		switch {
		case began == 0:
			s.client.Wake()
		case m != nil && !m.Lost():
		case m != nil && m.Refuses():
			closing = append(closing, asked{s, b, began})
		default:
			b.conn.Wake() // it waits for an answer that will not come
		}
	}
	if len(closing) > 0 && !p.leaving.Load() {
		p.background(func() { p.lastAnswers(closing) })
	}
}

// lastAnswer is how long a server that lets nobody in any more is given to answer
// what it was asked. One that was killed closes its connections itself; one that
// shuts down answers before it does, and a commit that was cut off there would
// have an outcome that nobody knows.
const lastAnswer = 3 * time.Second

// asked is a request in flight.
type asked struct {
	s     *session
	b     *backend
	began int64
}

// lastAnswers gives up the requests that are still in flight after lastAnswer.
func (p *Proxy) lastAnswers(all []asked) {
	limit := time.NewTimer(lastAnswer)
	defer limit.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	waits := func(a asked) bool { return a.s.began.Load() == a.began && a.s.att.Load() == a.b }
	for slices.ContainsFunc(all, waits) {
		select {
		case <-tick.C:
			continue
		case <-limit.C:
		}
		for _, a := range all {
			if waits(a) {
				a.b.conn.Wake()
			}
		}
		return
	}
}

func (p *Proxy) drainedFor(member string) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.drains[member]
	if !ok {
		return 0
	}
	return time.Since(at)
}

// SessionInfo is one session as an operator sees it.
type SessionInfo struct {
	ID       uint32        `json:"id"`
	User     string        `json:"user"`
	Client   string        `json:"client"`
	Listener Mode          `json:"listener"`
	Member   string        `json:"member,omitempty"`
	Thread   uint32        `json:"thread,omitempty"`
	State    string        `json:"state"` // idle, busy, transaction
	For      time.Duration `json:"for_ns"`
	Since    time.Time     `json:"since"`
	Queries  int64         `json:"queries"`
	Moves    int64         `json:"moves"`
	Pins     []string      `json:"pins,omitempty"`
	PinnedBy string        `json:"pinned_by,omitempty"` // digest of the statement
	Movable  bool          `json:"movable"`
}

// Sessions lists the sessions of this proxy, oldest first.
func (p *Proxy) Sessions() []SessionInfo {
	now := clock()
	var out []SessionInfo
	for _, s := range p.list() {
		pin := s.pins.load() &^ brief
		i := SessionInfo{
			ID: s.id, User: s.userName(), Client: s.addr, Listener: s.l.Mode, Since: s.since,
			Queries: s.queries.Load(), Moves: s.moved.Load(), Pins: pin.Names(), Movable: pin&^resolvable == 0,
			State: "idle", For: time.Duration(now - s.rested.Load()),
		}
		if b := s.att.Load(); b != nil {
			i.Member, i.Thread = b.seat.name, b.id
		}
		if t := s.pinText.Load(); t != nil && pin != 0 {
			i.PinnedBy = *t
		}
		if began := s.began.Load(); began != 0 {
			i.State, i.For = "busy", time.Duration(now-began)
		} else if s.inTrx.Load() {
			i.State, i.For = "transaction", time.Duration(now-s.trxSince.Load())
		}
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b SessionInfo) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Pins counts the sessions that cannot move, by reason.
func (p *Proxy) Pins() map[string]int {
	out := map[string]int{}
	for _, s := range p.list() {
		for _, n := range (s.pins.load() &^ brief).Names() {
			out[n]++
		}
	}
	return out
}

// Drain takes a member out of use for this proxy's clients.
func (p *Proxy) Drain(member string) error { return p.route.Drain(member) }

// Undrain puts it back.
func (p *Proxy) Undrain(member string) { p.route.Undrain(member) }

// Drained is the number of sessions still on a member.
func (p *Proxy) Drained(member string) (left int) {
	for _, s := range p.list() {
		if b := s.att.Load(); b != nil && b.seat.name == member {
			left++
		}
	}
	return left
}

// SetWriters changes the writer policy.
func (p *Proxy) SetWriters(w route.Policy) error { return p.route.SetWriters(w) }

// Health tells whether a request for svc could succeed now; nil is yes.
func (p *Proxy) Health(svc route.Service) error {
	if p.leaving.Load() {
		return errors.New("the proxy is leaving")
	}
	plan := p.route.Plan()
	switch {
	case plan.Holding:
		return errors.New("the cluster is on hold")
	case !plan.Can(svc):
		return fmt.Errorf("no member can take a %s", svc)
	}
	now := time.Now()
	if m := plan.Pick(svc, now, ""); m == nil || m.Seat.Doubted(now) {
		return fmt.Errorf("no member for a %s can be reached", svc)
	}
	return nil
}

func (s *session) slow(r *request, took int64) {
	s.p.m.slow.Add(1)
	s.p.log.Warn("slow statement", "took", time.Duration(took).Round(time.Millisecond), "user", s.user,
		"client", s.addr, "session", s.id, "digest", lexer.Digest(r.text, false, 512))
}

// within tells whether an address lies in one of the networks.
func within(addr net.Addr, networks []netip.Prefix) bool {
	t, ok := addr.(*net.TCPAddr)
	if !ok {
		return false
	}
	a, ok := netip.AddrFromSlice(t.IP)
	return ok && slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a.Unmap()) })
}
