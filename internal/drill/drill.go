// Package drill makes faults on purpose and measures how the cluster gets over
// them: when it was noticed, when something was decided, when the group had
// acted, and when everything was normal again.
//
// A drill is refused where the cluster is not marked as drillable, is not whole
// to begin with, or would not survive the fault. While it runs a small client
// writes through the proxy and counts what it felt.
package drill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
	"github.com/perdure/perdure/internal/watch"
)

// Kind of fault.
type Kind string

// Faults a drill can make.
const (
	Kill       Kind = "kill"        // the server's process ends at once, and is started again
	Hang       Kind = "hang"        // the process stops answering, and goes on later
	Stall      Kind = "stall"       // it stops answering so shortly that nothing may come of it
	Stop       Kind = "stop"        // the server is shut down in good order, and started again
	Drain      Kind = "drain"       // its clients are taken away, and given back; no client may notice
	QuorumLoss Kind = "quorum-loss" // a majority is killed at once
	Outage     Kind = "outage"      // all are killed at once
)

// Kinds lists them.
var Kinds = []Kind{Kill, Hang, Stall, Stop, Drain, QuorumLoss, Outage}

// Faults makes faults in the servers of members. The playground has them.
type Faults interface {
	Kill(member string) error   // ends the process; its service manager starts it again
	Freeze(member string) error // stops it from running
	Thaw(member string) error
	Stop(ctx context.Context, member string) error // shuts it down; it stays down
	Start(ctx context.Context, member string) error
}

// Gate takes clients away from a member and gives them back.
type Gate interface {
	Drain(ctx context.Context, member string) error
	Undrain(ctx context.Context, member string) error
}

// Client writes one row and returns when it is acknowledged.
type Client interface {
	Write(ctx context.Context) error
}

// Report is what a drill found.
type Report struct {
	ID      string    `json:"id"`
	Kind    Kind      `json:"kind"`
	Members []string  `json:"members"` // who was hit
	At      time.Time `json:"at"`
	// Times since the fault, in milliseconds; -1 where it did not come to it.
	Detect int64 `json:"detect_ms"` // a View that is not healthy any more
	Notice int64 `json:"notice_ms"` // the group itself cannot reach those hit
	Decide int64 `json:"decide_ms"` // the first remedy
	Act    int64 `json:"act_ms"`    // the group does without those hit, or is back
	Normal int64 `json:"normal_ms"` // every member ONLINE and writable

	Writes    int64  `json:"writes"`           // acknowledged while it ran
	Failed    int64  `json:"failed"`           // not acknowledged
	Pause     int64  `json:"longest_pause_ms"` // between two acknowledged writes
	Error     string `json:"error,omitempty"`
	Recovered bool   `json:"recovered"`
}

// Config is what drills stand on.
type Config struct {
	Faults Faults // nil: the cluster is not drillable
	Gate   Gate   // nil: nothing can be drained
	Client Client // nil: nobody writes
	Watch  *watch.Watcher
	Store  state.Store
	Log    *slog.Logger
	// Decided returns when healing last decided on a remedy.
	Decided func() time.Time
	// To hears how each drill ended. Optional.
	To event.Publisher
}

// Drills makes drills, one at a time.
type Drills struct {
	Config
	mu sync.Mutex
}

// New returns Drills.
func New(c Config) *Drills { return &Drills{Config: c} }

const (
	prefix      = "drills/"
	normalLimit = 3 * time.Minute
	hangFor     = 15 * time.Second // longer than the group takes to give a member up
	stallFor    = 2 * time.Second  // less than it takes to suspect one
	stopFor     = 5 * time.Second  // a server that was shut down is down
	drainFor    = 3 * time.Second  // a member has no clients
	calmFor     = 8 * time.Second  // nothing must follow from a stall for so long
	writePause  = 10 * time.Millisecond
	settleFor   = time.Second // normal must last this long
)

// Run makes one drill and returns its report; the report is kept too. member
// may be empty: then the last in the list is hit.
func (d *Drills) Run(ctx context.Context, kind Kind, member string) (Report, error) {
	if !d.mu.TryLock() {
		return Report{}, plan.Refuse("wait for it", "another drill is running. Nothing was done.")
	}
	defer d.mu.Unlock()
	v := d.Watch.View()
	hit, err := d.allowed(v, kind, member)
	if err != nil {
		return Report{}, err
	}
	r := Report{Kind: kind, Members: hit, At: time.Now().UTC().Truncate(time.Millisecond), Detect: -1, Notice: -1, Decide: -1, Act: -1, Normal: -1}
	r.ID = fmt.Sprintf("%s-%s", kind, r.At.Format("20060102-150405"))
	d.Log.Info("drill begins", "drill", r.ID, "members", hit)
	d.play(ctx, &r)
	d.Log.Info("drill ended", "drill", r.ID, "detect_ms", r.Detect, "act_ms", r.Act, "normal_ms", r.Normal, "failed", r.Failed, "pause_ms", r.Pause)
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, err = state.NewDoc[Report](d.Store, prefix+r.ID).Put(after, r, 0, state.Fence{})
	d.tell(r)
	return r, err
}

// tell publishes how a drill ended.
func (d *Drills) tell(r Report) {
	if d.To == nil {
		return
	}
	kind, text := event.DrillDone, fmt.Sprintf("The drill %s of %s was got over.", r.Kind, strings.Join(r.Members, ", "))
	if !r.Recovered {
		kind, text = event.DrillFailed, fmt.Sprintf("The drill %s of %s was not got over: %s.", r.Kind, strings.Join(r.Members, ", "), r.Error)
	}
	e := event.New(kind, "drill/"+r.ID, text)
	for _, f := range []struct {
		what string
		n    int64
	}{
		{"detect_ms", r.Detect},
		{"notice_ms", r.Notice},
		{"decide_ms", r.Decide},
		{"act_ms", r.Act},
		{"normal_ms", r.Normal},
		{"writes", r.Writes},
		{"failed", r.Failed},
		{"longest_pause_ms", r.Pause},
	} {
		if f.n >= 0 {
			e = e.With(f.what, strconv.FormatInt(f.n, 10))
		}
	}
	d.To.Publish(e)
}

// allowed says whom a drill hits, or why it is refused.
func (d *Drills) allowed(v *topology.View, kind Kind, member string) ([]string, error) {
	var names []string
	for _, m := range v.Members {
		names = append(names, m.Name)
	}
	switch {
	case d.Faults == nil:
		return nil, plan.Refuse("try it in a playground: `perdure playground`", "this cluster is not marked as drillable. Nothing was done.")
	case !slices.Contains(Kinds, kind):
		return nil, plan.Refuse(fmt.Sprintf("there are %v", Kinds), "there is no drill %q. Nothing was done.", kind)
	case len(v.In(topology.Online)) != len(v.Members) || v.Quorum != topology.HasQuorum:
		return nil, plan.Refuse("`perdure status`", "the cluster is not whole to begin with. Nothing was done.")
	case kind == Drain && d.Gate == nil:
		return nil, plan.Refuse("give the node a proxy", "no client can be taken away from a member here. Nothing was done.")
	case member != "" && !slices.Contains(names, member):
		return nil, plan.Refuse(fmt.Sprintf("there are %v", names), "there is no member %s. Nothing was done.", member)
	}
	if member != "" { // the named one first to be hit
		names = append(slices.DeleteFunc(names, func(n string) bool { return n == member }), member)
	}
	n := 1
	switch kind {
	case QuorumLoss:
		n = len(names)/2 + 1
	case Outage:
		n = len(names)
	}
	least := 3
	switch kind {
	case Stop, Drain: // the group knows before
		least = 2
	case Stall, Outage:
		least = 1
	}
	if len(names) < least {
		return nil, plan.Refuse("add members", "a cluster of %d does not survive it. Nothing was done.", len(names))
	}
	return names[len(names)-n:], nil
}

// play makes the fault and watches until everything is normal again.
func (d *Drills) play(ctx context.Context, r *Report) {
	ctx, cancel := context.WithTimeoutCause(ctx, normalLimit, errors.New("not normal again after "+normalLimit.String()))
	defer cancel()
	feel := newFelt()
	var all sync.WaitGroup
	writing, stop := context.WithCancel(ctx)
	if d.Client != nil {
		all.Go(func() { feel.write(writing, d.Client) })
	}
	begin := time.Now()
	if err := d.strike(ctx, r, &all); err != nil {
		r.Error = err.Error()
	} else if err := d.follow(ctx, r, begin); err != nil {
		r.Error = err.Error()
	} else {
		r.Recovered = true
	}
	stop()
	all.Wait()
	r.Writes, r.Failed, r.Pause = feel.sum()
}

// strike makes the fault. What ends by itself later does so in a goroutine of
// all, also when ctx ends before.
func (d *Drills) strike(ctx context.Context, r *Report, all *sync.WaitGroup) error {
	for _, m := range r.Members {
		var err error
		switch r.Kind {
		case Hang, Stall:
			if err = d.Faults.Freeze(m); err == nil {
				all.Go(func() { d.later(ctx, frozenFor(r.Kind), m, "thawed", func() error { return d.Faults.Thaw(m) }) })
			}
		case Stop: // it takes a while, and is watched meanwhile
			all.Go(func() {
				if err := d.Faults.Stop(ctx, m); err != nil {
					d.Log.Error("a server could not be stopped", "member", m, "err", err)
				}
				d.later(ctx, stopFor, m, "started", func() error { return d.Faults.Start(context.WithoutCancel(ctx), m) })
			})
		case Drain: // see drain
		default:
			err = d.Faults.Kill(m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func frozenFor(k Kind) time.Duration {
	if k == Stall {
		return stallFor
	}
	return hangFor
}

// later takes a fault back after a while, or when ctx ends.
func (d *Drills) later(ctx context.Context, after time.Duration, member, what string, do func() error) {
	select {
	case <-ctx.Done():
	case <-time.After(after):
	}
	if err := do(); err != nil {
		d.Log.Error("a server could not be "+what, "member", member, "err", err)
	}
}

// drain takes the clients of a member away and gives them back. The group does
// not notice, so there is nothing to see in a View.
func (d *Drills) drain(ctx context.Context, r *Report, begin time.Time) error {
	m := r.Members[0]
	err := d.Gate.Drain(ctx, m)
	if err == nil {
		r.Act = time.Since(begin).Milliseconds()
		select {
		case <-ctx.Done():
		case <-time.After(drainFor):
		}
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err = errors.Join(err, d.Gate.Undrain(after, m)); err == nil {
		r.Normal = time.Since(begin).Milliseconds()
	}
	return err
}

// calm watches that nothing comes of a stall but that its member is silent for
// its time.
func (d *Drills) calm(ctx context.Context, r *Report, begin time.Time) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Since(begin) < stallFor+calmFor {
		v := d.Watch.View()
		m, _ := v.Member(r.Members[0])
		d.note(r, v, begin)
		switch {
		case m.State == topology.Offline, m.State == topology.Error, m.State == topology.Down, m.State == topology.Isolated, m.State == topology.Recovering:
			return fmt.Errorf("%s is %s after a stall of %s: %s", m.Name, m.State, stallFor, m.Why)
		case r.Decide >= 0:
			return fmt.Errorf("a remedy was decided on %d ms after a stall of %s began", r.Decide, stallFor)
		case !healthy(v):
			r.Normal = -1
		case r.Normal < 0 && time.Since(begin) > stallFor:
			r.Normal = time.Since(begin).Milliseconds()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	if r.Normal < 0 {
		return fmt.Errorf("not normal again %s after a stall of %s", calmFor, stallFor)
	}
	return nil
}

// note writes down when something was first seen.
func (d *Drills) note(r *Report, v *topology.View, begin time.Time) {
	since := time.Since(begin).Milliseconds()
	if r.Detect < 0 && !healthy(v) {
		r.Detect = since
	}
	if r.Notice < 0 && slices.ContainsFunc(r.Members, func(name string) bool { return unreachable(v, name) }) {
		r.Notice = since
	}
	if r.Decide < 0 && d.Decided != nil && d.Decided().After(begin) {
		r.Decide = d.Decided().Sub(begin).Milliseconds()
	}
}

// listed tells whether a member of the group counts on that server.
func listed(v *topology.View, uuid string) bool {
	return slices.ContainsFunc(v.In(topology.Online), func(o topology.Member) bool {
		return slices.ContainsFunc(o.Report.Peers, func(p topology.Peer) bool { return p.UUID == uuid })
	})
}

// unreachable tells whether a member of the group says that it cannot reach that
// one, whatever we see of it.
func unreachable(v *topology.View, name string) bool {
	m, _ := v.Member(name)
	for _, o := range v.In(topology.Online) {
		for _, p := range o.Report.Peers {
			if p.UUID == m.UUID && p.State == "UNREACHABLE" {
				return true
			}
		}
	}
	return false
}

// follow notes when the View shows what.
func (d *Drills) follow(ctx context.Context, r *Report, begin time.Time) error {
	since := func() int64 { return time.Since(begin).Milliseconds() }
	switch r.Kind {
	case Drain:
		return d.drain(ctx, r, begin)
	case Stall:
		return d.calm(ctx, r, begin)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var normal time.Time
	for {
		v := d.Watch.View()
		healthy := healthy(v)
		d.note(r, v, begin)
		if r.Detect >= 0 && r.Act < 0 && without(v, r.Members) {
			r.Act = since()
		}
		switch {
		case r.Detect < 0 || !healthy:
			normal = time.Time{}
		case normal.IsZero():
			normal = time.Now()
		case time.Since(normal) >= settleFor:
			r.Normal = normal.Sub(begin).Milliseconds()
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// healthy is how it was before and shall be again.
func healthy(v *topology.View) bool {
	if v.Quorum != topology.HasQuorum {
		return false
	}
	for _, m := range v.Members {
		if m.State != topology.Online || (!m.Writable && v.Mode == topology.MultiPrimary) {
			return false
		}
	}
	return true
}

// without tells whether the group commits and counts on none of those hit that
// are still away.
func without(v *topology.View, hit []string) bool {
	if v.Quorum != topology.HasQuorum {
		return false
	}
	for _, name := range hit {
		m, _ := v.Member(name)
		if in := m.State == topology.Online || m.State == topology.Recovering; !in && listed(v, m.UUID) {
			return false
		}
	}
	return slices.ContainsFunc(v.Members, func(m topology.Member) bool { return m.Writable })
}

// List returns the reports of former drills, newest first.
func (d *Drills) List(ctx context.Context) ([]Report, error) {
	entries, err := d.Store.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	out := []Report{}
	for _, e := range entries {
		r, _, err := state.NewDoc[Report](d.Store, e.Key).Get(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b Report) int { return b.At.Compare(a.At) })
	return out, nil
}
