package consistency_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/consistency"
	"github.com/perdure/perdure/internal/pause"
)

const (
	bigBatch  = 100_000
	bigWindow = 10 * time.Second
)

// fill makes the same rows on a server, without a transaction that a group
// could see.
func fill(db *sql.DB, rows int) error {
	ctx := context.Background()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	statements := []string{
		"SET SESSION sql_log_bin = 0", "SET GLOBAL read_only = OFF", "SET SESSION cte_max_recursion_depth = 1000000",
		"CREATE DATABASE big", "CREATE TABLE big.t (id INT AUTO_INCREMENT PRIMARY KEY, v INT, note VARCHAR(100), price DECIMAL(10,2), at DATETIME)",
	}
	for first := 0; first < rows; first += bigBatch {
		statements = append(statements, fmt.Sprintf(`INSERT INTO big.t WITH RECURSIVE r AS (SELECT 1 i UNION ALL SELECT i + 1 FROM r WHERE i < %d)
			SELECT i + %d, i, SHA2(i + %d, 224), i / 100, '2024-01-01' + INTERVAL i SECOND FROM r`, bigBatch, first, first))
	}
	for _, s := range append(statements, "SET GLOBAL super_read_only = ON") {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.80s: %w", s, err)
		}
	}
	return nil
}

// One changed row among ten million is found under load, and what that costs
// the writers is measured: the audit is halted for five seconds every ten, and the
// writers' commits are counted in both kinds of window. It takes minutes and
// 4 GB of disk, so PERDURE_BIG=1 asks for it. With another number there are so
// many rows, and the writers write as fast as they can instead of 220 times a
// second: then whatever the audit takes is taken from them.
func TestOneChangedRowAmongTenMillionIsFound(t *testing.T) {
	rows, err := strconv.Atoi(os.Getenv("PERDURE_BIG"))
	if err != nil {
		t.Skip("takes minutes and 4 GB of disk; PERDURE_BIG=1 runs it")
	}
	writers, gap := 3, time.Microsecond
	if rows == 1 {
		rows, writers, gap = 10_000_000, 11, 150*time.Millisecond
	}
	began := time.Now()
	g := startGroup(t, map[string]string{"innodb_buffer_pool_size": "512M", "innodb_redo_log_capacity": "512M"}, func(db *sql.DB) error { return fill(db, rows) })
	t.Logf("%d rows on three members after %s", rows, time.Since(began).Round(time.Second))
	row := rows/4*3 + 4321
	behind(t, g.members[2], fmt.Sprintf("UPDATE big.t SET price = price + 0.01 WHERE id = %d", row))

	// Writers leave that row alone: a write would repair it.
	l := g.load(t, writers, gap, row-1, "big.t")
	var sums [2]struct {
		commits int64
		took    time.Duration
		windows int
	}
	since, commits := time.Now(), int64(0)
	turn := func(which int) {
		sums[which].commits += l.commits.Load() - commits
		sums[which].took += time.Since(since)
		sums[which].windows++
		since, commits = time.Now(), l.commits.Load()
	}
	if err := pause.For(t.Context(), 3*bigWindow); err != nil { // warm
		t.Fatal(err)
	}
	since, commits = time.Now(), l.commits.Load()
	a := g.auditor(t, func(c *consistency.Config) {
		c.BusyShare = 0 // the default: what it costs there is what is measured
		c.Progress = func(p consistency.Progress) {
			if time.Since(since) < bigWindow {
				return
			}
			turn(1)
			t.Logf("%9d rows, %d found", p.Rows, p.Found)
			_ = pause.For(t.Context(), bigWindow/2)
			turn(0)
		}
	})
	began = time.Now()
	r := audit(t, a, consistency.Scope{Schemas: []string{"big"}})
	rate := func(i int) float64 { return float64(sums[i].commits) / sums[i].took.Seconds() }
	loss := 100 * (1 - rate(1)/rate(0))
	t.Logf("audit of %d rows: %s, of which halted %s; commits/s without it %.1f (%d windows), with it %.1f (%d windows): writers lose %.1f %%",
		r.Rows, time.Since(began).Round(time.Second), sums[0].took.Round(time.Second), rate(0), sums[0].windows, rate(1), sums[1].windows, loss)
	for _, d := range r.Differences {
		t.Log(d.Text, d.Members)
	}
	for _, m := range r.Remarks {
		t.Log(m.Text)
	}
	if len(r.Differences) != 1 || r.Differences[0].Key != fmt.Sprintf("`id` = %d", row) || fmt.Sprint(r.Differences[0].Odd, r.Differences[0].Columns) != "[m3] [price]" {
		t.Errorf("%d differences, want that row alone", len(r.Differences))
	}
	if loss > 5 {
		t.Errorf("writers lose %.1f %%", loss)
	}
}
