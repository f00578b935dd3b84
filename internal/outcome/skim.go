package outcome

import (
	"bufio"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/mysql/wire"
)

// skimmer reads a binary log for the names of its transactions and the marks in
// them. It keeps no row: what is not one of both flows by.
type skimmer struct {
	names names
	last  gtid.GTID // the transaction that began last, perhaps cut off; not in names
	mark  func(string)
	at    position // behind the last event; none if an event cannot say it

	sum    int // bytes of checksum behind every event
	events int64
	bytes  int64

	kept []byte
	zip  *zstd.Decoder
	buf  *bufio.Reader
}

// keptMost is how much of one event is looked at. A statement that sets a mark
// is far shorter, whatever variables its session carries along.
const keptMost = 128 << 10

// event reads the next event from r, which ends where the event ends.
func (s *skimmer) event(r io.Reader) error {
	var head [headerSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return malformed(err)
	}
	h, err := parseHeader(head[:])
	if err != nil {
		return err
	}
	s.events++
	s.bytes += int64(h.size)
	body := int64(h.size) - headerSize
	if h.kind == typeFormat {
		return s.keep(r, body, s.format)
	}
	if body -= int64(s.sum); body < 0 {
		// One that the server made up for the dump may have no checksum.
		return discard(r)
	}
	if h.flags&artificial == 0 && h.end != 0 {
		s.move(uint64(h.end))
	}
	switch h.kind {
	case typeRotate:
		return s.keep(r, body, func(b []byte) (err error) { s.at, err = parseRotate(b); return err })
	case typeGTID:
		return s.keep(r, body, func(b []byte) error { return s.begin(parseGTID(b)) })
	case typeTagged:
		return s.keep(r, body, func(b []byte) error { return s.begin(parseTagged(b)) })
	case typeQuery:
		return s.keep(r, body, s.statement)
	case typePayload:
		if err := s.payload(io.LimitReader(r, body)); err != nil {
			return err
		}
	}
	return discard(r)
}

// keep hands the first bytes of an event to take.
func (s *skimmer) keep(r io.Reader, size int64, take func([]byte) error) error {
	size = min(size, keptMost)
	if int64(cap(s.kept)) < size {
		s.kept = make([]byte, max(size, 4<<10))
	}
	b := s.kept[:size]
	if _, err := io.ReadFull(r, b); err != nil {
		return malformed(err)
	}
	if err := take(b); err != nil {
		return err
	}
	return discard(r)
}

// move takes the position behind an event. It has 32 bits in the event, and a
// file with one large transaction can be larger.
func (s *skimmer) move(end uint64) {
	if end < s.at.offset {
		s.at = position{}
	}
	s.at.offset = end
}

func (s *skimmer) format(body []byte) (err error) {
	s.sum, err = parseFormat(body)
	return err
}

func (s *skimmer) begin(g gtid.GTID, err error) error {
	if err != nil {
		return err
	}
	if s.last.IsValid() {
		s.names.add(s.last)
	}
	s.last = g
	return nil
}

func (s *skimmer) statement(body []byte) error {
	mark, err := parseMark(body)
	if err == nil && mark != "" {
		s.mark(mark)
	}
	return err
}

// read is what was read to its end, given what the server had executed before:
// the transaction that the log ends with counts if it is among that.
func (s *skimmer) read(executed gtid.Set) gtid.Set {
	if s.last.IsValid() && executed.Has(s.last) {
		s.names.add(s.last)
		s.last = gtid.GTID{}
	}
	return s.names.set()
}

// Fields of the event that holds a whole transaction in one piece, and the ways
// to compress it.
const (
	payloadEnd         = 0
	payloadCompression = 2

	compressionZstd = 0
	compressionNone = 255
)

// payload reads the events inside a compressed transaction.
func (s *skimmer) payload(r io.Reader) error {
	if s.buf == nil {
		s.buf = bufio.NewReaderSize(nil, 32<<10)
	}
	s.buf.Reset(r)
	defer s.buf.Reset(nil)
	compression, err := payloadFields(s.buf)
	if err != nil {
		return err
	}
	var plain io.Reader = s.buf
	switch compression {
	case compressionNone:
	case compressionZstd:
		if s.zip == nil {
			if s.zip, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(windowMost)); err != nil {
				return err
			}
		}
		if err := s.zip.Reset(s.buf); err != nil {
			return malformed(err)
		}
		plain = s.zip
	default:
		return errMalformed
	}
	var head [headerSize]byte
	for {
		switch _, err := io.ReadFull(plain, head[:]); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return malformed(err)
		}
		h, err := parseHeader(head[:])
		if err != nil {
			return err
		}
		event := io.LimitReader(plain, int64(h.size)-headerSize)
		if h.kind == typeQuery {
			err = s.keep(event, int64(h.size)-headerSize, s.statement)
		} else {
			err = discard(event)
		}
		if err != nil {
			return err
		}
	}
}

// windowMost is the most that the server's strongest compression looks back.
const windowMost = 128 << 20

// payloadFields reads what stands before the compressed piece.
func payloadFields(r *bufio.Reader) (compression uint64, err error) {
	for {
		field, err := lenEnc(r)
		if err != nil || field == payloadEnd {
			return compression, err
		}
		size, err := lenEnc(r)
		if err != nil {
			return 0, err
		}
		if size > 16 { // there are numbers only
			return 0, errMalformed
		}
		value, err := r.Peek(int(size))
		if err != nil {
			return 0, malformed(err)
		}
		if field == payloadCompression {
			var n int
			if compression, n = wire.LenEnc(value); n == 0 {
				return 0, errMalformed
			}
		}
		_, _ = r.Discard(int(size)) // they were peeked at
	}
}

func lenEnc(r *bufio.Reader) (uint64, error) {
	b, err := r.Peek(9)
	if len(b) == 0 {
		return 0, malformed(err)
	}
	v, n := wire.LenEnc(b)
	if n == 0 {
		return 0, errMalformed
	}
	_, _ = r.Discard(n) // they were peeked at
	return v, nil
}

func (s *skimmer) close() {
	if s.zip != nil {
		s.zip.Close()
	}
}

func discard(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

// malformed keeps a broken connection apart from broken bytes.
func malformed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || err == nil {
		return errMalformed
	}
	return err
}

// names collects the names of transactions, which come nearly in order.
type names struct {
	ranges []gtid.Range
	older  gtid.Set
}

// rangesMost is how many ranges are kept before they are sorted in.
const rangesMost = 256

func (n *names) add(g gtid.GTID) {
	for i := len(n.ranges) - 1; i >= max(0, len(n.ranges)-16); i-- {
		if r := &n.ranges[i]; r.Source == g.Source && g.Number == r.Last+1 {
			r.Last++
			return
		}
	}
	if len(n.ranges) >= rangesMost {
		n.older, n.ranges = n.set(), n.ranges[:0]
	}
	n.ranges = append(n.ranges, gtid.Range{Source: g.Source, First: g.Number, Last: g.Number})
}

func (n *names) set() gtid.Set {
	all := n.older
	for _, r := range n.ranges {
		all = all.Union(r.Set())
	}
	return all
}
