package consistency_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/consistency"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
)

// kinds are tables with one trap each: how it is made and filled.
var kinds = []string{
	`CREATE TABLE shop.types (id INT PRIMARY KEY, f FLOAT, d DOUBLE, m DECIMAL(30,10), j JSON, g GEOMETRY, b BLOB, bits BIT(40),
		e ENUM('a','b'), s SET('x','y'), ts TIMESTAMP(6) NULL, dt DATETIME, ti TIME(3), yr YEAR, v VARCHAR(50), l VARCHAR(50) CHARACTER SET latin1,
		w CHAR(5) CHARACTER SET utf16, bin BINARY(4), big LONGTEXT, inv INT INVISIBLE, st INT AS (id * 2) STORED, vi INT AS (id * 3) VIRTUAL)`,
	`INSERT INTO shop.types (id, f, d, m, j, g, b, bits, e, s, ts, dt, ti, yr, v, l, w, bin, big, inv) VALUES
		(1, 0.1, 0.1, 1.5, '{"b": 1, "a": [1.0, null]}', ST_GeomFromText('POINT(1 2)'), x'00ff', b'101', 'b', 'x,y', '2024-03-31 02:30:00.123456',
		'2024-03-31 02:30:00', '-10:11:12.5', 2024, 'é,1', 'é', 'ü', 'ab', REPEAT('long', 1000), 7),
		(2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
		(3, 16777216, 1e300, -1, 'null', NULL, '', 0, 'a', '', '1970-01-02 00:00:00', '0001-01-01', '838:59:59', 1901, '', '', '', '', '', 0)`,
	`CREATE TABLE shop.composite (tenant INT, k VARCHAR(40) COLLATE utf8mb4_0900_ai_ci, n INT, v INT, PRIMARY KEY (tenant, k DESC, n))`,
	`INSERT INTO shop.composite WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i + 1 FROM r WHERE i < 900)
		SELECT i % 3, CONCAT(CHAR(65 + i % 26), IF(i % 2, 'é''\\', 'e')), i, i FROM r`,
	`CREATE TABLE shop.labels (e ENUM('z','it''s','a') NOT NULL, f FLOAT NOT NULL, v INT, UNIQUE KEY (e, f))`,
	`INSERT INTO shop.labels WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i + 1 FROM r WHERE i < 900)
		SELECT 1 + i % 3, i / 7, i FROM r`,
	`CREATE TABLE shop.bytes (b VARBINARY(16), d DATETIME(3), v INT, PRIMARY KEY (b, d))`,
	`INSERT INTO shop.bytes WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i + 1 FROM r WHERE i < 900)
		SELECT UNHEX(SHA2(i DIV 5, 224)) & REPEAT(x'ff', 28), NOW(3) + INTERVAL i SECOND, i FROM r`,
	`CREATE TABLE shop.orders (id INT AUTO_INCREMENT PRIMARY KEY, v INT, note VARCHAR(100))`,
	`INSERT INTO shop.orders (v, note) WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i + 1 FROM r WHERE i < 5000)
		SELECT i, REPEAT(CHAR(65 + i % 26), 60) FROM r`,
	`CREATE TABLE shop.empty (id INT PRIMARY KEY)`,
	`CREATE TABLE shop.other (id INT PRIMARY KEY, a INT)`,
	`CREATE TABLE shop.gone (id INT PRIMARY KEY)`,
	`CREATE TABLE shop.keyless (id INT)`,
}

func (g *group) auditor(t *testing.T, change func(*consistency.Config)) *consistency.Auditor {
	t.Helper()
	cfg := consistency.Config{Open: opener(auditor, auditorPassword), Watch: g.watcher, BusyShare: 0.5, Patience: 300 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	return consistency.New(cfg)
}

func audit(t *testing.T, a *consistency.Auditor, scope consistency.Scope) consistency.Report {
	t.Helper()
	r, err := a.Run(t.Context(), scope, state.Fence{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d tables, %d rows, %d slices, %d unequal, %d rows again, %d moving, %d proofs, %s, worked %s, rested %s",
		r.Tables, r.Rows, r.Slices, r.Unequal, r.Again, r.Moving, r.Proofs, r.Ended.Sub(r.Began).Round(time.Millisecond), r.Worked.Round(time.Millisecond), r.Rested.Round(time.Millisecond))
	return r
}

func TestAnAuditOfARealGroup(t *testing.T) {
	t.Parallel()
	g := startGroup(t, nil, nil)
	run(t, g.members[0].Root(t), "SET GLOBAL cte_max_recursion_depth = 100000")
	run(t, g.members[0].App(t), append([]string{"CREATE DATABASE shop", "SET SESSION sql_mode = ''"}, kinds[:len(kinds)-1]...)...)
	run(t, g.members[0].Root(t), kinds[len(kinds)-1])
	g.everywhere(t)

	t.Run("finds nothing where all is equal", func(t *testing.T) {
		r := audit(t, g.auditor(t, nil), consistency.Scope{})
		for _, d := range r.Differences {
			t.Errorf("%s", d.Text)
		}
		if len(r.Remarks) != 1 || r.Remarks[0].Kind != consistency.NotComparable || r.Remarks[0].Subject != "shop.keyless" {
			t.Errorf("remarks: %+v", r.Remarks)
		}
		if r.Rows != 3+3*900+5000 || r.Tables != 9 {
			t.Errorf("%d rows of %d tables", r.Rows, r.Tables)
		}
	})
	t.Run("says what the account cannot see", g.blind)
	t.Run("reports nothing under load", g.underLoad)
	t.Run("proves nothing of rows that are on their way", g.impatient)
	t.Run("goes on after an interruption", g.resumed)
	t.Run("names what was changed behind the back of the group", g.changed)
	t.Run("is asked for, kept, and goes on elsewhere", g.audits)
	if os.Getenv("PERDURE_SOAK") != "" {
		t.Run("names a transaction that one member alone has", g.errantTransaction)
	}
}

func (g *group) changed(t *testing.T) {
	m1, m2, m3 := g.members[0], g.members[1], g.members[2]
	behind(t, m1, "UPDATE shop.types SET f = 0.1000001, j = '{\"a\": [1.0, null], \"b\": 2}' WHERE id = 1", "UPDATE shop.types SET v = '' WHERE id = 2")
	behind(t, m2, "UPDATE shop.composite SET v = 0 WHERE tenant = 2 AND n = 500", "DELETE FROM shop.labels WHERE v = 300", "UPDATE shop.types SET inv = 1 WHERE id = 3")
	behind(t, m3, "INSERT INTO shop.orders (id, v) VALUES (1000000, 1), (-5, 1)", "UPDATE shop.bytes SET v = -1 WHERE v = 899",
		"ALTER TABLE shop.other ADD COLUMN b INT", "DROP TABLE shop.gone")
	r := audit(t, g.auditor(t, nil), consistency.Scope{})
	want := map[string]string{
		"shop.types `id` = 1":          "m1 f,j",
		"shop.types `id` = 2":          "m1 v",
		"shop.types `id` = 3":          "m2 inv",
		"shop.composite":               "m2 v",
		"shop.labels":                  "m2 ",
		"shop.orders `id` = 1000000":   "m3 ",
		"shop.orders `id` = -5":        "m3 ",
		"shop.bytes":                   "m3 v",
		"definition of shop.other":     "m3 ",
		"table shop.gone":              "m3 ",
		"one row each, and no others!": "",
	}
	delete(want, "one row each, and no others!")
	for _, d := range r.Differences {
		t.Log(d.Text, "|", d.SQL, "|", d.Members)
		subject := d.Schema + "." + d.Table
		switch {
		case d.Kind == consistency.Definition:
			subject = "definition of " + subject
		case d.Kind == consistency.Table:
			subject = "table " + subject
		case d.Table == "types" || d.Table == "orders":
			subject += " " + d.Key
		}
		if got := strings.Join(d.Odd, " ") + " " + strings.Join(d.Columns, ","); want[subject] != got {
			t.Errorf("%s: %q, want %q", subject, got, want[subject])
		}
		delete(want, subject)
		if d.Kind == consistency.Row {
			counts := []string{}
			for _, m := range g.members {
				counts = append(counts, one(t, m.Root(t), strings.Replace(d.SQL, "*", "COUNT(*)", 1)))
			}
			if !slices.Contains(counts, "1") {
				t.Errorf("%s finds %v rows", d.SQL, counts)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", slices.Collect(maps.Keys(want)))
	}
}

func (g *group) blind(t *testing.T) {
	run(t, g.members[0].Root(t), "CREATE USER narrow IDENTIFIED BY 'n-9-Narrow'", "GRANT SELECT ON shop.types TO narrow", "GRANT REFERENCES ON shop.empty TO narrow")
	g.everywhere(t)
	r := audit(t, g.auditor(t, func(c *consistency.Config) { c.Open = opener("narrow", "n-9-Narrow") }), consistency.Scope{Schemas: []string{"shop"}})
	got := map[string]string{}
	for _, m := range r.Remarks {
		got[m.Kind] = m.Subject + ": " + m.SQL
	}
	if len(r.Differences) > 0 || r.Of != 2 || got[consistency.Blind] != "`narrow`@`%`: GRANT SELECT ON *.* TO `narrow`@`%`" ||
		!strings.HasPrefix(got[consistency.Denied], "shop.empty: GRANT SELECT") {
		t.Errorf("%d tables, %+v, %+v", r.Of, r.Differences, r.Remarks)
	}
}

func (g *group) resumed(t *testing.T) {
	store := state.NewMemory()
	ctx, cancel := context.WithCancelCause(t.Context())
	broken := errors.New("the power failed")
	cfg := func(c *consistency.Config) { c.Store, c.Slice = store, time.Millisecond }
	first := g.auditor(t, func(c *consistency.Config) {
		cfg(c)
		c.Progress = func(p consistency.Progress) {
			if p.Rows > 0 {
				cancel(broken)
			}
		}
		c.IdleShare, c.BusyShare = 0.02, 0.02
	})
	scope := consistency.Scope{Schemas: []string{"shop"}, Exclude: []string{"shop.keyless"}}
	partial, err := first.Run(ctx, scope, state.Fence{})
	if !errors.Is(err, broken) {
		t.Fatalf("%v", err)
	}
	r := audit(t, g.auditor(t, cfg), scope)
	if r.ID != partial.ID || r.Resumed != 1 || r.Tables != 8 || !r.Equal() || r.Rows < partial.Rows {
		t.Errorf("it began with %+v and went on to %+v", partial, r)
	}
	if last, ok, err := g.auditor(t, cfg).Last(t.Context()); err != nil || !ok || last.ID != r.ID || last.Ended.IsZero() {
		t.Errorf("kept: %+v, %v, %v", last, ok, err)
	}
	if r := audit(t, g.auditor(t, cfg), scope); r.ID == partial.ID || r.Resumed != 0 {
		t.Error("a finished audit was gone on with")
	}
}

// claimed is a view that says what a test wants.
type claimed struct{ view *topology.View }

func (c claimed) View() *topology.View { return c.view }

func (g *group) errantTransaction(t *testing.T) {
	// A member of a group cannot be made to have one; so one leaves, and the
	// audit is told that it did not.
	view := *g.watcher.View()
	m3 := g.members[2]
	run(t, m3.Root(t), "STOP GROUP_REPLICATION", "SET GLOBAL read_only = OFF", "UPDATE shop.orders SET v = -7 WHERE v = 77")
	id := one(t, m3.Root(t), "SELECT id FROM shop.orders WHERE v = -7")
	uuid := one(t, m3.Root(t), "SELECT @@server_uuid")
	r := audit(t, g.auditor(t, func(c *consistency.Config) { c.Watch = claimed{&view} }), consistency.Scope{Tables: []string{"shop.orders"}})
	var found []string
	for _, d := range r.Differences {
		t.Log(d.Text, d.Members, d.Odd)
		if d.Kind == consistency.GTID && strings.Contains(d.Text, uuid+":1") && fmt.Sprint(d.Odd) == "[m3]" {
			found = append(found, d.Kind)
		}
		if d.Kind == consistency.Row && d.Key == "`id` = "+id {
			found = append(found, d.Kind)
		}
	}
	if !slices.Contains(found, consistency.GTID) || !slices.Contains(found, consistency.Row) {
		t.Errorf("found %v", found)
	}
}
