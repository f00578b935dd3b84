package node_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/mysqltest"
)

// load is a number of clients of the proxy. Each writes one row after the other
// on a connection of its own and remembers what it was told.
type load struct {
	stop  func()
	began time.Time
	idle  atomic.Bool // while it is set, no client begins a write

	mu     sync.Mutex
	acks   []ack // in the order of their acknowledgement
	faults []fault
	worst  time.Duration // the longest write that was acknowledged
}

type ack struct {
	at     time.Duration // since began
	id     int64
	client int
}

type fault struct {
	at   time.Duration
	text string
	lost bool // the connection was lost with it
}

var lastAck atomic.Int64

// startLoad runs clients against an address until stop or the end of the test.
// pause is what a client thinks between two writes.
func startLoad(t *testing.T, address string, clients int, pause time.Duration) *load {
	t.Helper()
	user, password := mysqltest.AppAccount()
	cfg := driver.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = user, password, "tcp", address, "story"
	cfg.Timeout = 10 * time.Second
	cfg.Logger = log.New(io.Discard, "", 0)
	connector, err := driver.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxIdleConns(0) // a client has its connection, and makes its own anew
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{began: time.Now()}
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { l.client(ctx, db, i, pause) })
	}
	l.stop = sync.OnceFunc(func() { cancel(); all.Wait(); _ = db.Close() })
	t.Cleanup(l.stop)
	return l
}

func (l *load) client(ctx context.Context, db *sql.DB, number int, pause time.Duration) {
	var c *sql.Conn
	defer func() {
		if c != nil {
			_ = c.Close()
		}
	}()
	for ctx.Err() == nil {
		if c == nil {
			var err error
			if c, err = db.Conn(ctx); err != nil {
				c = nil
				l.failed(ctx, "connect: "+err.Error(), true)
				rest(ctx, 100*time.Millisecond)
				continue
			}
		}
		if l.idle.Load() {
			rest(ctx, 20*time.Millisecond)
			continue
		}
		id := lastAck.Add(1)
		began := time.Now()
		// A write that began is waited for: its outcome counts.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		_, err := c.ExecContext(limited, "INSERT INTO acked (id) VALUES (?)", id)
		cancel()
		if err == nil {
			l.acked(id, number, time.Since(began))
		} else {
			_, told := errors.AsType[*driver.MySQLError](err)
			l.failed(ctx, err.Error(), !told)
			if !told {
				_ = c.Close()
				c = nil
			}
		}
		rest(ctx, pause)
	}
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (l *load) acked(id int64, client int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acks = append(l.acks, ack{time.Since(l.began), id, client})
	l.worst = max(l.worst, took)
}

func (l *load) failed(ctx context.Context, text string, lost bool) {
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, fault{time.Since(l.began), text, lost})
}

// now is the load's own clock.
func (l *load) now() time.Duration { return time.Since(l.began) }

// count is the number of acknowledgements from one moment until another.
func (l *load) count(from, to time.Duration) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.countLocked(from, to)
}

func (l *load) countLocked(from, to time.Duration) int {
	at := func(d time.Duration) int {
		i, _ := slices.BinarySearchFunc(l.acks, d, func(a ack, d time.Duration) int { return int(a.at - d) })
		return i
	}
	return at(to) - at(from)
}

// clients is how many clients had a write acknowledged between two moments.
func (l *load) clients(from, to time.Duration) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := map[int]bool{}
	for _, a := range l.acks {
		if a.at >= from && a.at < to {
			seen[a.client] = true
		}
	}
	return len(seen)
}

// rate is acknowledged writes a second.
func (l *load) rate(from, to time.Duration) float64 {
	return float64(l.count(from, to)) / (to - from).Seconds()
}

// total is the number of acknowledged writes so far.
func (l *load) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acks)
}

// gap is the longest time without any acknowledgement between two moments, and
// when it began.
func (l *load) gap(from, to time.Duration) (longest, at time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := from
	for _, a := range l.acks {
		if a.at < from {
			continue
		}
		if a.at > to {
			break
		}
		if a.at-last > longest {
			longest, at = a.at-last, last
		}
		last = a.at
	}
	if to-last > longest {
		longest, at = to-last, last
	}
	return longest, at
}

// errors are the failures since a moment, told apart and counted.
func (l *load) errors(since time.Duration) (n int, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kinds := map[string]int{}
	for _, f := range l.faults {
		if f.at >= since {
			n++
			kinds[f.text]++
		}
	}
	var out []string
	for k, v := range kinds {
		out = append(out, fmt.Sprintf("%d× %s", v, k))
	}
	slices.Sort(out)
	return n, strings.Join(out, "; ")
}

// back says when, after a fault, the rate was back at a share of base: the
// first moment from which the next second and the next three have it. It is
// negative if that did not come.
func (l *load) back(at, until time.Duration, base, share float64) time.Duration {
	const step = 100 * time.Millisecond
	for d := at; d+3*time.Second <= until; d += step {
		if l.rate(d, d+time.Second) >= share*base && l.rate(d, d+3*time.Second) >= share*base {
			return d - at
		}
	}
	return -1
}

// onEach checks that every acknowledged row is on every server exactly once.
func (l *load) onEach(t *testing.T, servers []*mysqltest.Member) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	caughtUp(t, servers)
	for _, m := range servers {
		have := map[int64]int{}
		rows, err := m.Root(t).QueryContext(t.Context(), "SELECT id FROM story.acked")
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				t.Fatal(err)
			}
			have[id]++
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		lost, twice := 0, 0
		for _, a := range l.acks {
			switch have[a.id] {
			case 0:
				lost++
			case 1:
			default:
				twice++
			}
		}
		if lost > 0 || twice > 0 {
			t.Errorf("%s: of %d acknowledged rows %d are lost and %d there more than once", m.Name(), len(l.acks), lost, twice)
		}
	}
	t.Logf("%d acknowledged rows, each exactly once on %d members", len(l.acks), len(servers))
}

// caughtUp waits until every server has what any of them has: a row is
// acknowledged before the others have applied it.
func caughtUp(t *testing.T, servers []*mysqltest.Member) {
	t.Helper()
	for _, from := range servers {
		var set string
		if err := from.Root(t).QueryRowContext(t.Context(), "SELECT @@GLOBAL.gtid_executed").Scan(&set); err != nil {
			t.Fatal(err)
		}
		for _, m := range servers {
			var late bool
			if err := m.Root(t).QueryRowContext(t.Context(), "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 60)", set).Scan(&late); err != nil || late {
				t.Fatalf("%s lacks what %s has after 60 s: %v", m.Name(), from.Name(), err)
			}
		}
	}
}
