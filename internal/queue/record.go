package queue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"
)

// Kind says what a record in the log asks for.
type kind byte

const (
	kindWrite   kind = 1
	kindRetry   kind = 2 // take a dead letter up again, possibly with another body
	kindDiscard kind = 3 // give a dead letter up for good
)

// record is one write as it lies in the log, and in the tables of writes that
// wait or died. It is complete: nothing in it depends on what an operation
// meant then or means later.
type record struct {
	kind      kind
	id        ID
	key       string
	operation string // empty for plain statements
	by        string // whose token
	at        time.Time
	session   byte // which pinned session context, see sessions
	stmts     []stmt
}

// stmt is a statement that has passed the guard: comments gone, each place of
// a bound value marked with a NUL byte.
type stmt struct {
	sql      string
	args     []Value
	min, max int64 // rows it must affect; max < 0 means no limit
	resetID  bool  // reads LAST_INSERT_ID(), which must not be that of another write
	random   bool  // uses RAND()
}

const (
	flagResetID = 1 << iota
	flagRandom
)

var errRecord = errors.New("record is damaged")

func (r *record) size() int {
	n := 64 + len(r.key) + len(r.operation) + len(r.by)
	for i := range r.stmts {
		n += 24 + len(r.stmts[i].sql)
		for _, a := range r.stmts[i].args {
			n += a.size()
		}
	}
	return n
}

// digest tells two different writes under one id apart. It leaves out the time
// and who sent it: a retry has others.
func (r *record) digest() uint64 {
	h := fnv.New64a()
	c := *r
	c.at, c.by, c.kind = time.Time{}, "", kindWrite
	h.Write(c.append(nil))
	return h.Sum64()
}

func (r *record) append(b []byte) []byte {
	b = append(b, byte(r.kind), r.session)
	b = append(b, r.id[:]...)
	b = appendText(b, r.key)
	b = appendText(b, r.operation)
	b = appendText(b, r.by)
	b = binary.AppendVarint(b, r.at.UnixMicro())
	b = binary.AppendUvarint(b, uint64(len(r.stmts)))
	for i := range r.stmts {
		b = r.stmts[i].append(b)
	}
	return b
}

func (s *stmt) append(b []byte) []byte {
	var flags byte
	if s.resetID {
		flags |= flagResetID
	}
	if s.random {
		flags |= flagRandom
	}
	b = append(b, flags)
	b = binary.AppendVarint(b, s.min)
	b = binary.AppendVarint(b, s.max)
	b = appendText(b, s.sql)
	b = binary.AppendUvarint(b, uint64(len(s.args)))
	for _, v := range s.args {
		b = append(b, byte(v.kind))
		switch v.kind {
		case kindNull:
		case kindInt, kindUint, kindTime:
			b = binary.AppendUvarint(b, v.num)
		default:
			b = appendText(b, v.text)
		}
	}
	return b
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// reader takes records apart. The first thing that does not fit sets bad, and
// everything after it is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		r.b = nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad = true
		r.b = nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.bad = true
		r.b = nil
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// count reads a number of things that take at least one byte each, so that a
// damaged one cannot ask for more memory than the record itself has.
func (r *reader) count() int {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) record() record {
	var out record
	out.kind, out.session = kind(r.byte()), r.byte()
	if len(r.b) < len(out.id) {
		r.bad = true
		return record{}
	}
	copy(out.id[:], r.b)
	r.b = r.b[len(out.id):]
	out.key, out.operation, out.by = r.text(), r.text(), r.text()
	out.at = time.UnixMicro(r.int()).UTC()
	n := r.count()
	if n > 0 && !r.bad {
		out.stmts = make([]stmt, 0, min(n, 16))
	}
	for range n {
		if r.bad {
			break
		}
		out.stmts = append(out.stmts, r.stmt())
	}
	return out
}

func (r *reader) stmt() stmt {
	var s stmt
	flags := r.byte()
	s.resetID, s.random = flags&flagResetID != 0, flags&flagRandom != 0
	s.min, s.max = r.int(), r.int()
	s.sql = r.text()
	n := r.count()
	for range n {
		if r.bad {
			break
		}
		v := Value{kind: valueKind(r.byte())}
		switch v.kind {
		case kindNull:
		case kindInt, kindUint, kindTime:
			v.num = r.uint()
		case kindNumber, kindText, kindBytes:
			v.text = r.text()
		default:
			r.bad = true
		}
		s.args = append(s.args, v)
	}
	if strings.Count(s.sql, mark) != len(s.args) {
		r.bad = true
	}
	return s
}

func decodeRecord(b []byte) (record, error) {
	r := reader{b: b}
	rec := r.record()
	if r.bad || len(r.b) != 0 || rec.kind < kindWrite || rec.kind > kindDiscard {
		return record{}, errRecord
	}
	return rec, nil
}

// A frame is what the log stores at one sequence: the writes that one flush of
// the disk made durable together.
var frameMagic = []byte("PQF1")

// maxFrameWrites bounds the index of a write in its frame to 12 bits.
const maxFrameWrites = 1 << seqBits

const seqBits = 12

// Sequences of writes are those of their frames with the index below.
func writeSeq(frame uint64, index int) uint64 { return frame<<seqBits | uint64(index) }
func frameOf(seq uint64) uint64               { return seq >> seqBits }

func encodeFrame(records []*record, at time.Time) []byte {
	n := 16
	for _, r := range records {
		n += r.size()
	}
	b := append(make([]byte, 0, n), frameMagic...)
	b = binary.AppendUvarint(b, uint64(len(records)))
	for _, r := range records {
		r.at = at
		b = r.append(b)
	}
	return b
}

func decodeFrame(b []byte) ([]record, error) {
	body, ok := bytes.CutPrefix(b, frameMagic)
	if !ok {
		return nil, fmt.Errorf("%w: not a frame", errRecord)
	}
	r := reader{b: body}
	n := r.count()
	if r.bad || n > maxFrameWrites {
		return nil, fmt.Errorf("%w: count of writes", errRecord)
	}
	out := make([]record, 0, n)
	for i := range n {
		rec := r.record()
		if r.bad || rec.kind < kindWrite || rec.kind > kindDiscard {
			return nil, fmt.Errorf("%w: write %d of %d", errRecord, i, n)
		}
		out = append(out, rec)
	}
	if len(r.b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last write", errRecord, len(r.b))
	}
	return out, nil
}
