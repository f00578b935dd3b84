package wire

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a connection whose system calls do not tell the scheduler that they
// may block: they never do, because the descriptor is non-blocking. A call on
// loopback takes longer than sysmon's 20 µs, so each one that is announced is
// answered by another thread taking over and being put to sleep again.
type socket struct {
	net.Conn
	raw syscall.RawConn

	// The callbacks are made once, so that no call allocates. in and out are
	// apart because reading and writing may overlap inside TLS.
	readOnce, writeOnce, askOnce func(fd uintptr) bool
	in, out                      transfer

	probe, sent, stale bool // of an ask
}

// transfer is one read or write in progress.
type transfer struct {
	p   []byte
	n   int
	err error
}

// newSocket makes nc cheap to use. What has no descriptor stays as it is.
func newSocket(nc net.Conn) net.Conn {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nc
	}
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err != nil {
		return nc
	}
	s := &socket{Conn: nc, raw: raw}
	s.readOnce = func(fd uintptr) bool { return s.in.try(unix.SYS_READ, fd) }
	s.writeOnce = func(fd uintptr) bool {
		for s.out.n < len(s.out.p) {
			if !s.out.try(unix.SYS_WRITE, fd) {
				return false
			}
			if s.out.err != nil {
				break
			}
		}
		return true
	}
	s.askOnce = s.asking
	return s
}

// ask writes a question and waits for the first bytes of the answer. Since the
// answer cannot come before the question, there is no need to try a read first:
// the poller is told to forget what it saw, then the question is written. With
// probe, one read is tried before that, to find out whether the other side has
// said something on its own, which is always a goodbye; then nothing is written.
//
// sent is false if no byte of the question was written. rest is what the other
// side had no room for: it has to be written, and the answer read, as usual.
func (s *socket) ask(question, into []byte, probe bool) (n int, rest []byte, sent bool) {
	s.in, s.out = transfer{p: into}, transfer{p: question}
	s.probe, s.sent, s.stale = probe, false, false
	err := s.raw.Read(s.askOnce)
	n, rest, sent = s.in.n, question[s.out.n:], s.out.n > 0
	if s.in.err != nil || err != nil {
		n = 0 // the next read meets the same error
	}
	s.in, s.out = transfer{}, transfer{}
	return n, rest, sent
}

func (s *socket) asking(fd uintptr) bool {
	if !s.sent {
		if s.probe && s.in.try(unix.SYS_READ, fd) {
			s.stale = true
			return true
		}
		if !s.out.try(unix.SYS_WRITE, fd) || s.out.err != nil || s.out.n < len(s.out.p) {
			return true
		}
		s.sent = true
		return false
	}
	return s.in.try(unix.SYS_READ, fd)
}

// try makes one system call. False means that it would have to wait.
func (t *transfer) try(call, fd uintptr) bool {
	left := t.p[t.n:]
	for {
		//nolint:gosec // the pattern that package unsafe allows: converted in the call's argument list
		n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(left))), uintptr(len(left)))
		switch errno {
		case 0:
			t.n += int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			t.err = errno
			return true
		}
	}
}

func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.in = transfer{p: p}
	err := s.raw.Read(s.readOnce)
	return s.did("read", err)
}

func (s *socket) did(op string, err error) (int, error) {
	n, failed := s.in.n, s.in.err
	s.in = transfer{}
	switch {
	case err != nil:
		return n, err
	case failed != nil:
		return n, os.NewSyscallError(op, failed)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func (s *socket) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.out = transfer{p: p}
	err := s.raw.Write(s.writeOnce)
	n, failed := s.out.n, s.out.err
	s.out = transfer{}
	if err == nil && failed != nil {
		err = os.NewSyscallError("write", failed)
	}
	return n, err
}
