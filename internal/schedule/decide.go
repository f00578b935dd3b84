package schedule

import "time"

const (
	// onTime is how late something may begin and still count as on time: a change
	// of the leading node takes seconds, an unlucky one most of a minute.
	onTime = time.Minute
	// longestBack bounds how far back missed times are looked for.
	longestBack = longestWithin
	// wrongClock is from when on a time dealt with in the future means that a
	// clock was wrong then. Clocks that are turned move by an hour or so, and
	// within that nothing may begin twice.
	wrongClock = 25 * time.Hour
)

// move is what to do about an entry now.
type move int

const (
	rest  move = iota // nothing is due
	begin             // it is time, or late and to be made up for
	forgo             // it was missed
)

// decision is what to do about an entry, and about which time.
type decision struct {
	do     move
	due    time.Time // dealt with by this; with rest, the next time
	missed int       // times before due that passed without anything
	late   time.Duration
}

// decide says what to do about an entry of which everything up to dealt was
// dealt with. It reads nothing but its arguments.
func decide(e Entry, t times, dealt, now time.Time) decision {
	if dealt.Sub(now) > wrongClock {
		dealt = now
	}
	if from := now.Add(-longestBack); dealt.Before(from) {
		dealt = from
	}
	d := decision{due: t.after(dealt)}
	if d.due.IsZero() || d.due.After(now) {
		return d
	}
	for next := t.after(d.due); !next.IsZero() && !next.After(now); next = t.after(d.due) {
		d.due = next
		d.missed++
	}
	d.late = now.Sub(d.due)
	switch {
	case d.late <= onTime, e.Missed == Later && d.late <= e.within():
		d.do = begin
	default:
		d.do = forgo
		d.missed++
	}
	return d
}
