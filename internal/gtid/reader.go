package gtid

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// SyntaxError says where text stopped being a GTID set, GTID, UUID or tag.
type SyntaxError struct {
	What   string // what was being read
	Offset int    // in bytes, from 0
	Want   string // what should have stood there
	Found  string // the first few bytes that stood there; "" at the end
}

func (e *SyntaxError) Error() string {
	found := "the end"
	if e.Found != "" {
		found = fmt.Sprintf("%q", e.Found)
	}
	return fmt.Sprintf("malformed %s at byte %d: want %s, found %s", e.What, e.Offset, e.Want, found)
}

// reader walks over text token by token. White space is skipped only where
// its callers say so.
type reader struct {
	what string
	text string
	at   int
}

func (r *reader) done() bool { return r.at == len(r.text) }

// peek gives the next byte, or 0 at the end. A NUL byte within the text is
// no part of any token, so the two need not be told apart.
func (r *reader) peek() byte {
	if r.done() {
		return 0
	}
	return r.text[r.at]
}

func (r *reader) wanted(want string) error {
	// Enough to recognise the place, little enough for a log line.
	const enough = 16
	found := r.text[r.at:]
	return &SyntaxError{
		What: r.what, Offset: r.at, Want: want,
		Found: strings.Clone(found[:min(len(found), enough)]),
	}
}

// space skips what the server takes for white space: the C locale's.
func (r *reader) space() {
	for !r.done() {
		switch r.text[r.at] {
		case ' ', '\t', '\n', '\v', '\f', '\r':
			r.at++
		default:
			return
		}
	}
}

// colon reads a colon and the white space on both sides.
func (r *reader) colon() error {
	r.space()
	if r.peek() != ':' {
		return r.wanted(`":"`)
	}
	r.at++
	r.space()
	return nil
}

func (r *reader) uuid() (UUID, error) {
	braces := r.peek() == '{'
	if braces {
		r.at++
	}
	var id UUID
	// Hyphens are all there or all missing; in braces they must be there.
	hyphens := braces
	for i := range id {
		switch i {
		case 4:
			hyphens = hyphens || r.peek() == '-'
			fallthrough
		case 6, 8, 10:
			if !hyphens {
				break
			}
			if r.peek() != '-' {
				return id, r.wanted(`"-" in the UUID`)
			}
			r.at++
		}
		if len(r.text)-r.at < 2 {
			return id, r.wanted("two hexadecimal digits of a UUID")
		}
		if _, err := hex.Decode(id[i:i+1], []byte(r.text[r.at:r.at+2])); err != nil {
			return id, r.wanted("two hexadecimal digits of a UUID")
		}
		r.at += 2
	}
	if braces {
		if r.peek() != '}' {
			return id, r.wanted(`"}" after the UUID`)
		}
		r.at++
	}
	return id, nil
}

// tag reads the tag that begins here; the caller has seen its first letter.
// If it is the same as last, last is returned and nothing allocated.
func (r *reader) tag(last Tag) (Tag, error) {
	start := r.at
	for !r.done() && isTagByte(r.text[r.at]) {
		if r.at-start == maxTag {
			r.at = start
			return Tag{}, r.wanted(fmt.Sprintf("a tag of at most %d characters", maxTag))
		}
		r.at++
	}
	name := r.text[start:r.at]
	if name == last.name {
		return last, nil
	}
	// Cloned, so that a small set does not keep a large text alive.
	return Tag{strings.Clone(strings.ToLower(name))}, nil
}

// number reads a decimal number between least and MaxNumber.
func (r *reader) number(least uint64) (uint64, error) {
	start := r.at
	var n uint64
	for !r.done() && isDigit(r.text[r.at]) {
		digit := uint64(r.text[r.at] - '0')
		// Asked before multiplying: ten times MaxNumber wraps round to
		// something that may look harmless again.
		if n > (MaxNumber-digit)/10 {
			r.at = start
			return 0, r.wanted(fmt.Sprintf("a number up to %d", uint64(MaxNumber)))
		}
		n = n*10 + digit
		r.at++
	}
	if r.at == start {
		return 0, r.wanted("a number")
	}
	if n < least {
		r.at = start
		return 0, r.wanted(fmt.Sprintf("a number from %d up", least))
	}
	return n, nil
}

func isDigit(c byte) bool    { return '0' <= c && c <= '9' }
func isTagStart(c byte) bool { return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' }
func isTagByte(c byte) bool  { return isTagStart(c) || isDigit(c) }
