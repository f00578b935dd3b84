package node_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/mysqltest"
)

// At one minute an audit begins by itself, at the next a restart is refused
// because the automation is paused, and at the third the group stops.
func TestWhatIsScheduledBegins(t *testing.T) {
	if os.Getenv("PERDURE_LONG") == "" {
		t.Skip("it waits for minutes to pass; PERDURE_LONG=1 runs it")
	}
	t.Parallel()
	servers := mysqltest.Start(t, 2)
	s := newSite(t, servers)
	b, err := os.ReadFile(s.file(t, "node", "m1", "m2"))
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(s.dir, "audit.password")
	if err := os.WriteFile(secret, []byte("a-9-Reads"), 0o600); err != nil {
		t.Fatal(err)
	}
	first := time.Now().UTC().Truncate(time.Minute).Add(2 * time.Minute) // the group has formed by then
	at := func(n int) string {
		x := first.Add(time.Duration(n) * time.Minute)
		return fmt.Sprintf("'%d %d * * *'", x.Minute(), x.Hour())
	}
	text := string(b) + fmt.Sprintf("consistency: {user: auditor, password: 'file:%s'}\nschedules:\n  - {name: audit, do: consistency, at: %s}\n  - {name: tour, do: restart, at: %s}\n  - {name: night, do: stop, at: %s}\n",
		secret, at(0), at(1), at(2))
	n := s.serveFile(t, "node", text)
	o, err := n.Apply(t.Context(), s.wish("m1", "m2"))
	n.done(t, o, err)
	run(t, servers[0].Root(t), "CREATE USER auditor IDENTIFIED BY 'a-9-Reads'", "GRANT SELECT ON *.* TO auditor", "CREATE DATABASE story",
		"CREATE TABLE story.t (id INT PRIMARY KEY, v INT)", "INSERT INTO story.t VALUES (1, 1), (2, 2)")
	n.roles(t)
	sameEverywhere(t, servers, nil)
	conn, err := servers[1].Root(t).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, q := range []string{"SET SESSION sql_log_bin = 0", "UPDATE story.t SET v = 3 WHERE id = 2"} {
		if _, err := conn.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}

	began := n.result(t, "audit", 3*time.Minute)
	says(t, began.Text, "consistency of "+first.Format("2006-01-02 15:04 UTC")+" began: audit ")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	a, err := n.WaitConsistency(ctx, "newest", func(api.ConsistencyAudit) {})
	if err != nil || a.By != "schedule audit" || a.Differences != 1 || a.Report.Differences[0].Key != "`id` = 2" {
		t.Errorf("%v: %+v", err, a)
	}
	if err := n.Pause(t.Context(), "hands off"); err != nil {
		t.Fatal(err)
	}
	tour := n.result(t, "tour", 2*time.Minute)
	says(t, tour.Result+": "+tour.Text, "refused: ", "paused the automation")
	if err := n.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	night := n.result(t, "night", 2*time.Minute)
	says(t, night.Text, "began: stop cluster shop (")
	ops, err := n.Operations(t.Context(), 1)
	if err != nil || ops[0].Actor != "schedule night" {
		t.Fatalf("%v: %+v", err, ops)
	}
	n.done(t, ops[0], nil)
	for _, x := range []string{"schedule.began", "schedule.refused", "consistency.differs", "consistency.done"} {
		n.told(t, x)
	}
}

// result waits until something became of a schedule.
func (n *served) result(t *testing.T, name string, limit time.Duration) api.Schedule {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		all, err := n.Schedules(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range all {
			if x.Name == name && x.Result != "" {
				t.Logf("%s: %s: %s", name, x.Result, x.Text)
				return x
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing became of %s: %+v", name, all)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// roles: viewers read and operators run.
func (n *served) roles(t *testing.T) {
	t.Helper()
	made, err := n.MakeToken(t.Context(), api.Token{Name: "looks-on", Role: "viewer"})
	if err != nil {
		t.Fatal(err)
	}
	url, _, ca := n.API()
	viewer := client.New(url, made.Secret, ca)
	defer viewer.Close()
	if _, err := viewer.Consistencies(t.Context()); err != nil {
		t.Errorf("a viewer may not list audits: %v", err)
	}
	if _, err := viewer.Schedules(t.Context()); err != nil {
		t.Errorf("a viewer may not list schedules: %v", err)
	}
	_, err = viewer.RunConsistency(t.Context(), api.ConsistencyScope{})
	if p, ok := errors.AsType[*client.Problem](err); !ok || p.Status != http.StatusForbidden {
		t.Errorf("a viewer runs an audit: %v", err)
	}
}

// told waits for an event of a kind.
func (n *served) told(t *testing.T, kind string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if events, err := n.Events(ctx, []string{kind}, nil, 10); err == nil && len(events) > 0 {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Errorf("%s was not told", kind)
}
