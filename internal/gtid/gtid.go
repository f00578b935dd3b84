package gtid

import (
	"cmp"
	"strconv"
)

// MaxNumber is the highest number a transaction can have. The server keeps
// 2^63-1 for itself as the first number that is too high.
const MaxNumber = 1<<63 - 2

// GTID names one transaction. The zero GTID names none.
type GTID struct {
	Source Source
	Number uint64 // 1 to MaxNumber
}

// ParseGTID reads "uuid:number" or "uuid:tag:number".
func ParseGTID(text string) (GTID, error) {
	r := reader{what: "GTID", text: text}
	r.space()
	id, err := r.uuid()
	if err != nil {
		return GTID{}, err
	}
	g := GTID{Source: Source{UUID: id}}
	if err := r.colon(); err != nil {
		return GTID{}, err
	}
	if isTagStart(r.peek()) {
		if g.Source.Tag, err = r.tag(Tag{}); err != nil {
			return GTID{}, err
		}
		if err := r.colon(); err != nil {
			return GTID{}, err
		}
	}
	if g.Number, err = r.number(1); err != nil {
		return GTID{}, err
	}
	r.space()
	if !r.done() {
		return GTID{}, r.wanted("the end")
	}
	return g, nil
}

// String gives the server's form, ready for gtid_next.
func (g GTID) String() string { return string(g.append(make([]byte, 0, 64))) }

// Compare orders GTIDs by source and number.
func (g GTID) Compare(other GTID) int {
	return cmp.Or(g.Source.Compare(other.Source), cmp.Compare(g.Number, other.Number))
}

// IsValid says whether the number is one a transaction can have.
func (g GTID) IsValid() bool { return g.Number >= 1 && g.Number <= MaxNumber }

// MarshalText gives the same text as String.
func (g GTID) MarshalText() ([]byte, error) { return g.append(nil), nil }

// UnmarshalText reads what ParseGTID reads.
func (g *GTID) UnmarshalText(text []byte) error {
	parsed, err := ParseGTID(string(text))
	if err != nil {
		return err
	}
	*g = parsed
	return nil
}

func (g GTID) append(b []byte) []byte {
	return strconv.AppendUint(append(g.Source.append(b), ':'), g.Number, 10)
}
