package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Buffer sizes. Small is what a connection works with; large is for a stream
// that keeps filling it. Both go back to a pool as soon as they are empty and
// the session says it will wait.
const (
	smallBuffer = 16 << 10
	largeBuffer = 128 << 10
)

var (
	smallPool = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largePool = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// ErrTooLarge means a packet is larger than its reader allows.
var ErrTooLarge = errors.New("packet is too large")

// Conn is one connection with a read buffer of its own. It is used by one
// goroutine at a time; only Wake, Quiet, Gone and Close may come from others.
type Conn struct {
	nc   net.Conn
	raw  syscall.RawConn
	buf  []byte
	r, w int
	// own is a buffer outside the pools, for a packet larger than them.
	own bool
	// greedy says the last read filled the buffer: a bulk transfer.
	greedy bool

	// turning is the descriptor while Turns serves a request, 0 otherwise.
	turning int
	served  func() bool
	over    error
	turn    func(fd uintptr) bool

	tiny  [512]byte
	poll  [1]unix.PollFd
	probe func(fd uintptr)
	quiet bool
}

// NewConn wraps nc. It takes no buffer until something is read.
func NewConn(nc net.Conn) *Conn {
	c := &Conn{}
	c.reset(newSocket(nc))
	return c
}

func (c *Conn) reset(nc net.Conn) {
	c.nc = nc
	under := nc
	if t, ok := under.(*tls.Conn); ok {
		under = t.NetConn()
	}
	switch u := under.(type) {
	case *socket:
		c.raw = u.raw
	case syscall.Conn:
		c.raw, _ = u.SyscallConn()
	}
	c.probe, c.turn = c.look, c.takeTurn
}

// Net is the connection underneath.
func (c *Conn) Net() net.Conn {
	if s, ok := c.nc.(*socket); ok {
		return s.Conn
	}
	return c.nc
}

// StartTLS continues inside TLS with what wrap makes of the connection.
// Bytes that arrived before are handed to it first.
func (c *Conn) StartTLS(wrap func(net.Conn) *tls.Conn) error {
	nc := c.nc
	if c.w > c.r {
		early := append([]byte(nil), c.buf[c.r:c.w]...)
		c.r, c.w = 0, 0
		nc = &earlyConn{Conn: nc, early: early}
	}
	t := wrap(nc)
	if err := t.HandshakeContext(context.Background()); err != nil { // deadlines are the connection's
		return err
	}
	raw := c.raw
	c.reset(t)
	c.raw = raw
	return nil
}

// earlyConn gives back what was read too far.
type earlyConn struct {
	net.Conn
	early []byte
}

func (e *earlyConn) Read(p []byte) (int, error) {
	if len(e.early) > 0 {
		n := copy(p, e.early)
		e.early = e.early[n:]
		return n, nil
	}
	return e.Conn.Read(p)
}

// Secure tells whether the connection is inside TLS or never leaves the host.
func (c *Conn) Secure() bool {
	switch c.Net().(type) {
	case *tls.Conn, *net.UnixConn:
		return true
	}
	return false
}

// Buffered is what has arrived and was not consumed yet.
func (c *Conn) Buffered() []byte { return c.buf[c.r:c.w] }

// Advance consumes n bytes of what is buffered.
func (c *Conn) Advance(n int) {
	c.r += n
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
}

// Fill reads at least one more byte behind what is buffered. Slices handed out
// before are no longer valid.
func (c *Conn) Fill() error {
	c.room()
	var n int
	var err error
	if c.turning != 0 {
		n, err = c.readInTurn(c.buf[c.w:])
	} else {
		n, err = c.nc.Read(c.buf[c.w:])
	}
	c.greedy = n == len(c.buf)-c.w
	c.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// room makes sure that there is room to read into.
func (c *Conn) room() {
	switch {
	case c.buf == nil:
		c.take()
	case c.w == 0 && c.greedy && len(c.buf) == smallBuffer:
		c.giveBack()
		c.buf = largePool.Get().(*[largeBuffer]byte)[:]
	case c.w == len(c.buf):
		if c.r > 0 {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		} else {
			c.grow(2 * len(c.buf))
		}
	}
}

// ErrStale means that the other side had hung up, or said something on its own,
// before anything was written.
var ErrStale = errors.New("connection was closed by the other side")

// Probes tells whether Ask can see that the other side has hung up.
func (c *Conn) Probes() bool {
	_, ok := c.nc.(*socket)
	return ok
}

// Ask is Write for a question that will be answered: it also fills, if it can,
// with the first bytes of the answer. Nothing may be buffered. With probe it
// looks first, and returns ErrStale with nothing written if the other side is
// gone.
func (c *Conn) Ask(p []byte, probe bool) error {
	s, ok := c.nc.(*socket)
	if !ok || c.w > c.r {
		return c.Write(p)
	}
	c.room()
	n, rest, sent := s.ask(p, c.buf[c.w:], probe)
	if s.stale {
		return ErrStale
	}
	if !sent || len(rest) > 0 {
		return c.Write(rest)
	}
	c.greedy = n == len(c.buf)-c.w
	c.w += n
	return nil
}

// FillIdle is Fill for somebody who expects to wait long: it holds no buffer
// from the pools meanwhile. Nothing may be buffered.
func (c *Conn) FillIdle() error {
	c.Rest()
	n, err := c.nc.Read(c.tiny[:])
	if n == 0 {
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	c.take()
	c.r, c.w = 0, copy(c.buf, c.tiny[:n])
	return nil
}

// Need fills until n bytes are buffered. The caller has checked n.
func (c *Conn) Need(n int) error {
	if c.buf == nil {
		c.take()
	}
	if c.r+n > len(c.buf) {
		if c.r > 0 {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		}
		if n > len(c.buf) {
			c.grow(n)
		}
	}
	for c.w-c.r < n {
		if err := c.Fill(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) take() { c.buf = smallPool.Get().(*[smallBuffer]byte)[:] }

func (c *Conn) grow(to int) {
	var bigger []byte
	own := false
	if to <= largeBuffer {
		bigger = largePool.Get().(*[largeBuffer]byte)[:]
	} else {
		bigger, own = make([]byte, to), true
	}
	n := copy(bigger, c.buf[c.r:c.w])
	c.giveBack()
	c.buf, c.r, c.w, c.own = bigger, 0, n, own
}

func (c *Conn) giveBack() {
	switch {
	case c.buf == nil || c.own:
	case len(c.buf) == smallBuffer:
		smallPool.Put((*[smallBuffer]byte)(c.buf))
	case len(c.buf) == largeBuffer:
		largePool.Put((*[largeBuffer]byte)(c.buf))
	}
	c.buf, c.own, c.greedy = nil, false, false
}

// Rest gives the buffer back to its pool if nothing is in it.
func (c *Conn) Rest() {
	if c.buf != nil && c.r == c.w {
		c.r, c.w = 0, 0
		c.giveBack()
	}
}

// Shrink gives a large buffer back, and keeps a small one for the next packet.
func (c *Conn) Shrink() {
	if len(c.buf) > smallBuffer {
		c.Rest()
	}
}

// Write sends p in one piece.
func (c *Conn) Write(p []byte) error {
	_, err := c.nc.Write(p)
	return err
}

// ReadPacket returns the payload of the next packet, joined if it came in
// several, and the number of the last. It refuses more than limit bytes.
func (c *Conn) ReadPacket(limit int) (payload []byte, seq byte, err error) {
	var joined []byte
	for {
		if err := c.Need(4); err != nil {
			return nil, 0, err
		}
		h := c.Buffered()
		n := int(h[0]) | int(h[1])<<8 | int(h[2])<<16
		seq = h[3]
		if len(joined)+n > limit {
			return nil, seq, ErrTooLarge
		}
		// A length is only a claim: room is made as the bytes arrive, so that a
		// stranger who announces much and sends nothing takes nothing.
		for have := len(h); have < 4+n; have = len(c.Buffered()) {
			if err := c.Need(min(4+n, 2*have+smallBuffer)); err != nil {
				return nil, seq, err
			}
		}
		payload = c.Buffered()[4 : 4+n]
		if n < maxPayload && joined == nil {
			c.Advance(4 + n)
			return payload, seq, nil
		}
		joined = append(joined, payload...)
		c.Advance(4 + n)
		if n < maxPayload {
			return joined, seq, nil
		}
	}
}

// Wake makes a blocked read return with os.ErrDeadlineExceeded.
func (c *Conn) Wake() { _ = c.nc.SetReadDeadline(time.Unix(1, 0)) }

// SetReadDeadline limits how long reads may take.
func (c *Conn) SetReadDeadline(t time.Time) { _ = c.nc.SetReadDeadline(t) }

// SetDeadline limits how long reads and writes may take.
func (c *Conn) SetDeadline(t time.Time) { _ = c.nc.SetDeadline(t) }

// Close closes the connection. The buffer stays with whoever reads.
func (c *Conn) Close() error { return c.nc.Close() }

// Release closes and gives the buffer back. Only the reader may call it.
func (c *Conn) Release() {
	_ = c.nc.Close()
	c.r, c.w = 0, 0
	c.giveBack()
}

func (c *Conn) look(fd uintptr) {
	c.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}
	n, err := unix.Poll(c.poll[:], 0)
	c.quiet = err == nil && n == 0
}

// Quiet tells whether the other side has sent nothing and has not hung up.
// An idle server connection that is not quiet is over: nothing may arrive there
// but a goodbye.
func (c *Conn) Quiet() bool {
	if c.w > c.r {
		return false
	}
	if c.raw == nil {
		return true
	}
	if err := c.raw.Control(c.probe); err != nil {
		return false
	}
	return c.quiet
}

// Gone tells whether the other side has hung up. Any goroutine may ask.
func (c *Conn) Gone() bool {
	if c.raw == nil {
		return false
	}
	gone := false
	err := c.raw.Control(func(fd uintptr) {
		p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p[:], 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
	})
	return gone || err != nil
}
