package consistency_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/consistency"
	"github.com/perdure/perdure/internal/pause"
)

// Audits beside nine writers that never pause, on the table that is compared: they
// end, report nothing, and the writers hardly notice. PERDURE_UNPACED audits of
// PERDURE_UNPACED_ROWS rows (default 200,000), with a pause after each to
// count what writers do without one. Then one row is changed behind the back of the
// group, and found under the same load.
func TestAuditsEndBesideWritersThatNeverPause(t *testing.T) {
	runs, err := strconv.Atoi(os.Getenv("PERDURE_UNPACED"))
	if err != nil {
		t.Skip("set PERDURE_UNPACED to the number of audits to run it")
	}
	rows := 200_000
	if n, err := strconv.Atoi(os.Getenv("PERDURE_UNPACED_ROWS")); err == nil {
		rows = n
	}
	g := startGroup(t, map[string]string{"innodb_buffer_pool_size": "256M"}, nil)
	run(t, g.members[0].App(t), "CREATE DATABASE busy", "CREATE TABLE busy.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT, note VARCHAR(100))",
		`INSERT INTO busy.t (v, note) WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i + 1 FROM r WHERE i < 20000) SELECT /*+ SET_VAR(cte_max_recursion_depth=20000) */ i, REPEAT('x', 60) FROM r`)
	for range rows/20_000 - 1 {
		run(t, g.members[0].App(t), "INSERT INTO busy.t (v, note) SELECT v, note FROM busy.t LIMIT 20000")
	}
	g.everywhere(t)
	l := g.load(t, 3, time.Microsecond, rows, "busy.t")
	if err := pause.For(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	a := g.auditor(t, func(c *consistency.Config) { c.BusyShare, c.Patience, c.GTIDPatience = 0, 0, 0 }) // the defaults
	scope := consistency.Scope{Schemas: []string{"busy"}}
	var with, without tally
	for i := range runs {
		began, at := time.Now(), l.commits.Load()
		r := audit(t, a, scope)
		took := time.Since(began)
		with.add(l.commits.Load()-at, took)
		began, at = time.Now(), l.commits.Load()
		if err := pause.For(t.Context(), min(took, 10*time.Second)); err != nil {
			t.Fatal(err)
		}
		without.add(l.commits.Load()-at, time.Since(began))
		queue := int64(0)
		for _, m := range g.watcher.View().Members {
			if m.Report != nil {
				queue = max(queue, m.Report.Queue)
			}
		}
		fmt.Fprintf(os.Stderr, "audit %d: %.1f s, %d rows, %d of %d slices unequal, %d rows again, %d moving, %d proofs, %d differences, %d remarks; queue %d\n",
			i+1, took.Seconds(), r.Rows, r.Unequal, r.Slices, r.Again, r.Moving, r.Proofs, len(r.Differences), len(r.Remarks), queue)
		for _, d := range r.Differences {
			t.Errorf("a false alarm: %s: %v", d.Text, d.Members)
		}
		for _, m := range r.Remarks {
			t.Log(m.Text)
		}
	}
	loss := 100 * (1 - with.rate()/without.rate())
	fmt.Fprintf(os.Stderr, "%.0f commits/s without, %.0f with an audit: writers lose %.1f %%\n", without.rate(), with.rate(), loss)
	const row = 1_000_000_000
	run(t, g.members[0].App(t), fmt.Sprintf("INSERT INTO busy.t (id, v) VALUES (%d, 1)", row))
	g.everywhere(t)
	behind(t, g.members[1], fmt.Sprintf("UPDATE busy.t SET v = 2 WHERE id = %d", row))
	began := time.Now()
	r := audit(t, a, scope)
	if len(r.Differences) != 1 || r.Differences[0].Key != fmt.Sprintf("`id` = %d", row) || r.Differences[0].Odd[0] != "m2" {
		t.Errorf("after %s: %+v", time.Since(began), r.Differences)
	}
	fmt.Fprintf(os.Stderr, "the changed row was found after %.1f s\n", time.Since(began).Seconds())
	l.stop()
	g.drop(t, "busy")
}

// tally is commits in some time.
type tally struct {
	commits int64
	took    time.Duration
}

func (y *tally) add(commits int64, took time.Duration) {
	y.commits += commits
	y.took += took
}

func (y *tally) rate() float64 { return float64(y.commits) / y.took.Seconds() }
