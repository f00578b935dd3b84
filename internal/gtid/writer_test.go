package gtid_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/gtid"
)

// dialect says what a server cannot read.
type dialect struct {
	before83 bool // no tags
	before97 bool // one form of UUID only, octal numbers, lenient
}

func dialectOf(t *testing.T, version string) dialect {
	t.Helper()
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		t.Fatalf("version %q: %v", version, err)
	}
	before := func(x, y int) bool { return major < x || major == x && minor < y }
	return dialect{before83: before(8, 3), before97: before(9, 7)}
}

// writer makes random text for a server. Few sources and low numbers, so that
// sets touch, overlap and lie within each other all the time.
type writer struct {
	*rand.Rand
	dialect dialect
	uuids   []gtid.UUID
}

func (w *writer) gtid() gtid.GTID {
	g := gtid.GTID{Number: 1 + w.Uint64N(40)}
	g.Source.UUID = w.uuids[w.IntN(len(w.uuids))]
	if !w.dialect.before83 && w.IntN(2) == 0 {
		g.Source.Tag, _ = gtid.ParseTag(w.tag())
	}
	return g
}

// set writes a set in many ways, none of them wrong.
func (w *writer) set() string {
	var text strings.Builder
	for range w.IntN(6) {
		text.WriteString(w.item() + w.space() + ",")
	}
	return text.String() + w.item()
}

func (w *writer) item() string {
	if w.IntN(15) == 0 {
		return w.space()
	}
	text := w.space() + w.uuid() + w.space()
	for range w.IntN(8) {
		if !w.dialect.before83 && w.IntN(4) == 0 {
			text += ":" + w.space() + w.tag() + w.space()
			continue
		}
		text += ":" + w.space() + w.number() + w.space()
		if w.IntN(2) == 0 {
			text += "-" + w.space() + w.number() + w.space()
		}
	}
	return text
}

func (w *writer) uuid() string {
	text := w.uuids[w.IntN(len(w.uuids))].String()
	if w.IntN(4) == 0 {
		text = strings.ToUpper(text)
	}
	if w.dialect.before97 {
		return text
	}
	switch w.IntN(12) {
	case 0:
		return "{" + text + "}"
	case 1:
		return strings.ReplaceAll(text, "-", "")
	}
	return text
}

func (w *writer) tag() string {
	return w.one("a", "A", "b", "ab", "a_", "a1", "_", "_9", "Z", "zz", strings.Repeat("q", 32))
}

func (w *writer) number() string {
	switch w.IntN(40) {
	case 0:
		return "9223372036854775806"
	case 1:
		return "9223372036854775805"
	case 2:
		if !w.dialect.before97 {
			return fmt.Sprintf("%03d", 1+w.IntN(40))
		}
	}
	return fmt.Sprint(1 + w.IntN(40))
}

func (w *writer) space() string {
	if w.IntN(8) > 0 {
		return ""
	}
	return w.one(" ", "\n", "\t", "\r\n", "\v\f", "   ")
}

// garbled is a set with up to three mistakes that may be none. All is ASCII:
// MySQL 9.7.4 looks up other bytes of a tag outside of its table of letters,
// so that it may take them, and print them as something else. We refuse them.
func (w *writer) garbled() string {
	text := w.set()
	for range w.IntN(4) {
		at := w.IntN(len(text) + 1)
		end := min(len(text), at+w.IntN(3))
		text = text[:at] + w.one(
			"", "", ":", ":", "-", ",", " ", "\n", "0", ":0", "1", "07", "9", "a", "g", "_", "T1", "+", "*",
			".", ";", "'", "\\", "\x00", "\x7f", "{", "}", "5-3", "-0", ":1-2-3", "0x1f", "1e3",
			":9223372036854775806", "9223372036854775807", "18446744073709551615", "18446744073709551616",
			":tag", ":t g", ":"+strings.Repeat("x", 33), w.uuid(), w.item(),
		) + text[end:]
	}
	return text
}

func (w *writer) one(of ...string) string { return of[w.IntN(len(of))] }
