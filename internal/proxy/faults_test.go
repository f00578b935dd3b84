package proxy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
)

// load is a set of sessions that insert in transactions and count what they were
// told.
type load struct {
	acked, rolledBack, unknown, other atomic.Int64
	slowest                           atomic.Int64
	mu                                sync.Mutex
	known                             map[int64]bool // acknowledged ids
	doubtful                          map[int64]bool // ids with an unknown outcome
	lastOther                         string
	stop                              chan struct{}
	wg                                sync.WaitGroup
}

var nextID atomic.Int64

func startLoad(t *testing.T, r *rig, sessions int) *load {
	t.Helper()
	l := &load{known: map[int64]bool{}, doubtful: map[int64]bool{}, stop: make(chan struct{})}
	for range sessions {
		c := r.conn(t, ReadWrite)
		l.wg.Go(func() { l.work(c) })
	}
	return l
}

func (l *load) work(c *sql.Conn) {
	ctx := context.Background()
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		time.Sleep(10 * time.Millisecond) // members, proxy and clients share a few cores
		id := nextID.Add(2)
		began := time.Now()
		err := func() error {
			tx, err := c.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			for i := range int64(2) {
				if _, err := tx.ExecContext(ctx, "INSERT INTO load_t VALUES (?, ?)", id+i, "x"); err != nil {
					_ = tx.Rollback()
					return err
				}
			}
			return tx.Commit()
		}()
		for took := int64(time.Since(began)); ; {
			old := l.slowest.Load()
			if took <= old || l.slowest.CompareAndSwap(old, took) {
				break
			}
		}
		var e *driver.MySQLError
		l.mu.Lock()
		switch {
		case err == nil:
			l.known[id] = true
			l.acked.Add(1)
		case errors.As(err, &e) && (e.Number == 1213 || e.Number == 3101):
			l.rolledBack.Add(1)
		case errors.As(err, &e) && e.Number == 1053, errors.As(err, &e) && e.Number == 3100:
			l.doubtful[id] = true
			l.unknown.Add(1)
		default:
			l.other.Add(1)
			l.lastOther = err.Error()
			l.mu.Unlock()
			return // the session is gone
		}
		l.mu.Unlock()
	}
}

func (l *load) end(t *testing.T, what string, root *sql.DB) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	missing, torn := 0, 0
	for id := range l.known {
		// Other members' transactions arrive a little later; lost ones never.
		there := func() bool {
			return ask(t, root, fmt.Sprintf("SELECT COUNT(*) FROM test.load_t WHERE id IN (%d,%d)", id, id+1)) == "2"
		}
		for deadline := time.Now().Add(15 * time.Second); !there(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) || missing > 0 {
				missing++
				break
			}
		}
	}
	for id := range l.doubtful {
		if n := ask(t, root, fmt.Sprintf("SELECT COUNT(*) FROM test.load_t WHERE id IN (%d,%d)", id, id+1)); n == "1" {
			torn++
		}
	}
	t.Logf("%s: %d committed, %d missing, %d rolled back (1213), %d unknown, %d other, slowest transaction %s %s", what,
		l.acked.Load(), missing, l.rolledBack.Load(), l.unknown.Load(), l.other.Load(), time.Duration(l.slowest.Load()).Round(time.Millisecond), l.lastOther)
	if missing > 0 || torn > 0 {
		t.Errorf("%s: %d acknowledged transactions are missing, %d are torn", what, missing, torn)
	}
	if l.other.Load() > 0 {
		t.Errorf("%s: a session was lost: %s", what, l.lastOther)
	}
}
