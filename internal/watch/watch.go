// Package watch asks every server of a cluster how it is, each at its own
// pace, and makes Views of the answers.
//
// Every server has a goroutine and connections of its own: one that hangs
// delays nobody. A judge looks at what is known at least every JudgePause and
// at once when an answer changed; it publishes a View each time, and tells
// listeners when the judgement changed.
package watch

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/topology"
)

// The pace. A probe every 400 ms leaves room for one that is late before the
// promised 500 ms, and for two before a member is suspect after a second.
const (
	ProbePause = 400 * time.Millisecond
	ProbeLimit = 900 * time.Millisecond
	JudgePause = 100 * time.Millisecond
	StatsPause = time.Second
	statsLimit = 10 * time.Second
)

// Open makes the connection to one server. The watcher closes it.
type Open func(topology.Instance) (*mysql.Server, error)

// Watcher builds Views. Make one with New.
type Watcher struct {
	open Open
	log  *slog.Logger

	view    atomic.Pointer[topology.View]
	changed chan struct{} // one token: something new to judge

	judging sync.Mutex // one judgement at a time: each builds on the one before
	away    absences   // of this process; belongs to who judges

	mu      sync.Mutex
	want    topology.Expect
	targets []topology.Instance
	probes  map[topology.Instance]*probe
	retune  chan struct{} // one token: targets changed
	waiters map[chan struct{}]struct{}
}

// New returns a Watcher that knows no servers yet.
func New(open Open, log *slog.Logger) *Watcher {
	w := &Watcher{
		open: open, log: log,
		changed: make(chan struct{}, 1), retune: make(chan struct{}, 1),
		probes: map[topology.Instance]*probe{}, waiters: map[chan struct{}]struct{}{},
	}
	w.view.Store(&topology.View{Quorum: topology.NoGroup})
	return w
}

// Watch says which servers to ask from now on and what is expected of them.
// Servers that stay keep their connection and history.
func (w *Watcher) Watch(want topology.Expect, servers []topology.Instance) {
	w.mu.Lock()
	same := slices.Equal(w.targets, servers) && w.want == want
	w.want, w.targets = want, slices.Clone(servers)
	w.mu.Unlock()
	if !same {
		signal(w.retune)
	}
}

// View returns the newest View. It is never nil and must not be changed.
func (w *Watcher) View() *topology.View { return w.view.Load() }

// Doubt asks for a look at one server at once: somebody just lost a connection
// to it. It returns without waiting for the answer.
func (w *Watcher) Doubt(member string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for in, p := range w.probes {
		if in.Name == member {
			signal(p.now)
		}
	}
}

// Changes returns a channel that has a token whenever the judgement may have
// changed since the last receive, and a function that ends the subscription.
func (w *Watcher) Changes() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	ch <- struct{}{}
	w.mu.Lock()
	w.waiters[ch] = struct{}{}
	w.mu.Unlock()
	return ch, func() {
		w.mu.Lock()
		delete(w.waiters, ch)
		w.mu.Unlock()
	}
}

// Until waits until a View satisfies ok and returns it. Every new answer of a
// server is looked at, not only changes of judgement.
func (w *Watcher) Until(ctx context.Context, ok func(*topology.View) bool) (*topology.View, error) {
	tick := time.NewTicker(JudgePause)
	defer tick.Stop()
	for {
		v := w.View()
		if ok(v) {
			return v, nil
		}
		select {
		case <-ctx.Done():
			return v, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// Look asks the named servers, or all if there are no names, once more and
// returns a View that rests on those answers. A server that does not answer in
// its time is in the View as it is then. It is an error if ctx ends or a
// server is not watched.
func (w *Watcher) Look(ctx context.Context, names ...string) (*topology.View, error) {
	since := time.Now()
	for _, n := range names {
		w.Doubt(n)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if w.askedSince(since, names) {
			w.judge(time.Now())
			return w.View(), nil
		}
		select {
		case <-ctx.Done():
			return w.View(), context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// askedSince tells whether every named server was asked, and answered or not,
// after that moment.
func (w *Watcher) askedSince(since time.Time, names []string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := 0
	for _, in := range w.targets {
		if len(names) > 0 && !slices.Contains(names, in.Name) {
			continue
		}
		p := w.probes[in]
		if p == nil || !p.observation().Asked.After(since) {
			return false
		}
		known++
	}
	return known >= len(names)
}

// Run asks and judges until ctx ends. It owns no goroutine after it returns.
func (w *Watcher) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	stop := map[topology.Instance]context.CancelFunc{}
	defer func() {
		for _, s := range stop {
			s()
		}
	}()
	tick := time.NewTicker(JudgePause)
	defer tick.Stop()
	for {
		w.tune(ctx, &all, stop)
		w.judge(time.Now())
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		case <-w.changed:
		case <-w.retune:
		}
	}
}

// tune starts probes for new servers and stops those of servers that left.
func (w *Watcher) tune(ctx context.Context, all *sync.WaitGroup, stop map[topology.Instance]context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, in := range w.targets {
		if w.probes[in] != nil {
			continue
		}
		p := newProbe(in, w.open, w.changed, w.log.With("member", in.Name))
		w.probes[in] = p
		pctx, cancel := context.WithCancel(ctx)
		stop[in] = cancel
		all.Go(func() { p.run(pctx) })
	}
	if len(w.probes) == len(w.targets) {
		return // which is nearly always so, and asked at every judgement
	}
	for in := range maps.Clone(w.probes) {
		if !slices.Contains(w.targets, in) {
			stop[in]()
			delete(stop, in)
			delete(w.probes, in)
		}
	}
}

// judge makes the next View from what is known now.
func (w *Watcher) judge(now time.Time) {
	w.judging.Lock()
	defer w.judging.Unlock()
	w.mu.Lock()
	want := w.want
	obs := make([]topology.Observation, 0, len(w.targets))
	for _, in := range w.targets {
		if p := w.probes[in]; p != nil {
			obs = append(obs, p.observation())
		}
	}
	w.mu.Unlock()
	w.away.excuse(now, obs)
	before := w.view.Load()
	v := topology.Judge(*before, now, want, obs)
	w.view.Store(&v)
	if v.Number == before.Number {
		return
	}
	w.tell(before, &v)
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.waiters {
		signal(ch)
	}
}

// tell writes the morning's story: who changed, and why.
func (w *Watcher) tell(before, v *topology.View) {
	if before.Quorum != v.Quorum {
		w.log.Info("quorum changed", "view", v.Number, "was", before.Quorum, "is", v.Quorum)
	}
	for _, m := range v.Members {
		old, _ := before.Member(m.Name)
		if old.State != m.State {
			w.log.Info("member changed", "view", v.Number, "member", m.Name, "was", old.State, "is", m.State, "why", m.Why)
		}
	}
	known := map[string]bool{}
	for _, p := range before.Problems {
		known[p.Text] = true
	}
	for _, p := range v.Problems {
		if !known[p.Text] {
			w.log.Warn("problem", "view", v.Number, "kind", p.Kind, "text", p.Text)
		}
	}
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
