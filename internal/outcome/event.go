package outcome

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/perdure/perdure/internal/gtid"
)

// Types of events in a binary log, as far as they say who committed what.
const (
	typeQuery   = 2
	typeRotate  = 4  // the events that follow are in another file
	typeFormat  = 15 // how the events that follow are written
	typeGTID    = 33
	typePayload = 40 // a whole transaction in one compressed piece
	typeTagged  = 42 // as typeGTID, of a transaction with a tag
)

// headerSize is the length of the header that all events have.
const headerSize = 19

var errMalformed = errors.New("an event of a binary log cannot be read")

// header is what every event begins with.
type header struct {
	kind  byte
	size  uint32 // of the whole event
	end   uint32 // position behind it in its file; 0 for one that was made up for the dump
	flags uint16
}

// artificial marks an event that the server made up for the dump alone: its
// position is none of the file's.
const artificial = 0x20

func parseHeader(p []byte) (h header, err error) {
	if len(p) < headerSize {
		return h, errMalformed
	}
	h = header{
		kind: p[4], size: binary.LittleEndian.Uint32(p[9:]),
		end: binary.LittleEndian.Uint32(p[13:]), flags: binary.LittleEndian.Uint16(p[17:]),
	}
	if h.size < headerSize {
		return h, errMalformed
	}
	return h, nil
}

// parseFormat tells how many bytes of checksum stand at the end of every event
// of a log. This event has its own in any case, and in front of it the way the
// others are made.
func parseFormat(body []byte) (sum int, err error) {
	const fixed = 2 + 50 + 4 + 1
	if len(body) < fixed+1+checksumSize {
		return 0, errMalformed
	}
	switch body[len(body)-1-checksumSize] {
	case 0:
		return 0, nil
	case 1:
		return checksumSize, nil
	}
	return 0, errMalformed
}

const checksumSize = 4

// parseGTID reads an event that gives the transaction behind it its name.
func parseGTID(body []byte) (g gtid.GTID, err error) {
	if len(body) < 1+16+8 {
		return g, errMalformed
	}
	copy(g.Source.UUID[:], body[1:17])
	g.Number = binary.LittleEndian.Uint64(body[17:])
	if !g.IsValid() {
		return g, errMalformed
	}
	return g, nil
}

// Fields of the event that names a tagged transaction, in their order.
const (
	fieldFlags = iota
	fieldUUID
	fieldNumber
	fieldTag
)

// parseTagged reads the same for a transaction with a tag, which the server
// writes as numbered fields of numbers of variable length.
func parseTagged(body []byte) (g gtid.GTID, err error) {
	r := fields{rest: body}
	r.number() // version of the form
	r.number() // size of the message
	r.number() // last field that a reader may not skip
	for want := range uint64(fieldTag + 1) {
		if r.number() != want {
			return g, errMalformed
		}
		switch want {
		case fieldFlags:
			r.number()
		case fieldUUID:
			for i := range g.Source.UUID {
				g.Source.UUID[i] = byte(r.number()) //nolint:gosec // a byte in each
			}
		case fieldNumber:
			g.Number = r.number() >> 1 // the lowest bit is its sign
		case fieldTag:
			if g.Source.Tag, err = gtid.ParseTag(string(r.bytes(r.number()))); err != nil {
				return g, errMalformed
			}
		}
	}
	if r.bad || !g.IsValid() {
		return g, errMalformed
	}
	return g, nil
}

// fields reads numbers whose first byte says, by its trailing ones, how many
// bytes follow.
type fields struct {
	rest []byte
	bad  bool
}

func (r *fields) number() uint64 {
	if len(r.rest) == 0 {
		r.bad = true
		return 0
	}
	more := 0
	for more < 8 && r.rest[0]&(1<<more) != 0 {
		more++
	}
	if len(r.rest) < 1+more {
		r.bad = true
		return 0
	}
	var all [16]byte
	copy(all[:], r.rest[:1+more])
	r.rest = r.rest[1+more:]
	if more == 8 {
		return binary.LittleEndian.Uint64(all[1:])
	}
	return binary.LittleEndian.Uint64(all[:]) >> (more + 1)
}

func (r *fields) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// Prefix is what the names of all marks begin with.
const Prefix = "perdure_"

// markMost is longer than the name of a savepoint can be, in bytes.
const markMost = 256

// parseMark gives the mark that a statement sets, "" if it sets none. The name
// is quoted as the sql_mode of its session wants it, or not at all.
func parseMark(body []byte) (mark string, err error) {
	const fixed = 4 + 4 + 1 + 2 + 2
	if len(body) < fixed {
		return "", errMalformed
	}
	at := fixed + int(binary.LittleEndian.Uint16(body[11:])) + int(body[8]) + 1
	if at > len(body) {
		return "", errMalformed
	}
	name, ok := bytes.CutPrefix(body[at:], []byte("SAVEPOINT "))
	if !ok || len(name) == 0 || len(name) > markMost {
		return "", nil
	}
	if q := name[0]; q == '`' || q == '"' {
		if name = name[1:]; len(name) == 0 || name[len(name)-1] != q {
			return "", nil
		}
		name = name[:len(name)-1]
	}
	if !bytes.HasPrefix(name, []byte(Prefix)) {
		return "", nil
	}
	return string(name), nil
}

// position is a place in a server's binary logs; without a file it is none.
type position struct {
	file   string
	offset uint64
}

// parseRotate reads where the events that follow lie.
func parseRotate(body []byte) (at position, err error) {
	if len(body) < 9 || len(body) > 8+fileMost {
		return at, errMalformed
	}
	return position{file: string(body[8:]), offset: binary.LittleEndian.Uint64(body)}, nil
}

// fileMost is how long the name of a file can be.
const fileMost = 512
