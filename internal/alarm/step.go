package alarm

import (
	"time"

	"github.com/perdure/perdure/internal/event"
)

// State of an alarm.
type State string

// States of an alarm.
const (
	OK     State = "OK"
	Alarm  State = "ALARM"
	NoData State = "NO-DATA"
)

// Status is where one alarm stands.
type Status struct {
	Rule     string            `json:"rule"`
	Member   string            `json:"member,omitempty"`
	State    State             `json:"state"`
	Since    time.Time         `json:"since,omitzero"`
	Text     string            `json:"text,omitempty"` // as it was when the state began, or now
	Severity event.Severity    `json:"severity"`
	Labels   map[string]string `json:"labels,omitempty"`
	// Toward is the state it will have at Turning plus the rule's `for` or
	// `hold`, if nothing changes.
	Toward   State     `json:"toward,omitempty"`
	Turning  time.Time `json:"turning,omitzero"`
	Reminded time.Time `json:"reminded,omitzero"`
	Acked    *Ack      `json:"acked,omitempty"`
	Serial   uint64    `json:"serial"` // of its newest event
}

// Ack says who takes care of an alarm. It ends with the alarm.
type Ack struct {
	Who  string    `json:"who"`
	Note string    `json:"note,omitempty"`
	At   time.Time `json:"at"`
}

// news is what a step tells.
type news int

const (
	nothing news = iota
	changed
	reminder
)

// seen is what one evaluation says about one alarm.
type seen struct {
	when  verdict
	clear bool // the alarm's end is given, with the data for it there
}

// step moves an alarm on by one evaluation. It reads nothing but its arguments.
func step(old Status, r Rule, s seen, now time.Time) (Status, news) {
	st := old
	if st.State == "" {
		st.State, st.Since = OK, now
	}
	toward, wait := aim(st.State, r, s)
	switch {
	case toward == st.State:
		st.Toward, st.Turning = "", time.Time{}
	case st.Toward == "", (toward == OK) != (st.Toward == OK):
		st.Toward, st.Turning = toward, now
	default:
		// True now, missing a moment ago: it is not well for as long.
		st.Toward = toward
	}
	if st.Toward != "" && now.Sub(st.Turning) >= wait {
		st.State, st.Since = st.Toward, now
		st.Toward, st.Turning = "", time.Time{}
		st.Reminded = now
		if st.State == OK {
			st.Acked = nil
		}
		st.Serial++
		return st, changed
	}
	repeat := defaultRepeat
	if r.Repeat != nil {
		repeat = time.Duration(*r.Repeat)
	}
	if st.State != OK && st.Acked == nil && repeat > 0 && now.Sub(st.Reminded) >= repeat {
		st.Reminded = now
		st.Serial++
		return st, reminder
	}
	return st, nothing
}

// aim says to which state an evaluation points, and how long it must.
func aim(state State, r Rule, s seen) (State, time.Duration) {
	when := s.when
	if when == missing && r.Missing == MissingOK {
		when, s.clear = no, true
	}
	if when == missing && r.Missing == MissingKeep {
		when = unsure
	}
	switch {
	case when == unsure:
		return state, 0
	case when == yes:
		return Alarm, length(r.For)
	case when == missing:
		return NoData, length(r.For)
	case s.clear || state == OK:
		return OK, length(r.Hold)
	case state == NoData: // between the limits, and the data are back
		return OK, length(r.Hold)
	}
	return state, 0
}

func length(d *event.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return time.Duration(*d)
}
