package alarm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is what the alarms of a test look at.
type world struct {
	mu     sync.Mutex
	facts  Facts
	frozen bool // the View grows old
	events []event.Event
	reg    *prometheus.Registry
	queue  map[string]prometheus.Gauge // of the write queue
	store  *state.Memory
}

func newWorld() *world {
	w := &world{reg: prometheus.NewRegistry(), store: state.NewMemory()}
	w.store.SetTerm("lead", 1)
	w.members("ONLINE", "ONLINE", "ONLINE")
	return w
}

func (w *world) members(states ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := &topology.View{Cluster: "shop", Quorum: topology.HasQuorum, Mode: topology.MultiPrimary, At: time.Now()}
	for i, s := range states {
		v.Members = append(v.Members, topology.Member{
			Instance: topology.Instance{Name: fmt.Sprintf("m%d", i+1), Zone: "z"}, State: topology.State(s), Since: time.Now(),
			Writable: s == "ONLINE", Report: &topology.Report{}, Heard: time.Now(),
		})
	}
	w.facts.View = v
}

func (w *world) look(context.Context) Facts {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := *w.facts.View
	if !w.frozen {
		v.At = time.Now()
		for i := range v.Members {
			v.Members[i].Heard = v.At
		}
	}
	f := w.facts
	f.View = &v
	return f
}

func (w *world) edit(f func(*topology.View)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := *w.facts.View
	v.Members = append([]topology.Member(nil), v.Members...)
	f(&v)
	w.facts.View = &v
}

func (w *world) publish(e event.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// told returns what was told since the last call: "firing lag/m1".
func (w *world) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, e := range w.events {
		out = append(out, strings.TrimPrefix(string(e.Kind), "alarm.")+" "+strings.TrimPrefix(e.Subject, "alarm/"))
	}
	w.events = nil
	return strings.Join(out, ", ")
}

func (w *world) alarms(t *testing.T, cfg Config) *Alarms {
	t.Helper()
	a, err := New(Needs{
		Config: cfg, Node: "n1", Cluster: "shop", Store: w.store, Facts: w.look, Metrics: w.reg, To: event.Func(w.publish),
		Hold: func(ctx context.Context) (context.Context, state.Fence, error) {
			return ctx, state.Fence{Lease: "lead", Epoch: 1}, ctx.Err()
		},
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// run runs the alarms until stop is called.
func run(t *testing.T, a *Alarms) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() { cancel(); <-done }
}

func after(d time.Duration) { time.Sleep(d); synctest.Wait() }

// allGood exports what the built-in alarms ask for.
func (w *world) allGood() (free, certificate, waiting prometheus.Gauge) {
	gauge := func(name string, v float64) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name})
		g.Set(v)
		w.reg.MustRegister(g)
		return g
	}
	gauge("perdure_disk_free_bytes", 1e12)
	gauge("perdure_events_waiting", 0)
	w.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "perdure_queue_accepted_writes_total"}, func() float64 { return 1 }))
	gauge("perdure_queue_log_limit_bytes", 16e9)
	w.queue = map[string]prometheus.Gauge{}
	for _, name := range []string{"oldest_age_seconds", "held_back", "dead_letters", "log_bytes"} {
		w.queue[name] = gauge("perdure_queue_"+name, 0)
	}
	w.reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "perdure_events_dropped_total"}, func() float64 { return 0 }))
	conflicts := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "perdure_member_conflicts_total"}, []string{"member"})
	for _, m := range []string{"m1", "m2", "m3"} {
		conflicts.WithLabelValues(m)
	}
	w.reg.MustRegister(conflicts)
	return gauge("perdure_disk_free_ratio", 0.5), gauge("perdure_certificate_expires_seconds", 90*86400), gauge("perdure_events_waiting_seconds", 0)
}

// TestEveryBuiltInAlarmGoesOnAndOff provokes each of them.
func TestEveryBuiltInAlarmGoesOnAndOff(t *testing.T) {
	t.Parallel()
	member := func(f func(*topology.Member)) func(*world) {
		return func(w *world) { w.edit(func(v *topology.View) { f(&v.Members[0]) }) }
	}
	trouble := func(kind string) func(*world) {
		return func(w *world) {
			w.edit(func(v *topology.View) {
				v.Problems = []topology.Problem{{Kind: kind, Members: []string{"m1"}, Text: kind}}
			})
		}
	}
	quorum := func(q topology.Quorum) func(*world) {
		return func(w *world) { w.edit(func(v *topology.View) { v.Quorum = q }) }
	}
	whole := func(w *world) {
		w.members("ONLINE", "ONLINE", "ONLINE")
		w.mu.Lock()
		defer w.mu.Unlock()
		w.frozen = false
		w.facts.Paused, w.facts.Plan, w.facts.Drift = time.Time{}, time.Time{}, 0
	}
	facts := func(f func(*Facts)) func(*world) {
		return func(w *world) { w.mu.Lock(); defer w.mu.Unlock(); f(&w.facts) }
	}
	report := func(f func(*topology.Report)) func(*world) {
		return member(func(m *topology.Member) { r := *m.Report; f(&r); m.Report = &r })
	}
	var free, certificate, waiting prometheus.Gauge
	metric := func(g *prometheus.Gauge, v float64) func(*world) { return func(*world) { (*g).Set(v) } }
	queued := func(name string, v float64) func(*world) { return func(w *world) { w.queue[name].Set(v) } }
	for _, c := range []struct {
		alarm   string // rule[/member]
		provoke func(*world)
		repair  func(*world)
	}{
		{"member-away/m1", member(func(m *topology.Member) { m.State, m.Writable = topology.Suspect, false }), whole},
		{"member-catching-up/m1", member(func(m *topology.Member) { m.State, m.Since = topology.Recovering, m.Since.Add(-time.Hour) }), whole},
		{"member-read-only/m1", member(func(m *topology.Member) { m.Writable = false }), whole},
		{"quorum", quorum(topology.LostQuorum), whole},
		{"no-group", quorum(topology.NoGroup), whole},
		{"no-writer", func(w *world) {
			w.edit(func(v *topology.View) {
				for i := range v.Members {
					v.Members[i].Writable = false
				}
			})
		}, whole},
		{"no-spare", member(func(m *topology.Member) { m.State = topology.Unreachable }), whole},
		{"lag/m1", report(func(r *topology.Report) { r.Lag = time.Minute }), whole},
		{"flow-control/m1", report(func(r *topology.Report) { r.Queue = 30000 }), whole},
		{"diverged", trouble(topology.Errant), whole},
		{"two-groups", trouble(topology.TwoGroups), whole},
		{"zone-majority", trouble(topology.ZoneRisk), whole},
		{"other-problem", trouble(topology.SameUUID), whole},
		{"drift", facts(func(f *Facts) { f.Drift = 2 }), whole},
		{"watcher", func(w *world) { w.mu.Lock(); defer w.mu.Unlock(); w.facts.View.At = time.Now(); w.frozen = true }, whole},
		{"maintenance-forgotten", facts(func(f *Facts) { f.Paused = time.Now().Add(-5 * time.Hour) }), whole},
		{"change-stuck", facts(func(f *Facts) { f.Plan = time.Now().Add(-2 * time.Hour) }), whole},
		{"disk", metric(&free, 0.05), metric(&free, 0.5)},
		{"disk-full", metric(&free, 0.01), metric(&free, 0.5)},
		{"certificate", metric(&certificate, 86400*5), metric(&certificate, 86400*90)},
		{"certificate-expired", metric(&certificate, 3600), metric(&certificate, 86400*90)},
		{"events-waiting", metric(&waiting, 30), metric(&waiting, 0)},
		{"queue-age", queued("oldest_age_seconds", 61), queued("oldest_age_seconds", 1)},
		{"queue-held-back", queued("held_back", 1), queued("held_back", 0)},
		{"queue-dead-letters", queued("dead_letters", 1), queued("dead_letters", 0)},
		{"queue-log", queued("log_bytes", 13e9), queued("log_bytes", 1e9)},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			free, certificate, waiting = w.allGood()
			a := w.alarms(t, Config{})
			stop := run(t, a)
			defer stop()
			after(3 * time.Minute)
			if got := w.told(); got != "" {
				t.Fatalf("%s: told %s while all is well", c.alarm, got)
			}
			c.provoke(w)
			after(3 * time.Minute)
			if got := w.told(); !strings.Contains(", "+got+",", ", firing "+c.alarm+",") {
				t.Errorf("%s: told %q", c.alarm, got)
			}
			c.repair(w)
			after(3 * time.Minute)
			if got := w.told(); !strings.Contains(", "+got+",", ", resolved "+c.alarm+",") {
				t.Errorf("%s: told %q after the repair", c.alarm, got)
			}
			list, err := a.List(t.Context())
			if err != nil || list[0].State != OK {
				t.Errorf("%s: not all is well: %+v, %v", c.alarm, list[0], err)
			}
		})
	}
}

// A node whose queue does not tell is an alarm, except for what only the
// database knows; one without a queue has nothing to tell.
func TestAWriteQueueThatDoesNotTell(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ without, told string }{
		{"oldest_age_seconds", "no-data queue-age"},
		{"held_back", "no-data queue-held-back"},
		{"log_bytes", "no-data queue-log"},
		{"dead_letters", ""},
		{"", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			if c.without != "" {
				w.allGood()
				w.reg.Unregister(w.queue[c.without])
			}
			off := remove(remove(remove(remove(builtinNames(), "queue-age"), "queue-held-back"), "queue-log"), "queue-dead-letters")
			stop := run(t, w.alarms(t, Config{Off: off}))
			defer stop()
			after(3 * time.Minute)
			if got := w.told(); got != c.told {
				t.Errorf("without %s: told %q, not %q", c.without, got, c.told)
			}
		})
	}
}

func TestConflictsAreARate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		conflicts := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "perdure_member_conflicts_total"}, []string{"member"})
		for _, m := range []string{"m1", "m2", "m3"} {
			conflicts.WithLabelValues(m)
		}
		w.reg.MustRegister(conflicts)
		off := builtinNames()
		a := w.alarms(t, Config{Off: append(off[:0:0], remove(off, "conflicts")...)})
		stop := run(t, a)
		defer stop()
		after(4 * time.Minute)
		if got := w.told(); got != "" {
			t.Errorf("told %s before it watched for five minutes", got)
		}
		for range 600 {
			conflicts.WithLabelValues("m2").Add(5)
			after(time.Second)
		}
		if got := w.told(); got != "firing conflicts/m2" {
			t.Errorf("told %q", got)
		}
		conflicts.Reset()
		for _, m := range []string{"m1", "m2", "m3"} { // the member restarted: its counter begins again
			conflicts.WithLabelValues(m)
		}
		after(10 * time.Minute)
		if got := w.told(); got != "resolved conflicts/m2" {
			t.Errorf("told %q", got)
		}
	})
}

func remove(from []string, name string) []string {
	var out []string
	for _, n := range from {
		if n != name {
			out = append(out, n)
		}
	}
	return out
}

func TestMissingDataAreNoData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		free, _, _ := w.allGood()
		a := w.alarms(t, Config{})
		stop := run(t, a)
		defer stop()
		after(6 * time.Minute)

		w.reg.Unregister(free) // a metric is not exported any more
		after(2 * time.Minute)
		if got := w.told(); got != "no-data disk-full, no-data disk" && got != "no-data disk, no-data disk-full" {
			t.Errorf("without the metric: told %q", got)
		}
		w.reg.MustRegister(free)
		after(2 * time.Minute)
		w.told()

		w.edit(func(v *topology.View) { v.Members[1].Report = nil }) // a member gives no numbers
		after(time.Minute)
		if got := w.told(); got != "no-data flow-control/m2, no-data lag/m2" && got != "no-data lag/m2, no-data flow-control/m2" {
			t.Errorf("without a member's numbers: told %q", got)
		}
		w.members("ONLINE", "ONLINE", "ONLINE")
		after(2 * time.Minute)
		w.told()

		w.mu.Lock()
		w.facts.View.At, w.frozen = time.Now(), true // the watcher is dead
		w.mu.Unlock()
		after(time.Minute)
		if got := w.told(); got != "no-data quorum, firing watcher" {
			t.Errorf("without a watcher: told %q", got)
		}
	})
}

// A View counts as data for 3 s, then the rule's 3 s; both are noticed at the
// next evaluation.
func TestAWatcherThatDiesIsToldWithinSevenSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.allGood()
		stop := run(t, w.alarms(t, Config{}))
		defer stop()
		after(6*time.Minute + 500*time.Millisecond) // between two evaluations
		w.mu.Lock()
		w.facts.View.At, w.frozen = time.Now(), true
		w.mu.Unlock()
		after(6 * time.Second)
		if got := w.told(); strings.Contains(got, "watcher") {
			t.Errorf("after 6 s: told %q", got)
		}
		after(time.Second)
		if got := w.told(); !strings.Contains(got, "firing watcher") {
			t.Errorf("after 7 s: told %q", got)
		}
	})
}

func TestStatesOutliveTheNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		cfg := Config{Off: []string{"no-spare"}, Rules: []Rule{{Name: "member-away", Repeat: lasts(3 * time.Minute)}}}
		w.allGood()
		stop := run(t, w.alarms(t, cfg))
		after(6 * time.Minute)
		w.members("ONLINE", "ONLINE", "DOWN")
		after(time.Minute)
		if got := w.told(); got != "firing member-away/m3" {
			t.Fatalf("told %q", got)
		}
		stop()

		a := w.alarms(t, cfg) // the next node that leads
		stop = run(t, a)
		after(time.Minute)
		if got := w.told(); got != "" {
			t.Errorf("told again: %q", got)
		}
		if err := a.Acknowledge(t.Context(), "member-away", "m3", "anna", "on it"); err != nil {
			t.Fatal(err)
		}
		after(10 * time.Minute)
		if got := w.told(); got != "acknowledged member-away/m3" {
			t.Errorf("told %q, not only the acknowledgement", got)
		}
		if err := a.Acknowledge(t.Context(), "lag", "", "anna", ""); !errors.Is(err, ErrNotOn) {
			t.Errorf("acknowledged what is not on: %v", err)
		}
		list, err := a.List(t.Context())
		if err != nil || list[0].Rule != "member-away" || list[0].State != Alarm || list[0].Acked == nil || list[0].Labels["zone"] != "z" {
			t.Errorf("list %+v, %v", list[0], err)
		}
		stop()
		w.members("ONLINE", "ONLINE") // m3 left the cluster while nobody led
		stop = run(t, w.alarms(t, cfg))
		after(time.Minute)
		if got := w.told(); got != "resolved member-away/m3" {
			t.Errorf("told %q of a member that is gone", got)
		}
		stop()
		history, err := a.History(t.Context(), 10)
		if err != nil || len(history) != 2 || history[0].To != OK || history[1].To != Alarm {
			t.Errorf("history %+v, %v", history, err)
		}
	})
}

func TestEventsThatCouldNotBeStoredAreOfferedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.allGood()
		a := w.alarms(t, Config{})
		away := true
		a.Settle = func(ctx context.Context) error {
			if away {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		stop := run(t, a)
		after(6 * time.Minute)
		w.members("ONLINE", "ONLINE", "DOWN")
		after(20 * time.Second)
		stop()
		w.mu.Lock()
		id := w.events[0].ID
		w.events = nil
		w.mu.Unlock()
		away = false
		b := w.alarms(t, Config{})
		stop = run(t, b)
		after(5 * time.Second)
		stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.events) != 1 || w.events[0].ID != id {
			t.Errorf("offered again: %+v, want one event %s", w.events, id)
		}
	})
}

func TestMistakesInRulesAreNamed(t *testing.T) {
	t.Parallel()
	err := Config{
		Off: []string{"nothing"},
		Rules: []Rule{
			{Name: "a", When: "member.lag() > 3"},
			{Name: "b", When: "quorun == 'yes'"},
			{Name: "c", When: "tolerates"},
			{Name: "d"},
			{Name: "E", When: "true", Severity: "loud", Missing: "x", Each: "y"},
			{Name: "f", When: "true", Text: "{nope}"},
			{Name: "f", When: "true", Text: "{"},
		},
	}.Check()
	for _, want := range []string{"rules[0].when: member is only", "rules[1].when: unknown name quorun", "rules[2].when: expected bool", "rules[3].when: the condition is missing", "rules[4].name", "loud", "rules[4].missing", "rules[4].each", "rules[5].text", "two alarms are called f", "no built-in alarm nothing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("lacks %q:\n%v", want, err)
		}
	}
	if err := (Config{}).Check(); err != nil {
		t.Errorf("the built-in rules: %v", err)
	}
}

func TestARuleCanBeChangedInPart(t *testing.T) {
	t.Parallel()
	rules := Config{Rules: []Rule{{Name: "lag", When: "member.lag() > 5", Labels: map[string]string{"team": "dba"}, Severity: event.Critical}}}.rules()
	for _, r := range rules {
		if r.Name == "lag" && (r.When != "member.lag() > 5" || r.Clear != "" || r.Each != perMember || r.For == nil || r.Labels["team"] != "dba" || r.Severity != event.Critical) {
			t.Errorf("%+v", r)
		}
	}
	if len(rules) != len(Builtin) {
		t.Errorf("%d rules, want %d", len(rules), len(Builtin))
	}
}

func TestTryChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld()
	a := w.alarms(t, Config{})
	w.members("ONLINE", "DOWN", "ONLINE")
	got, err := a.Try(t.Context(), Rule{Name: "x", Each: perMember, When: `member.state == "DOWN"`, Text: "{member.name} is down, {len(members)} members"})
	if err != nil || len(got) != 3 || got[1].Now != "true" || got[1].Text != "m2 is down, 3 members" || got[0].Now != "false" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := a.Try(t.Context(), Rule{Name: "x", When: `metric("nothing") > 1`}); err != nil || got[0].Now != "missing" || got[0].Text != "there is no metric nothing" {
		t.Errorf("%+v, %v", got, err)
	}
}

func BenchmarkEvaluate(b *testing.B) {
	w := newWorld()
	w.allGood()
	w.members("ONLINE", "ONLINE", "ONLINE", "ONLINE", "ONLINE", "ONLINE", "ONLINE", "ONLINE", "ONLINE")
	a, err := New(Needs{Cluster: "shop", Store: w.store, Metrics: w.reg, Facts: w.look})
	if err != nil {
		b.Fatal(err)
	}
	var bk book
	for b.Loop() {
		now := time.Now()
		a.samples.take(a.Metrics, now)
		e := newEnv(a.Facts(b.Context()), &a.samples, now)
		bk.evaluate(a.rules, &e, "shop", "n1", now)
	}
}
