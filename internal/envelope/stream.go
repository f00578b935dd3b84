package envelope

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// chunkSize is how much of a stream is sealed at once. Reading back needs one
// chunk in memory, however long the stream is.
const chunkSize = 64 << 10

// A stream is a head of its own data key, seven random bytes, and chunks whose
// nonces are those bytes, a counter, and whether the chunk is the last: so
// chunks cannot be swapped, left out, or cut off at the end unnoticed.
const prefixSize = nonceSize - 5

// Writer seals what is written to it. Close finishes the stream; without it
// the reader reports damage.
type Writer struct {
	w       io.Writer
	key     *dataKey
	purpose []byte
	nonce   [nonceSize]byte
	buf     []byte
	out     []byte
	n       uint32
	err     error
}

// NewWriter starts a stream on w with a data key of its own.
func (k *Keyring) NewWriter(w io.Writer, purpose string) (*Writer, error) {
	k.mu.RLock()
	d, err := k.newDataKey()
	k.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	s := &Writer{w: w, key: d, purpose: []byte(purpose), buf: make([]byte, 0, chunkSize)}
	_, _ = rand.Read(s.nonce[:prefixSize])
	if _, err := w.Write(append(append([]byte{}, d.head...), s.nonce[:prefixSize]...)); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Writer) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && s.err == nil {
		// A full chunk goes only when more follows: the last one is marked.
		if len(s.buf) == chunkSize {
			s.flush(0)
			continue
		}
		n := min(len(p), chunkSize-len(s.buf))
		s.buf = append(s.buf, p[:n]...)
		p = p[n:]
	}
	return total - len(p), s.err
}

func (s *Writer) flush(last byte) {
	if s.n == 1<<32-1 {
		s.err = errors.New("stream is too long to seal")
		return
	}
	binary.BigEndian.PutUint32(s.nonce[prefixSize:], s.n)
	s.nonce[nonceSize-1] = last
	s.n++
	s.out = s.key.aead.Seal(s.out[:0], s.nonce[:], s.buf, s.purpose)
	s.buf = s.buf[:0]
	_, s.err = s.w.Write(s.out)
}

// Close writes the last chunk. It does not close the writer below.
func (s *Writer) Close() error {
	if s.err == nil {
		s.flush(1)
	}
	err := s.err
	if s.err == nil {
		s.err = errors.New("sealed stream is closed")
	}
	return err
}

type streamReader struct {
	r       *bufio.Reader
	key     *dataKey
	purpose []byte
	nonce   [nonceSize]byte
	in      []byte
	plain   []byte
	n       uint32
	done    bool
}

// NewReader opens a stream. Nothing it returns is unverified, and the end is
// io.EOF only where the stream was closed by its writer.
func (k *Keyring) NewReader(r io.Reader, purpose string) (io.Reader, error) {
	br := bufio.NewReaderSize(r, chunkSize+tagSize+1)
	start, err := br.Peek(len(magic) + 1)
	if err != nil {
		return nil, fmt.Errorf("%w: no head", ErrDamaged)
	}
	head := make([]byte, len(magic)+1+int(start[len(magic)])+wrappedSize)
	if _, err := io.ReadFull(br, head); err != nil {
		return nil, fmt.Errorf("%w: too short", ErrDamaged)
	}
	d, _, err := k.split(head)
	if err != nil {
		return nil, err
	}
	s := &streamReader{r: br, key: d, purpose: []byte(purpose), in: make([]byte, chunkSize+tagSize)}
	if _, err := io.ReadFull(br, s.nonce[:prefixSize]); err != nil {
		return nil, fmt.Errorf("%w: too short", ErrDamaged)
	}
	return s, nil
}

func (s *streamReader) Read(p []byte) (int, error) {
	for len(s.plain) == 0 {
		if s.done {
			return 0, io.EOF
		}
		if err := s.chunk(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.plain)
	s.plain = s.plain[n:]
	return n, nil
}

func (s *streamReader) chunk() error {
	n, err := io.ReadFull(s.r, s.in)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	last := byte(0)
	if _, err := s.r.Peek(1); errors.Is(err, io.EOF) {
		last = 1
	} else if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(s.nonce[prefixSize:], s.n)
	s.nonce[nonceSize-1] = last
	s.n++
	plain, err := s.key.aead.Open(s.in[:0], s.nonce[:], s.in[:n], s.purpose)
	if err != nil {
		return fmt.Errorf("%w: chunk %d", ErrDamaged, s.n-1)
	}
	s.plain, s.done = plain, last == 1
	return nil
}
