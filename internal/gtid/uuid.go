package gtid

import (
	"bytes"
	"encoding/hex"
)

// UUID identifies who numbered a transaction: a server (server_uuid), a group
// (group_replication_group_name) or its view changes.
type UUID [16]byte

// ParseUUID reads a UUID in any of the forms the server takes: with hyphens,
// the same in braces, or 32 hexadecimal digits; upper or lower case.
func ParseUUID(text string) (UUID, error) {
	r := reader{what: "UUID", text: text}
	id, err := r.uuid()
	if err != nil {
		return UUID{}, err
	}
	if !r.done() {
		return UUID{}, r.wanted("the end")
	}
	return id, nil
}

// String gives the usual form: lower case, with hyphens.
func (u UUID) String() string { return string(u.append(make([]byte, 0, 36))) }

// Compare orders UUIDs as the server prints them.
func (u UUID) Compare(other UUID) int { return bytes.Compare(u[:], other[:]) }

// MarshalText gives the same text as String.
func (u UUID) MarshalText() ([]byte, error) { return u.append(nil), nil }

// UnmarshalText reads what ParseUUID reads.
func (u *UUID) UnmarshalText(text []byte) error {
	id, err := ParseUUID(string(text))
	if err != nil {
		return err
	}
	*u = id
	return nil
}

func (u UUID) append(b []byte) []byte {
	b = hex.AppendEncode(b, u[0:4])
	b = hex.AppendEncode(append(b, '-'), u[4:6])
	b = hex.AppendEncode(append(b, '-'), u[6:8])
	b = hex.AppendEncode(append(b, '-'), u[8:10])
	return hex.AppendEncode(append(b, '-'), u[10:16])
}
