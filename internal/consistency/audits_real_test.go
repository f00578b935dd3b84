package consistency_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/consistency"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/state"
)

// desk is one node's Audits, which lead until stop is called.
type desk struct {
	*consistency.Audits
	stop func()
}

// heard keeps events.
type heard struct {
	mu     sync.Mutex
	events []event.Event
}

func (h *heard) Publish(e event.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !slices.ContainsFunc(h.events, func(o event.Event) bool { return o.ID == e.ID }) {
		h.events = append(h.events, e)
	}
}

func (h *heard) kinds() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, e := range h.events {
		out = append(out, string(e.Kind)+" "+e.Subject)
	}
	return strings.Join(out, ", ")
}

func (g *group) desk(t *testing.T, node string, store state.Store, to event.Publisher, change func(*consistency.Needs)) desk {
	t.Helper()
	n := consistency.Needs{
		Config: consistency.Config{
			Open: opener(auditor, auditorPassword), Watch: g.watcher, Store: store, Log: slog.New(slog.DiscardHandler),
			BusyShare: 0.5, Patience: 300 * time.Millisecond, GTIDPatience: time.Second,
		},
		Node: node, To: to, Keep: 2, Scope: consistency.Scope{Tables: []string{"shop.types", "shop.orders", "shop.empty", "shop.bytes"}, Exclude: []string{"shop.bytes"}},
		Hold: func(ctx context.Context) (context.Context, state.Fence, error) { return ctx, state.Fence{}, ctx.Err() },
	}
	if change != nil {
		change(&n)
	}
	a := consistency.NewAudits(n)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s ended with %v", node, err)
		}
	})
	t.Cleanup(stop)
	return desk{a, stop}
}

// until waits for an audit to be as ok says.
func (d desk) until(t *testing.T, id string, ok func(consistency.Audit) bool) (a consistency.Audit, r consistency.Report) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err := wait(ctx, func() bool {
		var err error
		if a, r, err = d.Get(ctx, id); err != nil {
			t.Fatal(err)
		}
		return ok(a)
	})
	if err != nil {
		t.Fatalf("%v: %+v", err, a)
	}
	return a, r
}

func over(a consistency.Audit) bool { return a.State.Over() }

// audits needs a group of which m3 has rows of shop.orders that the others lack,
// as changed leaves it.
func (g *group) audits(t *testing.T) {
	store, to := state.NewMemory(), &heard{}
	slow := func(n *consistency.Needs) { n.Patience = time.Minute } // as long as it looks at a row that differs
	first := g.desk(t, "n1", store, to, slow)
	asked, err := first.Ask(t.Context(), consistency.Scope{}, "dba")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Ask(t.Context(), consistency.Scope{}, "another"); !isRefusal(err, "is running") {
		t.Errorf("a second audit at the same time: %v", err)
	}
	// Before its place is written down there is nothing to go on from.
	first.until(t, asked.ID, func(a consistency.Audit) bool {
		_, r, err := first.Get(t.Context(), asked.ID)
		return err == nil && a.State == consistency.Running && r.ID != ""
	})
	first.stop() // it leads no more, in the middle
	if a, _, err := first.Get(t.Context(), asked.ID); err != nil || a.State != consistency.Running || a.Node != "n1" {
		t.Errorf("nobody leads, and it is %+v, %v", a, err)
	}
	second := g.desk(t, "n2", store, to, nil)
	a, r := second.until(t, asked.ID, over)
	if a.State != consistency.Done || a.Node != "n2" || r.Resumed == 0 || a.Differences < 5 || a.Differences != len(r.Differences) || a.By != "dba" {
		t.Errorf("%+v: resumed %d times, %d differences", a, r.Resumed, len(r.Differences))
	}
	g.metric(t, second, "perdure_consistency_differing_tables", 2)

	// One table that is equal takes nothing back; one that is mended does.
	g.mend(t)
	if a := second.whole(t, consistency.Scope{Tables: []string{"shop.empty"}}); a.Differences != 0 {
		t.Errorf("%+v", a)
	}
	g.metric(t, second, "perdure_consistency_differing_tables", 2)
	if a := second.whole(t, consistency.Scope{Tables: []string{"shop.orders"}}); a.Differences != 0 {
		t.Errorf("%+v", a)
	}
	g.metric(t, second, "perdure_consistency_differing_tables", 1)

	second.stop()
	third := g.desk(t, "n3", store, to, slow)
	stopped, err := third.Ask(t.Context(), consistency.Scope{Tables: []string{"shop.composite"}}, "dba")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := third.Stop(t.Context(), stopped.ID, "boss"); err != nil {
		t.Fatal(err)
	}
	if a, _ := third.until(t, stopped.ID, over); a.State != consistency.Stopped || a.StopBy != "boss" {
		t.Errorf("%+v", a)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var all []consistency.Audit
	if err := wait(ctx, func() bool { all, err = third.List(ctx); return err == nil && len(all) == 2 }); err != nil || all[0].ID != stopped.ID {
		t.Errorf("kept: %+v, %v", all, err)
	}
	if _, _, err := third.Get(t.Context(), asked.ID); !errors.Is(err, consistency.ErrNoSuchAudit) {
		t.Errorf("the oldest is there still: %v", err)
	}
	busy := g.desk(t, "n4", state.NewMemory(), to, func(n *consistency.Needs) {
		n.Busy = func(context.Context) error { return plan.Refuse("wait", "a plan is running") }
	})
	if _, err := busy.Ask(t.Context(), consistency.Scope{}, "dba"); !isRefusal(err, "a plan is running") {
		t.Errorf("beside a plan: %v", err)
	}
	if _, err := busy.Ask(t.Context(), consistency.Scope{Tables: []string{"orders"}}, "dba"); !isRefusal(err, "schema.table") {
		t.Errorf("a table without its schema: %v", err)
	}
	told := to.kinds()
	t.Log(told)
	for _, k := range []string{"consistency.started consistency", "consistency.differs consistency/shop.orders", "consistency.done", "consistency.stopped"} {
		if !strings.Contains(told, k) {
			t.Errorf("%s was not told", k)
		}
	}
	if strings.Count(told, "consistency.differs consistency/shop.orders") != 1 {
		t.Error("a table that differs is told once per audit")
	}
}

// mend removes what changed left in shop.orders.
func (g *group) mend(t *testing.T) {
	t.Helper()
	behind(t, g.members[2], "DELETE FROM shop.orders WHERE id IN (1000000, -5)")
}

// whole asks for an audit and waits for its end.
func (d desk) whole(t *testing.T, scope consistency.Scope) consistency.Audit {
	t.Helper()
	a, err := d.Ask(t.Context(), scope, "dba")
	if err != nil {
		t.Fatal(err)
	}
	a, _ = d.until(t, a.ID, over)
	if a.State != consistency.Done {
		t.Errorf("%+v", a)
	}
	return a
}

func (g *group) metric(t *testing.T, c prometheus.Collector, name string, want float64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	got := -1.0
	err := wait(ctx, func() bool {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == name {
				got = f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return got == want
	})
	if err != nil {
		t.Errorf("%s is %v, want %v", name, got, want)
	}
}

func isRefusal(err error, text string) bool {
	r, ok := errors.AsType[*plan.RefusedError](err)
	return ok && strings.Contains(r.Found, text)
}
