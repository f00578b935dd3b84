package proxy

import (
	"context"
	"database/sql"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Many sessions with prepared statements leave a member at once.
func TestADrainMovesManySessionsWithoutAnError(t *testing.T) {
	t.Parallel()
	n := 150
	if os.Getenv("PERDURE_LONG") != "" {
		n = 1000
	}
	r := group(t, 2, func(c *Config) { c.MaxPerMember = 2000 })
	exec(t, openDB(t, r.dsn(ReadWrite)), "CREATE TABLE herd (id INT PRIMARY KEY, v INT)", "INSERT INTO herd VALUES (1, 1)")
	var stmts []*sql.Stmt
	for range n {
		c := r.conn(t, ReadWrite)
		exec(t, c, "SET @a = 1, @b = 'two'")
		st, err := c.PrepareContext(context.Background(), "SELECT v + ? FROM herd WHERE id = @a")
		if err != nil {
			t.Fatal(err)
		}
		stmts = append(stmts, st)
	}
	var errs atomic.Int64
	var mu sync.Mutex
	var stalls []time.Duration
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, st := range stmts {
		wg.Go(func() {
			worst := time.Duration(0)
			for {
				select {
				case <-stop:
					mu.Lock()
					stalls = append(stalls, worst)
					mu.Unlock()
					return
				case <-time.After(250 * time.Millisecond):
				}
				began := time.Now()
				var v int
				if err := st.QueryRow(1).Scan(&v); err != nil || v != 2 {
					errs.Add(1)
					t.Error(v, err)
				}
				worst = max(worst, time.Since(began))
			}
		})
	}
	time.Sleep(time.Second)
	before := r.proxy.Drained("m1")
	began := time.Now()
	if err := r.proxy.Drain("m1"); err != nil {
		t.Fatal(err)
	}
	for r.proxy.Drained("m1") > 0 && time.Since(began) < 30*time.Second {
		time.Sleep(10 * time.Millisecond)
	}
	empty, left := time.Since(began), r.proxy.Drained("m1")
	time.Sleep(1500 * time.Millisecond)
	close(stop)
	wg.Wait()
	slices.Sort(stalls)
	if left > 0 || errs.Load() > 0 {
		t.Errorf("%d sessions are still there, %d errors", left, errs.Load())
	}
	if p99 := stalls[n*99/100]; os.Getenv("PERDURE_LONG") != "" && p99 > time.Second {
		t.Errorf("one session in a hundred waited %s or longer", p99)
	}
	t.Logf("%d of %d sessions moved, member empty after %s, %d errors, worst request of a session: p50 %s p99 %s max %s", before, n, empty, errs.Load(),
		stalls[n/2], stalls[n*99/100], stalls[n-1])
}
