package node_test

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/alarm"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
	"github.com/perdure/perdure/internal/watch"
)

// current measures what the watcher of the moment sees.
type current struct {
	eyes *atomic.Pointer[watch.Watcher]
}

// Describe implements prometheus.Collector.
func (current) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c current) Collect(ch chan<- prometheus.Metric) { c.eyes.Load().Collect(ch) }

// watcherDies has a second watcher look at the same members, evaluates the
// built-in alarms over what it says, and ends it: nobody may take its last View
// for the present.
func (w *noticed) watcherDies(t *testing.T) {
	v := w.Watch().View()
	var servers []topology.Instance
	for _, m := range v.Members {
		servers = append(servers, m.Instance)
	}
	metrics := prometheus.NewRegistry()
	var eyes atomic.Pointer[watch.Watcher]
	look := func() {
		e := watch.New(w.Open, slog.New(slog.DiscardHandler))
		e.Watch(topology.Expect{Cluster: v.Cluster, Group: v.Group}, servers)
		eyes.Store(e)
	}
	look()
	metrics.MustRegister(current{&eyes})
	store := state.NewMemory()
	store.SetTerm("lead", 1)
	a, err := alarm.New(alarm.Needs{
		Config: alarm.Config{Off: []string{"disk*", "certificate*", "events-waiting"}}, Node: "n", Cluster: v.Cluster, Store: store, Metrics: metrics,
		Facts: func(context.Context) alarm.Facts { return alarm.Facts{View: eyes.Load().View()} },
		Hold: func(ctx context.Context) (context.Context, state.Fence, error) {
			return ctx, state.Fence{Lease: "lead", Epoch: 1}, ctx.Err()
		},
		To: event.Func(func(event.Event) {}), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seeing, blind := context.WithCancel(ctx)
	looked, evaluated := make(chan error, 1), make(chan error, 1)
	go func() { looked <- eyes.Load().Run(seeing) }()
	go func() { evaluated <- a.Run(ctx) }()
	is := func(rule string) alarm.State {
		all, _ := a.List(ctx)
		i := slices.IndexFunc(all, func(s alarm.Status) bool { return s.Rule == rule })
		if i < 0 {
			return "?"
		}
		return all[i].State
	}
	if _, err := eyes.Load().Until(ctx, func(v *topology.View) bool { return v.Quorum == topology.HasQuorum }); err != nil {
		t.Fatal(err)
	}
	eventually(t, 15*time.Second, "the watcher's alarms are well", func() bool { return is("watcher") == alarm.OK && is("quorum") == alarm.OK })
	blind()
	<-looked
	dead := time.Now()
	watcher := eventually(t, time.Minute, "the watcher's alarm is on", func() bool { return is("watcher") == alarm.Alarm })
	quorum := eventually(t, time.Minute, "nobody knows about the quorum", func() bool { return is("quorum") == alarm.NoData })
	t.Logf("the watcher ended: watcher is ALARM after %.1f s, quorum NO-DATA after %.1f s", watcher.Sub(dead).Seconds(), quorum.Sub(dead).Seconds())
	// A View counts as data for 3 s, then the rule's 3 s: about 7 s, which package
	// alarm tests to the second. Here a loaded machine evaluates late.
	if late := watcher.Sub(dead); late > 15*time.Second {
		t.Errorf("it took %s", late)
	}
	seeing, blind = context.WithCancel(ctx)
	defer blind()
	look()
	go func() { looked <- eyes.Load().Run(seeing) }()
	eventually(t, 20*time.Second, "the alarms are over", func() bool { return is("watcher") == alarm.OK && is("quorum") == alarm.OK })
	cancel()
	<-looked
	<-evaluated
}
