package node_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/node"
)

// ward is a cluster that mends itself, with what a chapter needs at hand.
type ward struct {
	*whole
	load *load // writes through the proxy, for as long as all chapters take
}

// mishap is one thing that happens to a cluster and is to be mended without a
// hand. Those that take long are told only where time was given.
type mishap struct {
	name string
	tell func(*testing.T, *ward)
	soak bool
}

// nurse tells mishaps of one cluster, one after the other. After each, the
// cluster is whole again, with nothing lost and nothing left behind.
func nurse(t *testing.T, mishaps []mishap) {
	t.Helper()
	w := &ward{whole: newWhole(t, node.Options{Heal: true}, nil, mysqltest.ComesBack(500*time.Millisecond))}
	w.load = startLoad(t, w.rw, 4, 20*time.Millisecond)
	for _, m := range mishaps {
		if m.soak && os.Getenv("PERDURE_SOAK") == "" {
			continue
		}
		ok := t.Run(m.name, func(t *testing.T) {
			began, since := time.Now(), w.load.now()
			defer func() {
				w.diary(t, began)
				w.plans(t, began)
			}()
			m.tell(t, w)
			w.mended(t)
			gap, _ := w.load.gap(since, w.load.now())
			n, text := w.load.errors(since)
			t.Logf("whole after %.1f s; clients: longest gap %.1f s, %d errors %s", time.Since(began).Seconds(), gap.Seconds(), n, text)
		})
		if !ok { // the rest builds on it
			w.mended(t)
		}
	}
	w.load.stop()
	w.healthy(t, time.Minute)
	sameEverywhere(t, w.three, nil)
	w.load.onEach(t, w.three)
	audited(t, w.node.Watch(), w.three)
}

// mended waits until the cluster is whole, nothing is asked and nothing is left
// of the repair.
func (w *ward) mended(t *testing.T) {
	t.Helper()
	w.healthy(t, 4*time.Minute)
	waitUntil(t, time.Minute, "nothing is asked, no plan runs", func() bool {
		st, err := w.node.Status(t.Context())
		return err == nil && st.Asking == "" && st.Running == nil && st.Level == "ok"
	})
	for _, m := range w.three {
		waitUntil(t, 20*time.Second, m.Name()+" is as it was", func() bool {
			return one(t, m.Root(t), `select concat_ws(' ', @@group_replication_member_expel_timeout, @@group_replication_force_members = '', @@group_replication_bootstrap_group,
				@@offline_mode, @@super_read_only, @@group_replication_flow_control_period)`) == "5 1 0 0 0 1"
		})
	}
}

// diary logs the events since a moment.
func (w *ward) diary(t *testing.T, since time.Time) {
	t.Helper()
	for _, e := range w.events(t, since) {
		if !strings.HasPrefix(e.Event.Type, "perdure.plan.step") && e.Event.Type != "perdure.audit.action" {
			t.Logf("%6.1f s  %-8s %s: %s", e.Event.Time.Sub(since).Seconds(), e.Event.Severity, strings.TrimPrefix(e.Event.Type, "perdure."), e.Event.Data.Text)
		}
	}
}

// plans logs the steps of every plan since a moment.
func (w *ward) plans(t *testing.T, since time.Time) {
	t.Helper()
	ops, err := w.node.Operations(t.Context(), 20)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range slices.Backward(ops) {
		if !o.Created.Before(since.Truncate(time.Millisecond)) {
			t.Logf("%s (%.1f s): %s %s\n%s", o.ID, o.Ended.Sub(o.Created).Seconds(), o.State, o.Error, story(o))
		}
	}
}

// events are those since a moment, the oldest first.
func (w *ward) events(t *testing.T, since time.Time) []api.Event {
	t.Helper()
	all, err := w.node.Events(t.Context(), nil, nil, 1000)
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(e api.Event) bool { return e.Event.Time.Before(since) })
	slices.SortStableFunc(all, func(a, b api.Event) int { return a.Event.Time.Compare(b.Event.Time) })
	return all
}

// happened is when something happened, and what.
type happened struct {
	Time time.Time
	Text string
}

// told waits until an event of that kind, whose text says all of want, was
// published since a moment.
func (w *ward) told(t *testing.T, since time.Time, kind string, want ...string) happened {
	t.Helper()
	limit := time.Now().Add(4 * time.Minute)
	for {
		events := w.events(t, since)
		for _, e := range events {
			if e.Event.Type == "perdure."+kind && !slices.ContainsFunc(want, func(s string) bool { return !strings.Contains(e.Event.Data.Text, s) }) {
				return happened{e.Event.Time, e.Event.Data.Text}
			}
		}
		if time.Now().After(limit) {
			w.diary(t, since)
			t.Fatalf("no event %s with %q", kind, want)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// operation is the newest operation of a kind since a moment, once it ended.
func (w *ward) operation(t *testing.T, since time.Time, kind string) api.Operation {
	t.Helper()
	var found api.Operation
	waitUntil(t, 4*time.Minute, "a plan "+kind+" ended", func() bool {
		ops, err := w.node.Operations(t.Context(), 50)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range ops {
			if strings.HasPrefix(o.ID, kind+"-") && !o.Created.Before(since.Truncate(time.Millisecond)) && o.Over() {
				found = o
				return true
			}
		}
		return false
	})
	return found
}

func (w *ward) member(name string) *mysqltest.Member { return w.servers[name] }

// session opens one connection as root and executes statements on it.
func session(t *testing.T, m *mysqltest.Member, statements ...string) *sql.Conn {
	t.Helper()
	c, err := m.Root(t).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := c.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return c
}

// unlogged changes a server behind its group's back.
func unlogged(t *testing.T, m *mysqltest.Member, statements ...string) {
	t.Helper()
	run(t, m.Root(t), "set global super_read_only = off")
	c := session(t, m, append([]string{"set sql_log_bin = 0"}, statements...)...)
	_ = c.Close()
}

// paused keeps healing away while do prepares something.
func (w *ward) paused(t *testing.T, do func()) {
	t.Helper()
	if err := w.node.Pause(t.Context(), "a test"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.node.Resume(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	do()
}

func (w *ward) kill(t *testing.T, after mysqld.After, names ...string) {
	t.Helper()
	done := make(chan error, len(names))
	for _, n := range names {
		go func() { done <- w.member(n).Kill(after) }()
	}
	for range names {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func (w *ward) start(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := w.member(n).Start(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// sees waits for what the servers themselves say about their group.
func sees(t *testing.T, m *mysqltest.Member, limit time.Duration, state string, count int) {
	t.Helper()
	waitUntil(t, limit, fmt.Sprintf("%s sees %d %s", m.Name(), count, state), func() bool {
		return one(t, m.Root(t), "select count(*) from performance_schema.replication_group_members where member_state = ?", state) == fmt.Sprint(count)
	})
}

// routed tells whether the proxy sends clients to a member.
func (w *ward) routed(t *testing.T, name string) bool {
	t.Helper()
	p, err := w.node.Client.Proxy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range p.Members {
		if m.Name == name {
			return m.Writes || m.Reads
		}
	}
	return false
}

// waitUntil waits for a condition, with a limit.
func waitUntil(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %s not yet: %s", limit, what)
		}
	}
}
