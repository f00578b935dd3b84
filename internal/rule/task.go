package rule

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/state"
)

// Target is where tasks go: a channel, a hook.
type Target interface {
	// Attempt brings the event there once. Every attempt of a task has the same
	// id; attempt counts from 1. The receipt is what the other side said.
	//
	// An error with a method Final() string ends the task in that state ("dead",
	// "skipped"); after every other one the task is tried again later.
	Attempt(ctx context.Context, id string, attempt int, e event.Event) (receipt string, err error)
}

// Policy says how a target is treated.
type Policy struct {
	Timeout  time.Duration // of one attempt; default 30 s
	Attempts int           // then it is a dead letter; 0: only GiveUp counts
	GiveUp   time.Duration // so old, it is a dead letter; default 24 h
	First    time.Duration // pause after the first failure, doubled each time; default 1 s
	Longest  time.Duration // longest pause; default 30 s
}

func (p Policy) withDefaults() Policy {
	p.Timeout = cmp.Or(p.Timeout, 30*time.Second)
	p.GiveUp = cmp.Or(p.GiveUp, 24*time.Hour)
	p.First = cmp.Or(p.First, time.Second)
	p.Longest = cmp.Or(p.Longest, 30*time.Second)
	return p
}

// pause is how long to wait after so many failures in a row. chance is in [0,1).
func (p Policy) pause(failures int, chance float64) time.Duration {
	d := p.First
	for i := 1; i < failures && d < p.Longest; i++ {
		d *= 2
	}
	d = min(d, p.Longest)
	// A fifth up or down, so that many nodes and tasks do not come at once.
	return time.Duration(float64(d) * (0.8 + 0.4*chance))
}

func (p Policy) pauseNow(failures int) time.Duration { return p.pause(failures, rand.Float64()) } //nolint:gosec // jitter

// State of a task.
type State string

// States of a task.
const (
	Waiting State = "waiting"
	Done    State = "done"
	Skipped State = "skipped"
	Dead    State = "dead"
)

// Task is one event on its way to one target.
type Task struct {
	ID       string      `json:"id"` // the idempotency key
	Target   string      `json:"target"`
	Rule     string      `json:"rule"`
	Event    event.Event `json:"event"`
	Order    uint64      `json:"order"` // tasks of one target and subject go out in this order
	State    State       `json:"state"`
	Created  time.Time   `json:"created"`
	Next     time.Time   `json:"next,omitzero"`
	Ended    time.Time   `json:"ended,omitzero"`
	Attempts int         `json:"attempts"`
	Receipt  string      `json:"receipt,omitempty"`
	Log      []Attempt   `json:"log,omitempty"` // the newest ten
}

// Attempt is one try. One without an end was cut off with its node: whether it
// reached the target is not known.
type Attempt struct {
	Number  int       `json:"number"`
	Node    string    `json:"node"`
	Begin   time.Time `json:"begin"`
	End     time.Time `json:"end,omitzero"`
	Error   string    `json:"error,omitempty"`
	Receipt string    `json:"receipt,omitempty"`
}

const (
	maxLog     = 10
	maxShort   = 4<<10 + 64  // of each attempt: what hooks keep by default, and how much more there was
	maxReceipt = 64<<10 + 64 // of the newest: the most that a hook may keep
)

// begin notes that an attempt begins. It is written down before it does.
func (t *Task) begin(node string, now time.Time) {
	t.Attempts++
	t.Log = append(slices.Clone(t.Log), Attempt{Number: t.Attempts, Node: node, Begin: now.UTC()})
	t.Log = slices.Delete(t.Log, 0, max(0, len(t.Log)-maxLog))
}

// end notes how the attempt ended, and what becomes of the task.
func (t *Task) end(p Policy, receipt string, err error, now time.Time) {
	t.Log = slices.Clone(t.Log)
	a := &t.Log[len(t.Log)-1]
	a.End, a.Receipt = now.UTC(), short(receipt)
	t.Receipt = cut(receipt, maxReceipt)
	if err == nil {
		t.State, t.Ended, t.Next = Done, now.UTC(), time.Time{}
		return
	}
	a.Error = short(err.Error())
	var final interface{ Final() string }
	switch {
	case errors.As(err, &final):
		t.State = State(final.Final())
	case p.Attempts > 0 && t.Attempts >= p.Attempts, now.Sub(t.Created) >= p.GiveUp:
		t.State = Dead
	default:
		t.Next = now.Add(p.pauseNow(t.Attempts)).UTC()
		return
	}
	t.Ended, t.Next, t.Receipt = now.UTC(), time.Time{}, cmp.Or(t.Receipt, a.Error)
}

func short(s string) string { return cut(s, maxShort) }

func cut(s string, limit int) string {
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "… (cut)"
	}
	return s
}

// held is a task with the revision of its document.
type held struct {
	Task
	rev  state.Revision
	busy bool // an attempt is under way
}
