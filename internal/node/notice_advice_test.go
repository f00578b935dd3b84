package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
)

// advice makes everything happen that the advisor is for: a large transaction,
// a member that cannot keep up, and one row that is changed in two places.
func (w *noticed) advice(t *testing.T) {
	m1, m2, m3 := w.servers[0], w.servers[1], w.servers[2]
	run(t, m1.Root(t), "CREATE TABLE shop.piece (id INT PRIMARY KEY, b LONGBLOB)", "CREATE TABLE shop.calm (id INT PRIMARY KEY, n INT NOT NULL)",
		"INSERT INTO shop.calm VALUES (1, 0)",
		"INSERT INTO shop.piece SELECT id, REPEAT('x', 5 << 20) FROM shop.account")
	run(t, m3.Root(t), "SET GLOBAL group_replication_flow_control_applier_threshold = 10")
	defer run(t, m3.Root(t), "SET GLOBAL group_replication_flow_control_applier_threshold = 25000")
	lock, err := m3.Root(t).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if _, err := lock.ExecContext(t.Context(), "LOCK TABLES shop.account READ, shop.calm READ"); err != nil {
		t.Fatal(err)
	}
	stop := w.fight(t, m1, m2)
	for range 15 {
		run(t, m1.Root(t), "UPDATE shop.calm SET n = n + 1 WHERE id = 1")
	}
	a, err := w.Advice(t.Context(), 4)
	stop()
	_, _ = lock.ExecContext(t.Context(), "UNLOCK TABLES")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Findings {
		t.Logf("%s: %s: %s %s", f.Severity, f.Kind, f.Text, f.SQL)
	}
	found := func(kind, member, subject, text string) {
		t.Helper()
		if !slices.ContainsFunc(a.Findings, func(f api.AdviceFinding) bool {
			return f.Kind == kind && (member == "" || f.Member == member) && (subject == "" || f.Subject == subject) && strings.Contains(f.Text, text)
		}) {
			t.Errorf("nothing says %s %s %s: %s", kind, member, subject, text)
		}
	}
	found("transaction-size", "", "shop.piece", "15.0 MiB")
	found("flow-control", "m3", "", "transactions waiting, its limit is 10")
	found("conflicts", "", "shop.account", "lost transactions that sessions remember changed shop.account")
	if len(a.Tables) == 0 || a.Tables[0].Table != "shop.account" {
		t.Errorf("the tables that lost: %+v", a.Tables)
	}
	for _, table := range a.Tables {
		if table.Table == "shop.calm" {
			t.Errorf("nobody fought about %+v", table)
		}
	}
	if len(a.Largest) == 0 || fmt.Sprint(a.Largest[0].Tables) != "[shop.piece]" || a.Largest[0].Bytes < 15<<20 {
		t.Errorf("the largest: %+v", a.Largest)
	}
	w.until(t, time.Minute, "m3 has caught up", allOnline(3))
	for _, m := range a.Members {
		if m.Error != "" || m.Checked == 0 || m.Average == 0 {
			t.Errorf("%+v", m)
		}
	}
}
