package gtid

import (
	"cmp"
	"strings"
)

// maxTag is the length the server allows a tag.
const maxTag = 32

// Tag is a name that MySQL 8.3 and later can put between a UUID and a number.
// It is always in the server's normal form; the zero Tag means untagged.
type Tag struct{ name string }

// ParseTag reads a tag: a letter or underscore, followed by up to 31 letters,
// digits and underscores. Capitals become small, as on the server. Empty text
// is the zero Tag.
func ParseTag(text string) (Tag, error) {
	r := reader{what: "GTID tag", text: text}
	if r.done() {
		return Tag{}, nil
	}
	if !isTagStart(r.peek()) {
		return Tag{}, r.wanted("a letter or underscore")
	}
	tag, err := r.tag(Tag{})
	if err != nil {
		return Tag{}, err
	}
	if !r.done() {
		return Tag{}, r.wanted("a letter, digit or underscore")
	}
	return tag, nil
}

// String gives the name, "" if untagged.
func (t Tag) String() string { return t.name }

// IsZero says whether this means untagged.
func (t Tag) IsZero() bool { return t.name == "" }

// Source is what numbers transactions: every Source counts from 1 by itself.
type Source struct {
	UUID UUID
	Tag  Tag
}

// String gives "uuid" or "uuid:tag".
func (s Source) String() string { return string(s.append(make([]byte, 0, 36+1+len(s.Tag.name)))) }

// Compare orders sources as the server prints them: by UUID, untagged first.
func (s Source) Compare(other Source) int {
	return cmp.Or(s.UUID.Compare(other.UUID), strings.Compare(s.Tag.name, other.Tag.name))
}

func (s Source) append(b []byte) []byte {
	b = s.UUID.append(b)
	if s.Tag.IsZero() {
		return b
	}
	return append(append(b, ':'), s.Tag.name...)
}
