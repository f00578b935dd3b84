package queue

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

// ID names one write for ever: a UUID of version 7, so that the ledger grows
// at its end and old rows go in ranges.
type ID [16]byte

// NewID makes the id of a write accepted at t.
func NewID(t time.Time) ID {
	var id ID
	_, _ = rand.Read(id[6:]) // never fails; the runtime stops the process if it would
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(t.UnixMilli()))
	copy(id[:6], ms[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

var errID = errors.New("not a UUID of version 7, such as 019a9d2e-7c40-7000-8000-0123456789ab")

// ParseID reads the usual form with four dashes. Only version 7 is taken: the
// time inside decides whether a late retry may still be told from a new write.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return id, errID
	}
	at := 0
	for _, part := range []string{s[:8], s[9:13], s[14:18], s[19:23], s[24:]} {
		n, err := hex.Decode(id[at:], []byte(part))
		if err != nil {
			return ID{}, errID
		}
		at += n
	}
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		return ID{}, errID
	}
	return id, nil
}

func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[:8], id[:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:], id[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// MarshalText writes the usual form.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseID.
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// Time is when the id was made, to the millisecond.
func (id ID) Time() time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:])))
}

// idBefore is the smallest id of a write made at t; the ledger is pruned up to it.
func idBefore(t time.Time) ID {
	var id ID
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(t.UnixMilli()))
	copy(id[:6], ms[2:])
	return id
}
