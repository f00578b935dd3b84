package node_test

import (
	"context"
	"database/sql"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysqltest"
)

// writers write rows with unique ids through every server that takes them, one
// connection a server, and remember which were acknowledged.
type writers struct {
	stop func()
	mu   sync.Mutex
	ids  []int64
}

var lastRow atomic.Int64

// startWriters writes until stop, at most every pause on each server. Errors
// are expected: servers are away, read-only, in no group.
func startWriters(t *testing.T, members []*mysqltest.Member, pause time.Duration) *writers {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &writers{}
	var all sync.WaitGroup
	for _, m := range members {
		db := m.App(t)
		db.SetMaxOpenConns(1)
		all.Go(func() { w.write(ctx, db, pause) })
	}
	w.stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(w.stop)
	return w
}

func (w *writers) write(ctx context.Context, db *sql.DB, pause time.Duration) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for ctx.Err() == nil {
		id := lastRow.Add(1)
		limited, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := db.ExecContext(limited, "insert into story.rows_written values (?)", id)
		cancel()
		if err == nil {
			w.mu.Lock()
			w.ids = append(w.ids, id)
			w.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// acked are the rows that were acknowledged so far.
func (w *writers) acked() []int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]int64(nil), w.ids...)
}

// table makes the table that writers write to.
func table(t *testing.T, m *mysqltest.Member) {
	t.Helper()
	run(t, m.App(t), "create database if not exists story", "create table if not exists story.rows_written (id bigint not null primary key)")
}
