package consistency_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/consistency"
	"github.com/perdure/perdure/internal/state"
)

// load writes through all members: everywhere, at the end of the table, to a
// few hot rows, and back and forth between two values, so that a reader who
// looks now and then may see any of it.
type load struct {
	commits atomic.Int64
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

func (g *group) load(t *testing.T, writersPerMember int, pause time.Duration, rows int, table string) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	l := &load{cancel: cancel}
	for _, m := range g.members {
		db := m.App(t)
		db.SetMaxOpenConns(writersPerMember)
		db.SetMaxIdleConns(writersPerMember)
		for range writersPerMember {
			l.done.Go(func() {
				tick := time.NewTicker(pause)
				defer tick.Stop()
				for ctx.Err() == nil {
					if pause > time.Microsecond {
						<-tick.C
					}
					// Let it finish: a statement whose connection is cut may commit later.
					if write(context.WithoutCancel(ctx), db, rows, table) == nil {
						l.commits.Add(1)
					}
				}
			})
		}
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) stop() {
	l.cancel()
	l.done.Wait()
}

// drop removes a schema that nobody writes to any more.
func (g *group) drop(t *testing.T, schema string) {
	t.Helper()
	g.everywhere(t)
	run(t, g.members[0].App(t), "DROP DATABASE "+schema)
	g.everywhere(t)
}

func write(ctx context.Context, db *sql.DB, rows int, table string) error {
	at := rand.IntN(rows) + 1
	var statements []string
	switch rand.IntN(20) {
	case 0: // hot
		statements = []string{fmt.Sprintf("UPDATE %s SET v = v + 1 WHERE id = %d", table, at%5+1)}
	case 1, 2: // there and back: most of the time it is what it was
		statements = []string{
			fmt.Sprintf("UPDATE %s SET v = -v WHERE id = %d", table, at%50+100),
			fmt.Sprintf("UPDATE %s SET v = -v WHERE id = %d", table, at%50+100),
		}
	case 3, 4: // gone and back
		statements = []string{
			fmt.Sprintf("DELETE FROM %s WHERE id = %d", table, at%50+200),
			fmt.Sprintf("INSERT IGNORE INTO %s (id, v, note) VALUES (%d, 1, 'back')", table, at%50+200),
		}
	case 5, 6, 7:
		statements = []string{fmt.Sprintf("INSERT INTO %s (v, note) VALUES (%d, 'new')", table, at)}
	default:
		statements = []string{fmt.Sprintf("UPDATE %s SET v = %d WHERE id = %d", table, rand.Int32(), at)}
	}
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (g *group) underLoad(t *testing.T) {
	runs, rows, pause := 2, 20_000, 25*time.Millisecond
	if n, err := strconv.Atoi(os.Getenv("PERDURE_SOAK_RUNS")); err == nil {
		runs, rows, pause = n, 200_000, 10*time.Millisecond
	}
	run(t, g.members[0].App(t), "CREATE DATABASE busy", "CREATE TABLE busy.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT, note VARCHAR(100))",
		`INSERT INTO busy.t (v, note) WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i + 1 FROM r WHERE i < 20000) SELECT /*+ SET_VAR(cte_max_recursion_depth=20000) */ i, REPEAT('x', 60) FROM r`)
	for range rows/20_000 - 1 {
		run(t, g.members[0].App(t), "INSERT INTO busy.t (v, note) SELECT v, note FROM busy.t LIMIT 20000")
	}
	g.everywhere(t)
	l := g.load(t, 4, pause, rows, "busy.t")
	a := g.auditor(t, nil)
	scope := consistency.Scope{Schemas: []string{"busy"}}
	for range runs {
		before := l.commits.Load()
		r := audit(t, a, scope)
		t.Logf("%d commits meanwhile", l.commits.Load()-before)
		for _, d := range r.Differences {
			t.Errorf("a false alarm: %s: %v", d.Text, d.Members)
		}
		for _, m := range r.Remarks {
			t.Log(m.Text)
		}
	}
	// One row that nobody writes any more, under the same load.
	const row = 1_000_000_000
	run(t, g.members[0].App(t), fmt.Sprintf("INSERT INTO busy.t (id, v) VALUES (%d, 1)", row))
	g.everywhere(t)
	behind(t, g.members[1], fmt.Sprintf("UPDATE busy.t SET v = 2 WHERE id = %d", row))
	began := time.Now()
	r := audit(t, a, scope)
	// A proof takes members that keep up. Where they do not, the report says so,
	// and somebody would compare again.
	for len(r.Differences) == 0 && slices.ContainsFunc(r.Remarks, leavesOpen) && time.Since(began) < 2*time.Minute {
		r = audit(t, a, scope)
	}
	if len(r.Differences) != 1 || r.Differences[0].Key != fmt.Sprintf("`id` = %d", row) || r.Differences[0].Odd[0] != "m2" {
		t.Errorf("after %s: %+v, %+v", time.Since(began), r.Differences, r.Remarks)
	}
	l.stop()
	g.drop(t, "busy")
}

// leavesOpen tells whether a remark leaves open whether there is a difference.
func leavesOpen(m consistency.Remark) bool {
	return m.Kind == consistency.Undecided || m.Kind == consistency.Incomplete
}

// Without patience every row that is on its way goes to the proof at once. So
// this is a test of the proof: it must not succeed on a group that is healthy.
func (g *group) impatient(t *testing.T) {
	limit := 1500 * time.Millisecond
	if n, err := strconv.Atoi(os.Getenv("PERDURE_SOAK_RUNS")); err == nil {
		limit = time.Duration(n) * 10 * time.Second
	}
	run(t, g.members[0].App(t), "CREATE DATABASE hot", "CREATE TABLE hot.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT, note VARCHAR(100))",
		`INSERT INTO hot.t (v, note) WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i + 1 FROM r WHERE i < 300) SELECT i, 'x' FROM r`)
	g.everywhere(t)
	l := g.load(t, 4, 3*time.Millisecond, 300, "hot.t")
	a := g.auditor(t, func(c *consistency.Config) { c.Patience = time.Nanosecond })
	var runs, proofs, undecided, rows int
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for ; ctx.Err() == nil; runs++ {
		r, err := a.Run(ctx, consistency.Scope{Schemas: []string{"hot"}}, state.Fence{})
		if err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		proofs, undecided, rows = proofs+r.Proofs, undecided+len(r.Remarks), rows+r.Unequal
		for _, d := range r.Differences {
			t.Errorf("proved what is not so: %s: %v", d.Text, d.Members)
		}
	}
	t.Logf("%d audits, %d commits, %d unequal slices, %d proofs tried, %d rows undecided", runs, l.commits.Load(), rows, proofs, undecided)
	l.stop()
	g.drop(t, "hot")
}
