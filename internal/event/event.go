package event

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"strings"
	"time"
)

// Event is one thing that happened. It is not changed after it was published.
type Event struct {
	ID       string // the same ID is the same event
	Time     time.Time
	Kind     Kind
	Severity Severity
	Cluster  string
	Node     string // who noticed or did it
	Subject  string // to whom: "member/m1", "group", "plan/p-1", "alarm/lag/m1"
	Member   string // if it is about one member
	Text     string // one sentence for people
	Labels   map[string]string
	Facts    map[string]string // evidence and numbers, by kind
}

// New returns an event of that kind with a fresh ID, the kind's usual severity
// and the present time.
func New(kind Kind, subject, text string) Event {
	e := Event{ID: NewID(), Time: time.Now().UTC(), Kind: kind, Severity: kind.Severity(), Subject: subject, Text: text}
	e.Member, _, _ = strings.Cut(strings.TrimPrefix(subject, "member/"), "/")
	if !strings.HasPrefix(subject, "member/") {
		e.Member = ""
	}
	return e
}

// With returns the event with one more fact. Empty values are left out.
func (e Event) With(name, value string) Event {
	if value == "" {
		return e
	}
	facts := make(map[string]string, len(e.Facts)+1)
	maps.Copy(facts, e.Facts)
	facts[name] = value
	e.Facts = facts
	return e
}

// Publisher takes events. Publish returns at once, whatever state the store of
// events is in: it may be called from code that heals.
type Publisher interface {
	Publish(Event)
}

// Func makes a function a Publisher.
type Func func(Event)

// Publish implements Publisher.
func (f Func) Publish(e Event) { f(e) }

// Discard is a Publisher that keeps nothing.
var Discard Publisher = Func(func(Event) {})

// NewID returns an ID nobody has had. IDs sort by the time they were made at.
func NewID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(time.Now().UnixMilli())<<16)
	_, _ = rand.Read(b[6:]) // never fails: see crypto/rand
	return hex.EncodeToString(b[:])
}

// IDOf returns the ID for something that is known by these parts: who derives
// the same event again after a crash gives it the same ID.
func IDOf(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
