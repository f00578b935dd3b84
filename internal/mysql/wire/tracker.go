package wire

import "encoding/binary"

// Shape is the form an answer takes.
type Shape uint8

// The shapes of an answer.
const (
	ShapeOK      Shape = iota // one OK, EOF or ERR
	ShapeQuery                // OK, ERR, a request for a file, or results
	ShapeExecute              // OK, ERR or results
	ShapeFetch                // rows of an open cursor
	ShapePrepare              // a statement with its parameters and columns
	ShapeFields               // column definitions of a table
	ShapeString               // one packet of text
	ShapeNone                 // no answer at all
)

// Event is why Scan stopped.
type Event uint8

// The events of Scan.
const (
	// More: everything up to n may be passed on, then more has to be read.
	More Event = iota
	// Control: an OK, EOF or ERR that ends a result lies at b[n:n+size].
	Control
	// Infile: the server asks for a file with the packet at b[n:n+size]. The
	// client sends it, then the answer goes on; Scan expects an OK or ERR next.
	Infile
	// Prepared: the head of a prepared statement lies at b[n:n+size].
	Prepared
	// Bad: this is not the protocol. Nothing after n can be trusted.
	Bad
)

type scanState uint8

const (
	atFirst scanState = iota
	atColumns
	atColumnsEnd
	atRows
	atFields
)

// Tracker follows one answer through a stream of bytes, however they are cut.
// It looks at headers and the packets that end a result, and steps over the rest.
type Tracker struct {
	shape  Shape
	state  scanState
	eof    bool // the connection uses DEPRECATE_EOF
	cont   bool // the next packet continues the one before
	infile bool
	done   bool
	seen   bool // at least one packet has begun
	skip   int
	left   uint64
	cols   uint64 // columns to come after the parameters of a prepare

	// Seq is the number of the packet begun last.
	Seq byte
	// Status is what the last result said about the session.
	Status uint16
	// IsErr tells that the last control packet is an ERR.
	IsErr bool
}

// Begin prepares the tracker for an answer.
func (t *Tracker) Begin(shape Shape, caps uint32) {
	status := t.Status
	*t = Tracker{shape: shape, eof: caps&ClientDeprecateEOF != 0, Status: status}
	switch shape {
	case ShapeFetch:
		t.state = atRows
	case ShapeFields:
		t.state = atFields
	case ShapeNone:
		t.done = true
	}
}

// Done tells that the answer is complete.
func (t *Tracker) Done() bool { return t.done && t.skip == 0 }

// Started tells that some part of the answer has been seen.
func (t *Tracker) Started() bool { return t.seen }

// Boundary tells that everything scanned so far ends with a whole packet, so
// that a packet of our own could follow.
func (t *Tracker) Boundary() bool { return t.skip == 0 && !t.cont }

// Scan goes through b, which begins where the last Scan (plus the control packet
// it reported) ended.
func (t *Tracker) Scan(b []byte) (n int, ev Event, size int) {
	for {
		if t.skip > 0 {
			k := min(t.skip, len(b)-n)
			n += k
			t.skip -= k
			if t.skip > 0 {
				return n, More, 0
			}
		}
		if t.done {
			return n, More, 0
		}
		p := b[n:]
		if len(p) < 4 {
			return n, More, 0
		}
		length := int(p[0]) | int(p[1])<<8 | int(p[2])<<16
		if t.cont {
			t.Seq = p[3]
			t.cont = length == maxPayload
			t.skip = length
			n += 4
			continue
		}
		if length == 0 {
			if t.shape != ShapeString {
				return n, Bad, 0
			}
			t.done = true
			return n + 4, More, 0
		}
		if len(p) < 5 {
			return n, More, 0
		}
		switch c := p[4]; t.state {
		case atFirst:
			ev = t.first(c, p[4:], length)
		case atColumns, atFields:
			ev = t.column(c, length)
		case atColumnsEnd:
			ev = t.columnsEnd(c, p[4:], length)
		case atRows:
			switch {
			case c == 0xff, c == 0xfe && (length < 9 || t.eof && length < maxPayload):
				ev = Control
			default:
				ev = step
			}
		}
		switch ev {
		case step:
			t.seen = true
			t.Seq = p[3]
			t.cont = length == maxPayload
			t.skip = length
			n += 4
		case More, Bad:
			return n, ev, 0
		default:
			if length > maxControlPacket {
				return n, Bad, 0
			}
			if len(p) < 4+length {
				return n, More, 0
			}
			t.Seq = p[3]
			t.seen = true
			if !t.control(ev, p[4:4+length]) {
				return n, Bad, 0
			}
			return n, ev, 4 + length
		}
	}
}

// step is the event of a packet that is simply passed on.
const step Event = 0xff

func (t *Tracker) first(c byte, p []byte, length int) Event {
	switch t.shape {
	case ShapeOK:
		return Control
	case ShapeString:
		if c == 0xff {
			return Control
		}
		t.done = length < maxPayload
		return step
	case ShapePrepare:
		if c == 0 {
			return Prepared
		}
		return Control
	}
	switch {
	case c == 0x00, c == 0xff, c == 0xfe && length < 9, t.infile:
		return Control
	case c == 0xfb && t.shape == ShapeQuery:
		return Infile
	}
	count, k := LenEnc(p)
	if k == 0 {
		if len(p) < length && len(p) < 9 {
			return More
		}
		return Bad
	}
	if count == 0 || count > 65535 || k != length {
		return Bad
	}
	t.left = count
	t.state = atColumns
	return step
}

func (t *Tracker) column(c byte, length int) Event {
	if c == 0xff {
		return Control
	}
	if t.state == atFields {
		if c == 0xfe && length < maxPayload {
			return Control
		}
		return step
	}
	t.left--
	if t.left > 0 {
		return step
	}
	switch {
	case !t.eof:
		t.state = atColumnsEnd
	case t.shape == ShapePrepare:
		t.nextPrepareBlock()
	default:
		t.state = atRows
	}
	return step
}

// columnsEnd is the EOF behind column definitions. An open cursor ends there.
func (t *Tracker) columnsEnd(c byte, p []byte, length int) Event {
	// An OK here ends the result without rows: 9.7 was seen to answer so when a
	// materialized result could not be opened again.
	if c == 0xff || c == 0x00 && t.shape != ShapePrepare {
		return Control
	}
	if c != 0xfe || length < 5 || length >= 9 {
		return Bad
	}
	if len(p) < 5 {
		return More
	}
	if t.shape == ShapePrepare {
		t.nextPrepareBlock()
		return step
	}
	if binary.LittleEndian.Uint16(p[3:])&StatusCursorExists != 0 {
		return Control
	}
	t.state = atRows
	return step
}

func (t *Tracker) nextPrepareBlock() {
	if t.cols == 0 {
		t.done = true
		return
	}
	t.left, t.cols = t.cols, 0
	t.state = atColumns
}

// control takes note of a packet that ends a result, and says what comes next.
func (t *Tracker) control(ev Event, p []byte) bool {
	t.IsErr = false
	switch ev {
	case Infile:
		t.infile = true
		return true
	case Prepared:
		if len(p) < 12 {
			return false
		}
		t.left = uint64(binary.LittleEndian.Uint16(p[7:]))
		t.cols = uint64(binary.LittleEndian.Uint16(p[5:]))
		if t.left == 0 {
			t.nextPrepareBlock()
		} else {
			t.state = atColumns
		}
		return true
	}
	if p[0] == 0xff {
		t.IsErr = true
		t.done = true
		return true
	}
	status, ok := t.statusOf(p)
	if !ok {
		return false
	}
	t.Status = status
	t.infile = false
	if status&StatusMoreResults != 0 && (t.shape == ShapeQuery || t.shape == ShapeExecute) {
		t.state = atFirst
		return true
	}
	t.done = true
	return true
}

func (t *Tracker) statusOf(p []byte) (uint16, bool) {
	if p[0] == 0xfe && !t.eof {
		if len(p) < 5 {
			return 0, false
		}
		return binary.LittleEndian.Uint16(p[3:]), true
	}
	at := 1
	for range 2 {
		_, n := LenEnc(p[at:])
		if n == 0 {
			return 0, false
		}
		at += n
	}
	if len(p) < at+4 {
		return 0, false
	}
	return binary.LittleEndian.Uint16(p[at:]), true
}
