package schedule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/pause"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/state"
)

// Action begins something and returns at once: what it began, in a few words
// with its id. A *plan.RefusedError says that nothing was begun.
type Action func(ctx context.Context, entry string) (string, error)

// Needs is what a Scheduler stands on.
type Needs struct {
	Entries []Entry
	Actions map[string]Action // by what an entry does
	Node    string
	Store   state.Store
	// Hold waits until this node may act. Its context ends with the right to.
	Hold func(context.Context) (context.Context, state.Fence, error)
	To   event.Publisher
	Log  *slog.Logger
}

// Scheduler begins things at times. Make one with New.
type Scheduler struct {
	Needs
	times []times // as Entries
	doc   state.Doc[memory]
}

// memory is what is known of the entries, by name.
type memory map[string]past

// past is what became of an entry's times.
type past struct {
	Same   string    `json:"same"`            // see Entry.same
	Dealt  time.Time `json:"dealt"`           // everything up to here is dealt with
	Trying time.Time `json:"trying,omitzero"` // this time is being begun
	Due    time.Time `json:"due,omitzero"`    // the newest time that something became of
	At     time.Time `json:"at,omitzero"`     // when that was
	Result string    `json:"result,omitempty"`
	Text   string    `json:"text,omitempty"`
}

// Results.
const (
	Began   = "began"
	Missed  = "missed"
	Refused = "refused"
	Failed  = "failed"
	Unknown = "unknown" // the node ended while it began
)

// documentKey is where memory is kept.
const documentKey = "schedules"

// tryAgain is how soon something that was refused or failed is tried once more.
const tryAgain = time.Minute

// lookEvery is how often the wall clock is looked at: timers do not know that
// it was set, or that the machine slept.
const lookEvery = 15 * time.Second

// callLimit is how long an action may take to begin.
const callLimit = time.Minute

// New returns a Scheduler. The entries must have passed Check.
func New(n Needs) (*Scheduler, error) {
	s := &Scheduler{Needs: n, doc: state.NewDoc[memory](n.Store, documentKey)}
	for _, e := range n.Entries {
		zone, err := zoneOf(e.Zone)
		if err != nil {
			return nil, err
		}
		t, err := parse(e.At, zone)
		if err != nil {
			return nil, err
		}
		if n.Actions[e.Do] == nil {
			return nil, fmt.Errorf("schedule %s: nobody knows how to %s", e.Name, e.Do)
		}
		s.times = append(s.times, t)
	}
	return s, nil
}

// Run begins what is due, while this node may act, until ctx ends.
func (s *Scheduler) Run(ctx context.Context) error {
	if len(s.Entries) == 0 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	for {
		held, fence, err := s.Hold(ctx)
		if err != nil {
			return err
		}
		err = s.lead(held, fence)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.Log.Debug("schedules wait", "err", err)
		if held.Err() == nil { // the store, not the lease: soon again
			if err := pause.For(ctx, time.Second); err != nil {
				return err
			}
		}
	}
}

// lead deals with the entries until ctx ends or the store does not answer.
func (s *Scheduler) lead(ctx context.Context, fence state.Fence) error {
	if err := s.takeOver(ctx, fence); err != nil {
		return err
	}
	wait := map[string]time.Time{} // what was refused is not tried before
	for {
		next := time.Now().Add(lookEvery)
		for i, e := range s.Entries {
			now := time.Now()
			if now.Before(wait[e.Name]) {
				continue
			}
			later, at, err := s.deal(ctx, fence, e, s.times[i], now)
			if err != nil {
				return err
			}
			if later {
				wait[e.Name] = time.Now().Add(tryAgain)
			} else if !at.IsZero() && at.Before(next) {
				next = at
			}
		}
		if err := pause.For(ctx, max(time.Until(next), 10*time.Millisecond)); err != nil {
			return err
		}
	}
}

// takeOver begins to count for entries that are new or changed, and says what
// is not known of those that another node was beginning.
func (s *Scheduler) takeOver(ctx context.Context, fence state.Fence) error {
	var tell []event.Event
	_, err := s.doc.Change(ctx, fence, func(m *memory) error {
		now, kept := time.Now(), memory{}
		tell = nil
		for _, e := range s.Entries {
			p, known := (*m)[e.Name]
			if !known || p.Same != e.same() {
				p = past{Same: e.same(), Dealt: now}
			}
			if !p.Trying.IsZero() {
				text := fmt.Sprintf("the node that began %s of %s ended at that moment: nobody knows whether it was begun, and it is not begun again", e.Do, clock(p.Trying))
				tell = append(tell, s.event(event.ScheduleMissed, e, p.Trying, text))
				p = p.with(Unknown, p.Trying, text)
			}
			kept[e.Name] = p
		}
		*m = kept
		return nil
	})
	if err == nil {
		for _, e := range tell {
			s.To.Publish(e)
		}
	}
	return err
}

// deal does what is to be done about one entry now. later says that it shall be
// tried again; at is when it is due next. An error means that the store did not
// take what became of it.
func (s *Scheduler) deal(ctx context.Context, fence state.Fence, e Entry, t times, now time.Time) (later bool, at time.Time, err error) {
	m, _, err := s.doc.Get(ctx)
	if err != nil {
		return false, at, err
	}
	p := m[e.Name]
	d := decide(e, t, p.Dealt, now)
	switch d.do {
	case rest:
		return false, d.due, nil
	case forgo:
		text := fmt.Sprintf("%s of %s was missed: no node could act, it is %s late", e.Do, clock(d.due), d.late.Round(time.Second))
		if d.missed > 1 {
			text += fmt.Sprintf(", and %d times before it", d.missed-1)
		}
		return false, t.after(d.due), s.note(ctx, fence, e, p.with(Missed, d.due, text), event.ScheduleMissed)
	}
	trying := p
	trying.Trying = d.due
	if err := s.put(ctx, fence, e, trying); err != nil {
		return false, at, err
	}
	result, kind, text := s.begin(ctx, e, d)
	next := p.with(result, d.due, text)
	if result == Began || e.Missed != Later {
		return false, t.after(d.due), s.note(ctx, fence, e, next, kind)
	}
	// Whoever makes up for what he missed gets another chance.
	told := p.Due.Equal(d.due) && (p.Result == Refused || p.Result == Failed)
	if time.Since(d.due)+tryAgain > e.within() {
		if told {
			kind, next.Text = event.ScheduleMissed, "given up: "+text
		}
		return false, t.after(d.due), s.note(ctx, fence, e, next, kind)
	}
	next.Dealt = p.Dealt
	next.Text += "; it is tried again until " + clock(d.due.Add(e.within()))
	if told {
		return true, at, s.put(ctx, fence, e, next)
	}
	return true, at, s.note(ctx, fence, e, next, kind)
}

// begin begins what an entry does and says what became of it.
func (s *Scheduler) begin(ctx context.Context, e Entry, d decision) (result string, kind event.Kind, text string) {
	limited, cancel := context.WithTimeoutCause(ctx, callLimit, errors.New("it took longer than "+callLimit.String()))
	defer cancel()
	what, err := s.Actions[e.Do](limited, e.Name)
	refused, isRefusal := errors.AsType[*plan.RefusedError](err)
	switch {
	case isRefusal:
		return Refused, event.ScheduleRefused, fmt.Sprintf("%s of %s was refused: %s", e.Do, clock(d.due), refused.Found)
	case err != nil:
		return Failed, event.ScheduleFailed, fmt.Sprintf("%s of %s could not be begun: %v", e.Do, clock(d.due), err)
	}
	text = fmt.Sprintf("%s of %s began: %s", e.Do, clock(d.due), what)
	if d.late > onTime {
		text = fmt.Sprintf("%s of %s began %s late: %s", e.Do, clock(d.due), d.late.Round(time.Second), what)
	}
	return Began, event.ScheduleBegan, text
}

// with is the past once something became of the time due.
func (p past) with(result string, due time.Time, text string) past {
	p.Dealt, p.Trying, p.Due, p.At = due, time.Time{}, due, time.Now()
	p.Result, p.Text = result, text
	return p
}

func (s *Scheduler) put(ctx context.Context, fence state.Fence, e Entry, p past) error {
	_, err := s.doc.Change(ctx, fence, func(m *memory) error {
		if *m == nil {
			*m = memory{}
		}
		(*m)[e.Name] = p
		return nil
	})
	return err
}

// note keeps what became of an entry and tells it.
func (s *Scheduler) note(ctx context.Context, fence state.Fence, e Entry, p past, kind event.Kind) error {
	s.Log.Info("schedule", "schedule", e.Name, "result", p.Result, "text", p.Text)
	err := s.put(ctx, fence, e, p)
	s.To.Publish(s.event(kind, e, p.Due, p.Text))
	return err
}

// event has the same ID whoever tells it.
func (s *Scheduler) event(kind event.Kind, e Entry, due time.Time, text string) event.Event {
	x := event.New(kind, "schedule/"+e.Name, e.Name+": "+text)
	x.ID = event.IDOf("schedule", string(kind), e.Name, due.UTC().Format(time.RFC3339))
	return x.With("do", e.Do).With("due", due.Format(time.RFC3339))
}

// Status is an entry and what becomes of it.
type Status struct {
	Entry
	Next   time.Time
	Due    time.Time // the newest time that something became of
	Result string
	Text   string
}

// List says of every entry what became of it and when it is due next. It may be
// called on every node.
func (s *Scheduler) List(ctx context.Context) ([]Status, error) {
	m, _, err := s.doc.Get(ctx)
	if err != nil {
		return nil, err
	}
	out := []Status{}
	for i, e := range s.Entries {
		p := m[e.Name]
		if p.Same != e.same() {
			p = past{}
		}
		out = append(out, Status{Entry: e, Next: s.times[i].after(time.Now()), Due: p.Due, Result: p.Result, Text: p.Text})
	}
	return out, nil
}

// clock is how people write a time.
func clock(t time.Time) string { return t.Format("2006-01-02 15:04 MST") }
