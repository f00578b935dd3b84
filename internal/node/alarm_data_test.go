package node_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysqltest"
)

// dataScenes are about what is written: queued writes that are given up or too
// many, and rows that differ.
func (w *noticed) dataScenes() []scene {
	var dead string
	return []scene{
		{name: "a queued write is given up", wants: []string{"queue-dead-letters ALARM"}, long: true, provoke: func(t *testing.T) {
			r, err := w.Put(t.Context(), api.Write{Operation: "open", Params: map[string]json.RawMessage{"id": json.RawMessage("1")}})
			if err != nil {
				t.Fatal(err)
			}
			dead = r.ID
			// Twenty-five attempts take a quarter of an hour: it is told that it has had them.
			hurry := w.servers[0].Root(t)
			eventually(t, 30*time.Second, "it is a dead letter", func() bool {
				_, _ = hurry.ExecContext(t.Context(), "UPDATE perdure.queue_held SET attempts = 24 WHERE attempts < 24") // it may be at work on it
				all, err := w.DeadLetters(t.Context(), 10)
				return err == nil && len(all) == 1
			})
		}, repair: func(t *testing.T) {
			if _, err := w.DiscardDeadLetter(t.Context(), dead); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "the log of the queue is nearly full", wants: []string{"queue-log ALARM"}, long: true, provoke: func(t *testing.T) {
			if err := w.SteerQueue(t.Context(), "pause"); err != nil {
				t.Fatal(err)
			}
			for used := 0.0; used < 0.85; {
				w.write(t, 20)
				m := w.measured(t)
				used = m["perdure_queue_log_bytes"][0].value / m["perdure_queue_log_limit_bytes"][0].value
			}
		}, repair: func(t *testing.T) {
			if err := w.SteerQueue(t.Context(), "resume"); err != nil {
				t.Fatal(err)
			}
		}},
		{
			name: "a row differs on one member", wants: []string{"members-differ ALARM"}, long: true,
			provoke: func(t *testing.T) { w.behind(t, w.servers[1], "balance + 1"); w.compare(t, 1) },
			repair:  func(t *testing.T) { w.behind(t, w.servers[1], "balance - 1"); w.compare(t, 0) },
		},
	}
}

// behind changes a row on one member, behind the group's back.
func (w *noticed) behind(t *testing.T, m *mysqltest.Member, balance string) {
	t.Helper()
	conn, err := m.Root(t).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, stmt := range []string{"SET sql_log_bin = 0", "UPDATE shop.account SET balance = " + balance + " WHERE id = 3", "SET sql_log_bin = 1"} {
		if _, err := conn.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(stmt, err)
		}
	}
}

// compare audits the members and wants so many differences.
func (w *noticed) compare(t *testing.T, differences int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	a, err := w.RunConsistency(ctx, api.ConsistencyScope{Schemas: []string{"shop"}})
	if err == nil {
		a, err = w.WaitConsistency(ctx, a.ID, func(api.ConsistencyAudit) {})
	}
	if err != nil || a.Differences != differences {
		t.Fatalf("%v: %+v", err, a)
	}
}
