package wire

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// pollInTurn is how long a read inside of a turn waits before it looks whether
// it was woken, in milliseconds.
const pollInTurn = 250

// Turns waits for something to arrive and calls serve, again and again, until
// serve returns false. It returns nil then, and an error like Fill's if waiting
// failed. serve is called with bytes buffered, at least one of them new; when it
// returns true nothing may be left.
//
// It differs from Fill in a loop by the system calls. Fill tries to read before
// it waits, since something may have arrived that the poller was told to forget.
// Turns never tells it to forget, so whatever arrives while serve works is
// remembered, and a read that got less than it had room for need not be tried
// again. That spares one read in vain per request.
//
// What has no descriptor of its own, such as TLS, is filled once, and Turns
// returns nil.
func (c *Conn) Turns(serve func() bool) error {
	s, ok := c.nc.(*socket)
	if !ok {
		return c.Fill()
	}
	c.served, c.over = serve, nil
	err := s.raw.Read(c.turn)
	c.turning, c.served = 0, nil
	if err == nil {
		err = c.over
	}
	return err
}

func (c *Conn) takeTurn(fd uintptr) bool {
	c.room()
	in := transfer{p: c.buf[c.w:]}
	if !in.try(unix.SYS_READ, fd) {
		return false
	}
	c.w += in.n
	switch {
	case in.err != nil:
		c.over = os.NewSyscallError("read", in.err)
		return true
	case in.n == 0:
		c.over = io.EOF
		return true
	}
	c.greedy = in.n == len(in.p)
	if c.greedy {
		return true // there may be more: it has to be read before one waits
	}
	c.turning = int(fd)
	again := c.served()
	c.turning = 0
	return !again
}

// readInTurn is a read by a serve that needs more than had arrived. That is rare,
// and the poller is taken, so it holds a thread; now and then it returns as if it
// had been woken.
func (c *Conn) readInTurn(p []byte) (int, error) {
	in := transfer{p: p}
	for !in.try(unix.SYS_READ, uintptr(c.turning)) {
		fd := [1]unix.PollFd{{Fd: int32(c.turning), Events: unix.POLLIN}}
		n, err := unix.Poll(fd[:], pollInTurn)
		if n == 0 && err == nil {
			return 0, os.ErrDeadlineExceeded
		}
		if err != nil && err != unix.EINTR {
			return 0, os.NewSyscallError("poll", err)
		}
	}
	if in.err == nil && in.n == 0 {
		return 0, io.EOF
	}
	if in.err != nil {
		return 0, os.NewSyscallError("read", in.err)
	}
	return in.n, nil
}
