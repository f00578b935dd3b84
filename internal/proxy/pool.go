package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/route"
)

// backend is one signed-in server connection. One session uses it at a time.
type backend struct {
	conn   *wire.Conn
	caps   uint32
	id     uint32 // the server's thread id
	serial uint64
	seat   *seat
	key    key
	// owed is the number of OKs on their way that nobody waits for.
	owed   int
	schema string
	multi  byte // as COM_SET_OPTION takes it
	fresh  bool // it is as signing in and the trackers made it
	tracks bool // the trackers are on
	// set and role are what gave it its session's state, dirty whether more than
	// plain reads happened since: if not, a session whose state is given by the
	// same finds its own there.
	set, role string
	dirty     bool
	plain     bool // its session began with no state of its own
	read      bool // given back after reads alone, without a reset
	// owner and version are whose state it has, and which.
	owner   *session
	version uint64
	lastID  uint64       // as its owner was told
	rested  atomic.Int64 // clock when it became idle
	busy    atomic.Bool
	listed  atomic.Bool // it is in its pool's idle list
	gtid    string      // the GTID its member is known to have applied for the owner
}

// key is what two sessions must have in common to use one connection.
type key struct {
	user      string
	secret    [32]byte
	caps      uint32
	collation byte
	attrs     uint64 // sum of those an application chose
}

// seat is one member as the pool sees it.
type seat struct {
	name string
	p    *Proxy

	mu      sync.Mutex
	idle    map[key][]*backend
	open    int
	waiting []chan struct{}
	tls     *tls.Config
	tlsFor  string
	bases   map[byte]string // what signing in with a collation sets

	waiters  atomic.Int32
	dials    atomic.Int64
	fails    atomic.Int64
	borrowed atomic.Int64
	version  atomic.Pointer[string]
}

var (
	errBusy   = errors.New("all server connections are in use")
	errClosed = errors.New("session is closing")
)

func (p *Proxy) seat(name string) *seat {
	p.seatsMu.Lock()
	defer p.seatsMu.Unlock()
	st := p.seats[name]
	if st == nil {
		st = &seat{name: name, p: p, idle: map[key][]*backend{}, bases: map[byte]string{}}
		p.seats[name] = st
	}
	return st
}

// take gets an idle connection with that key, nil if there is none.
func (st *seat) take(k key, bare bool) *backend {
	st.mu.Lock()
	defer st.mu.Unlock()
	list := st.idle[k]
	for i, b := range slices.Backward(list) {
		// Nothing of it may be looked at before it is ours: its last session may
		// be taking it again right now.
		mine := b.busy.CompareAndSwap(false, true)
		if mine && bare && b.schema != "" {
			b.busy.Store(false)
			continue
		}
		list = append(list[:i], list[i+1:]...)
		b.listed.Store(false)
		if mine {
			st.idle[k] = list
			return b
		}
	}
	if len(list) == 0 {
		delete(st.idle, k)
	} else {
		st.idle[k] = list
	}
	return nil
}

// evict closes one idle connection to make room, and tells whether it did.
func (st *seat) evict() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	for k, list := range st.idle {
		for i, b := range list {
			if !b.busy.CompareAndSwap(false, true) {
				continue
			}
			b.listed.Store(false)
			st.idle[k] = append(list[:i], list[i+1:]...)
			st.open--
			b.conn.Release()
			return true
		}
	}
	return false
}

// reserve makes room for one more connection, or waits for it.
func (st *seat) reserve(quit <-chan struct{}) error {
	deadline := time.NewTimer(st.p.cfg.BorrowTimeout)
	defer deadline.Stop()
	for {
		st.mu.Lock()
		if st.open < st.p.cfg.MaxPerMember {
			st.open++
			st.mu.Unlock()
			return nil
		}
		if len(st.waiting) >= st.p.cfg.MaxWaiting {
			st.mu.Unlock()
			st.p.m.shed.Add(1)
			return errBusy
		}
		room := make(chan struct{}, 1)
		st.waiting = append(st.waiting, room)
		st.waiters.Add(1)
		st.mu.Unlock()
		if st.evict() {
			st.wake()
		}
		select {
		case <-room:
			st.waiters.Add(-1)
		case <-deadline.C:
			st.forget(room)
			return errBusy
		case <-quit:
			st.forget(room)
			return errClosed
		}
	}
}

// full tells that one more connection would have to wait for another to go.
func (st *seat) full() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.open >= st.p.cfg.MaxPerMember
}

func (st *seat) forget(room chan struct{}) {
	st.waiters.Add(-1)
	st.mu.Lock()
	for i, c := range st.waiting {
		if c == room {
			st.waiting = append(st.waiting[:i], st.waiting[i+1:]...)
			st.mu.Unlock()
			return
		}
	}
	st.mu.Unlock()
	st.wake() // it had been called already: pass it on
}

func (st *seat) wake() {
	st.mu.Lock()
	if len(st.waiting) > 0 {
		st.waiting[0] <- struct{}{}
		st.waiting = st.waiting[1:]
	}
	st.mu.Unlock()
}

// discard closes a connection for good.
func (st *seat) discard(b *backend) {
	b.conn.Release()
	st.mu.Lock()
	st.open--
	st.mu.Unlock()
	if st.waiters.Load() > 0 {
		st.wake()
	}
}

// put makes a connection available to the next who asks.
func (st *seat) put(b *backend) {
	b.conn.Rest()
	b.rested.Store(clock())
	st.release(b)
	if st.waiters.Load() > 0 && st.evict() {
		st.wake()
	}
}

// release makes a connection nobody's.
func (st *seat) release(b *backend) {
	b.busy.Store(false)
	if b.listed.CompareAndSwap(false, true) {
		st.mu.Lock()
		st.idle[b.key] = append(st.idle[b.key], b)
		st.mu.Unlock()
	}
}

// prune closes what was idle for too long, or everything if the member is lost.
func (st *seat) prune(all bool) {
	limit := clock() - int64(st.p.cfg.PoolIdle)
	var old []*backend
	st.mu.Lock()
	for k, list := range st.idle {
		kept := list[:0]
		for _, b := range list {
			if (all || b.rested.Load() < limit) && b.busy.CompareAndSwap(false, true) {
				b.listed.Store(false)
				old = append(old, b)
				continue
			}
			kept = append(kept, b)
		}
		if len(kept) == 0 {
			delete(st.idle, k)
		} else {
			st.idle[k] = kept
		}
	}
	st.open -= len(old)
	st.mu.Unlock()
	for _, b := range old {
		b.conn.Release()
	}
}

// dial opens a connection to m and signs in, unless quit is closed before its
// turn comes. The trackers are not on yet.
func (st *seat) dial(quit <-chan struct{}, m *route.Member, in *wire.SignIn, k key) (*backend, error) {
	if err := st.reserve(quit); err != nil {
		return nil, err
	}
	b, _, err := st.connect(quit, m, in, k)
	if err != nil {
		st.fails.Add(1)
		st.mu.Lock()
		st.open--
		st.mu.Unlock()
		if st.waiters.Load() > 0 {
			st.wake()
		}
		return nil, err
	}
	st.dials.Add(1)
	m.Trust()
	return b, nil
}

func (st *seat) connect(quit <-chan struct{}, m *route.Member, in *wire.SignIn, k key) (*backend, *wire.Server, error) {
	select {
	case st.p.opening <- struct{}{}:
		defer func() { <-st.p.opening }()
	case <-quit:
		return nil, nil, errClosed
	}
	ctx, cancel := context.WithTimeout(context.Background(), st.p.cfg.ConnectTimeout)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(ctx, network(m.Address), m.Address)
	if err != nil {
		return nil, nil, err
	}
	if st.p.cfg.MemberTLS != nil && in.TLS == nil {
		in.TLS = st.memberTLS(m.Address)
	}
	if in.Relay == nil {
		_ = nc.SetDeadline(time.Now().Add(st.p.cfg.ConnectTimeout))
	} else {
		_ = nc.SetDeadline(time.Now().Add(st.p.cfg.LoginTimeout))
	}
	c, srv, err := wire.Open(nc, in)
	if err != nil {
		_ = nc.Close()
		return nil, nil, err
	}
	c.SetDeadline(time.Time{})
	b := &backend{
		conn: c, caps: srv.Caps, id: srv.ThreadID, serial: st.p.serial.Add(1), seat: st, key: k,
		schema: in.Schema, multi: multiOf(srv.Caps), fresh: true,
	}
	b.busy.Store(true)
	if v := st.version.Load(); v == nil || *v != srv.Version {
		st.version.Store(&srv.Version)
	}
	if err := st.learnBase(b, in.Collation); err != nil {
		c.Release()
		return nil, nil, err
	}
	return b, srv, nil
}

// learnBase finds out, once per collation, what signing in with it sets:
// COM_RESET_CONNECTION will forget it.
func (st *seat) learnBase(b *backend, collation byte) error {
	st.mu.Lock()
	_, known := st.bases[collation]
	st.mu.Unlock()
	if known {
		return nil
	}
	a, err := b.ask("SELECT @@character_set_client,@@character_set_results,@@collation_connection", st.p.cfg.ConnectTimeout)
	if err != nil {
		return fmt.Errorf("learn what signing in sets: %w", err)
	}
	if len(a.Rows) != 1 || len(a.Rows[0]) != 3 {
		return wire.ErrMalformed
	}
	r := a.Rows[0]
	base := baseOf(string(r[0]), r[1], string(r[2]))
	st.mu.Lock()
	st.bases[collation] = base
	st.mu.Unlock()
	return nil
}

// baseOf writes what signing in has set as part of a SET. NAMES with a collation
// is the only form that gives character_set_results its collation too, which
// clients see in column definitions.
func baseOf(client string, results []byte, collation string) string {
	if string(results) == client && strings.HasPrefix(collation, client) {
		return "NAMES '" + client + "' COLLATE '" + collation + "'"
	}
	base := "character_set_client='" + client + "',character_set_results="
	if results == nil {
		base += "NULL"
	} else {
		base += "'" + string(results) + "'"
	}
	return base + ",collation_connection='" + collation + "'"
}

func (st *seat) base(collation byte) string {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.bases[collation]
}

// maxSmall is the largest packet of an answer to a question of our own.
const maxSmall = 1 << 20

func network(address string) string {
	if len(address) > 0 && address[0] == '/' {
		return "unix"
	}
	return "tcp"
}

// memberTLS is the TLS configuration for an address of this member. It is kept,
// and with it the sessions that make the next handshake cheap: when a member is
// drained, all its clients sign in elsewhere at one moment.
func (st *seat) memberTLS(address string) *tls.Config {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.tls != nil && st.tlsFor == address {
		return st.tls
	}
	c := st.p.cfg.MemberTLS.Clone()
	if c.ServerName == "" {
		if host, _, err := net.SplitHostPort(address); err == nil {
			c.ServerName = host
		}
	}
	if c.ClientSessionCache == nil {
		c.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	st.tls, st.tlsFor = c, address
	return c
}

// collect reads the answers nobody waited for. An error means the connection is
// of no use.
func (b *backend) collect(limit time.Duration) error {
	if b.owed == 0 {
		return nil
	}
	b.conn.SetReadDeadline(time.Now().Add(limit))
	defer b.conn.SetReadDeadline(time.Time{})
	for ; b.owed > 0; b.owed-- {
		if _, err := b.conn.ReadAnswer(b.caps, maxSmall); err != nil {
			return err
		}
	}
	return nil
}
