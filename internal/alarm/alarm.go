package alarm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/state"
)

// Needs is what alarms are made of.
type Needs struct {
	Config  Config
	Node    string
	Cluster string
	Store   state.Store
	// Hold waits until this node may act; the context ends with the right to.
	Hold    func(context.Context) (context.Context, state.Fence, error)
	Facts   func(context.Context) Facts
	Metrics prometheus.Gatherer
	To      event.Publisher
	// Settle, if set, waits until what was published is stored.
	Settle func(context.Context) error
	Log    *slog.Logger
}

// Alarms evaluates the rules of a cluster, on the node that leads.
type Alarms struct {
	Needs
	rules   []*compiled
	doc     state.Doc[book]
	samples samples

	evaluated atomic.Pointer[time.Time] // when this node did so last
	firing    atomic.Pointer[[]Status]  // as this node knows it, for its metrics
}

// New compiles the rules. It does nothing before Run.
func New(n Needs) (*Alarms, error) {
	if err := n.Config.Check(); err != nil {
		return nil, fmt.Errorf("alarms: %w", err)
	}
	a := &Alarms{Needs: n, doc: state.NewDoc[book](n.Store, bookKey), samples: samples{names: map[string]bool{}}}
	for _, r := range n.Config.rules() {
		c, err := compile(r)
		if err != nil {
			return nil, fmt.Errorf("alarm %s: %w", r.Name, err)
		}
		a.rules = append(a.rules, c)
		maps.Copy(a.samples.names, c.metrics)
	}
	return a, nil
}

// Run evaluates until ctx ends, while this node leads.
func (a *Alarms) Run(ctx context.Context) error {
	for {
		held, fence, err := a.Hold(ctx)
		if err != nil {
			return err
		}
		err = a.lead(held, fence)
		a.evaluated.Store(nil)
		a.firing.Store(nil)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		a.Log.Debug("this node evaluates no alarms any longer", "err", err)
		select { // an unreachable store must not make this spin
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// pendingPause is how often a countdown that began or ended is written down.
// What is lost of it by a crash makes an alarm late by no more than that.
const pendingPause = 5 * time.Second

func (a *Alarms) lead(ctx context.Context, fence state.Fence) error {
	b, rev, err := a.doc.Get(ctx)
	if err != nil {
		return err
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	others := make(chan struct{}, 1)
	watching.Go(func() {
		for range a.doc.Watch(ctx) {
			select {
			case others <- struct{}{}:
			default:
			}
		}
	})
	tick := time.NewTicker(a.Config.Every.Or(defaultEvery))
	defer tick.Stop()
	var written time.Time
	pending := false
	for {
		now := time.Now()
		a.samples.take(a.Metrics, now)
		e := newEnv(a.Facts(ctx), &a.samples, now)
		told, moved := b.evaluate(a.rules, &e, a.Cluster, a.Node, now)
		pending = pending || moved
		if told || (pending && now.Sub(written) >= pendingPause) {
			if rev, err = a.write(ctx, &b, rev, fence); err != nil {
				return err
			}
			written, pending = now, false
		}
		a.publish(&b, now)
		if len(b.Outbox) > 0 && a.offer(ctx, b.Outbox) {
			b.Outbox = nil
			if rev, err = a.write(ctx, &b, rev, fence); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-others: // our own write, mostly
			theirs, now, err := a.doc.Get(ctx)
			if err != nil {
				return err
			}
			if now != rev {
				b.heed(theirs)
				rev = now
			}
		case <-tick.C:
		}
	}
}

// write stores the book. If somebody acknowledged an alarm meanwhile, his word
// is taken over.
func (a *Alarms) write(ctx context.Context, b *book, rev state.Revision, fence state.Fence) (state.Revision, error) {
	for {
		next, err := a.doc.Put(ctx, *b, rev, fence)
		if !errors.Is(err, state.ErrConflict) {
			return next, err
		}
		theirs, now, err := a.doc.Get(ctx)
		if err != nil {
			return rev, err
		}
		rev = now
		b.heed(theirs)
	}
}

// offer publishes and tells whether all of it is stored.
func (a *Alarms) offer(ctx context.Context, outbox []event.Event) bool {
	for _, e := range outbox {
		a.To.Publish(e)
	}
	if a.Settle == nil {
		return true
	}
	limited, cancel := context.WithTimeoutCause(ctx, 2*time.Second, errors.New("the events are not stored yet"))
	defer cancel()
	return a.Settle(limited) == nil
}

func (a *Alarms) publish(b *book, now time.Time) {
	var on []Status
	for _, st := range b.Status {
		if st.State != OK {
			on = append(on, st)
		}
	}
	a.evaluated.Store(&now)
	a.firing.Store(&on)
}

// List returns where all alarms stand that are or were on, the worst first,
// and, with OK ones, also those that never were. Any node may ask.
func (a *Alarms) List(ctx context.Context) ([]Status, error) {
	b, _, err := a.doc.Get(ctx)
	if err != nil {
		return nil, err
	}
	out := slices.Collect(maps.Values(b.Status))
	for _, r := range a.rules {
		seen := slices.ContainsFunc(out, func(s Status) bool { return s.Rule == r.Name })
		if !seen {
			out = append(out, Status{Rule: r.Name, State: OK, Severity: r.Severity, Labels: r.Labels})
		}
	}
	slices.SortFunc(out, func(x, y Status) int {
		return cmp.Or(
			cmp.Compare(rank(x.State), rank(y.State)),
			-cmp.Compare(slices.Index(event.Severities, x.Severity), slices.Index(event.Severities, y.Severity)),
			strings.Compare(x.Rule, y.Rule), strings.Compare(x.Member, y.Member),
		)
	})
	return out, nil
}

func rank(s State) int { return slices.Index([]State{Alarm, NoData, OK}, s) }

// History returns the newest changes, the newest first.
func (a *Alarms) History(ctx context.Context, limit int) ([]Entry, error) {
	b, _, err := a.doc.Get(ctx)
	if err != nil {
		return nil, err
	}
	slices.Reverse(b.History)
	return b.History[:min(limit, len(b.History))], nil
}

// Rules returns the rules in force, built-in ones included.
func (a *Alarms) Rules() []Rule {
	var out []Rule
	for _, r := range a.rules {
		out = append(out, r.Rule)
	}
	return out
}

// ErrNotOn is returned for an alarm that is not on.
var ErrNotOn = errors.New("that alarm is not on")

// Acknowledge notes who takes care of an alarm: it reminds nobody any more.
// Without a member it means every alarm of that rule that is on.
func (a *Alarms) Acknowledge(ctx context.Context, rule, member, who, note string) error {
	_, err := a.doc.Change(ctx, state.Fence{}, func(b *book) error {
		found := false
		for k, st := range b.Status {
			if st.Rule != rule || (member != "" && st.Member != member) || st.State == OK {
				continue
			}
			found = true
			st.Acked = &Ack{Who: who, Note: note, At: time.Now().UTC()}
			b.Status[k] = st
			e := event.New(event.AlarmAcked, "alarm/"+k, strings.TrimSpace(fmt.Sprintf("%s takes care of %s %s", who, rule, st.Member)))
			e.Cluster, e.Node, e.Member, e.Labels, e.Severity = a.Cluster, a.Node, st.Member, st.Labels, st.Severity
			b.Outbox = append(b.Outbox, e.With("alarm", rule).With("who", who).With("note", note))
		}
		if !found {
			return fmt.Errorf("%s: %w", key(rule, member), ErrNotOn)
		}
		return nil
	})
	return err
}

// Tried is what a rule says now.
type Tried struct {
	Member string `json:"member,omitempty"`
	Now    string `json:"now"` // true, false, missing, or unsure: it cannot be told yet
	Text   string `json:"text,omitempty"`
}

// Try evaluates a rule once on what this node sees now, and changes nothing.
// Rates need a node that leads: another has not watched the counters.
func (a *Alarms) Try(ctx context.Context, r Rule) ([]Tried, error) {
	c, err := compile(r)
	if err != nil {
		return nil, err
	}
	s := samples{names: c.metrics}
	now := time.Now()
	s.take(a.Metrics, now)
	e := newEnv(a.Facts(ctx), &s, now)
	var out []Tried
	for _, one := range c.instances(&e, e.stale() == "") {
		saw, why := c.look(&one)
		t := Tried{Member: one.Member.Name, Now: map[verdict]string{no: "false", yes: "true", missing: "missing", unsure: "unsure"}[saw.when], Text: why}
		if saw.when == yes {
			t.Text = c.say(&one)
		}
		out = append(out, t)
	}
	return out, nil
}
