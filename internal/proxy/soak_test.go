package proxy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/mysql/mysqld"
)

// soak is a load whose every transaction is accounted for: it reads, adds one to
// its session's counter, inserts a row of its own, and checks that each answer
// is the one to its question.
type soak struct {
	mu       sync.Mutex
	acked    map[int64]int // rows by session
	counts   []int64       // acknowledged transactions by session
	unknowns []int64
	rolled   int
	said     map[string][]time.Duration // errors by their text: when, from the mark
	mixed    atomic.Int64
	lost     []string // sessions that ended
	mark     atomic.Int64
	base     int64        // ids of this load are above it
	first    atomic.Int64 // first acknowledgement of what began after the mark
	stop     chan struct{}
	wg       sync.WaitGroup
}

func startSoak(t *testing.T, r *rig, sessions int) *soak {
	t.Helper()
	l := &soak{base: nextID.Add(1000), said: map[string][]time.Duration{}, acked: map[int64]int{}, counts: make([]int64, sessions), unknowns: make([]int64, sessions), stop: make(chan struct{})}
	for i := range sessions {
		c := r.conn(t, ReadWrite)
		exec(t, c, fmt.Sprintf("INSERT INTO soak_count VALUES (%d, 0)", l.base-int64(i)))
		l.wg.Go(func() {
			for l.one(c, i) {
				select {
				case <-l.stop:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	return l
}

func (l *soak) one(c *sql.Conn, session int) (goOn bool) {
	ctx := context.Background()
	id := nextID.Add(1)
	began := clock()
	err := func() error {
		tx, err := c.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		var echo int64
		if err := tx.QueryRowContext(ctx, "SELECT ? + 1", id).Scan(&echo); err != nil {
			return err
		} else if echo != id+1 {
			l.mixed.Add(1)
		}
		if _, err := tx.ExecContext(ctx, "UPDATE soak_count SET n = n + 1 WHERE id = ?", l.base-int64(session)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO soak_rows VALUES (?, ?)", id, session); err != nil {
			return err
		}
		return tx.Commit()
	}()
	var e *driver.MySQLError
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.said[err.Error()] = append(l.said[err.Error()], time.Duration(clock()-l.mark.Load()).Round(time.Millisecond))
	}
	switch {
	case err == nil:
		if m := l.mark.Load(); m != 0 && began > m {
			l.first.CompareAndSwap(0, clock()-m)
		}
		l.acked[id] = session
		l.counts[session]++
	case errors.As(err, &e) && (e.Number == 1213 || e.Number == 3101 || e.Number == 1180):
		l.rolled++
	case errors.As(err, &e) && (e.Number == 1053 || e.Number == 3100 || e.Number == 1290):
		l.unknowns[session]++
	default:
		l.lost = append(l.lost, fmt.Sprintf("session %d: %v", session, err))
		return false
	}
	return true
}

// direct writes to a member past the proxy, as fast as it answers: what a fault
// costs the group itself. The func ends it and says how long after the mark the
// write was acknowledged that waited longest, of those that began in the second
// after it: the group takes writes until the fault has come about.
func (l *soak) direct(t *testing.T, root *sql.DB) (end func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var longest, at int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			began := clock()
			_, err := root.ExecContext(ctx, "INSERT INTO test.soak_rows VALUES (?, -1)", nextID.Add(1))
			now, m := clock(), l.mark.Load()
			if err == nil && m != 0 && now > m && began < m+int64(time.Second) && now-began > longest {
				longest, at = now-began, now-m
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	return func() time.Duration {
		cancel()
		wg.Wait()
		return time.Duration(at)
	}
}

// judge stops the load and compares what was said with what is there.
func (l *soak) judge(t *testing.T, what string, root *sql.DB) (rolled, unknown int) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	there := map[int64]bool{}
	complete := func() bool {
		rows, err := root.QueryContext(t.Context(), "SELECT id FROM test.soak_rows WHERE id > ?", l.base)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var id int64
			if err := rows.Scan(&id); err != nil {
				t.Fatal(err)
			}
			there[id] = true
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		for id := range l.acked {
			if !there[id] {
				return false
			}
		}
		return true
	}
	missing, twice, done, n := 0, 0, 0, int64(0)
	for deadline := time.Now().Add(20 * time.Second); !complete() && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		continue // other members' transactions arrive a little later; lost ones never
	}
	for id := range l.acked {
		if !there[id] {
			missing++
		}
	}
	for i, acked := range l.counts {
		count, _ := strconv.ParseInt(ask(t, root, fmt.Sprintf("SELECT n FROM test.soak_count WHERE id = %d", l.base-int64(i))), 10, 64)
		if count < acked || count > acked+l.unknowns[i] {
			twice++
			t.Logf("session %d: %d acknowledged, %d unknown, counted %d", i, acked, l.unknowns[i], count)
		}
		n += acked
		unknown += int(l.unknowns[i])
		done += int(count - acked)
	}
	t.Logf("%s: %d committed, %d missing, %d counters wrong, %d rolled back, %d unknown (%d took effect), %d answers mixed up, %d sessions lost, first write %s", what,
		n, missing, twice, l.rolled, unknown, done, l.mixed.Load(), len(l.lost), time.Duration(l.first.Load()).Round(time.Millisecond))
	for text, at := range l.said {
		t.Logf("%s: %d times, %s to %s after the fault: %s", what, len(at), at[0], at[len(at)-1], text)
	}
	if missing > 0 || twice > 0 || l.mixed.Load() > 0 || len(l.lost) > 0 {
		t.Errorf("%s: something was lost, doubled or mixed up: %v", what, l.lost)
	}
	return l.rolled, unknown
}

// idler is a session that does nothing but keep its state.
type idler struct {
	c  *sql.Conn
	st *sql.Stmt
	id int
}

func idlers(t *testing.T, r *rig, n int) (out []idler) {
	t.Helper()
	for i := range n {
		c := r.conn(t, ReadWrite)
		exec(t, c, fmt.Sprintf("SET @x = %d", i))
		st, err := c.PrepareContext(t.Context(), "SELECT @x + ?")
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, idler{c, st, i})
	}
	return out
}

func stillWhole(t *testing.T, what string, all []idler) {
	t.Helper()
	lost := 0
	for _, s := range all {
		var v int
		if err := s.st.QueryRowContext(t.Context(), 1000).Scan(&v); err != nil || v != s.id+1000 {
			lost++
			t.Logf("%s: idle session %d: %d %v", what, s.id, v, err)
		}
	}
	if lost > 0 {
		t.Errorf("%s: %d idle sessions are not what they were", what, lost)
	}
}

func (r *rig) signal(t testing.TB, s syscall.Signal, members ...int) {
	t.Helper()
	for _, i := range members {
		if err := syscall.Kill(r.members[i].PID(), s); err != nil {
			t.Fatal(err)
		}
	}
}

// whole waits until the group has all its members.
func (r *rig) whole(t testing.TB) {
	t.Helper()
	until(t, 90*time.Second, "the group is whole", func() bool {
		n := 0
		for _, m := range r.table.Plan().Members {
			if m.Serves(0) && m.Serves(1) {
				n++
			}
		}
		return n == len(r.members)
	})
}

// comeBack starts a member and has it join again. Until the group has given it
// up, or for nine seconds, clients are on hold, as a node has it: under their
// writes the group can take a minute for that.
func (r *rig) comeBack(t testing.TB, i int) {
	t.Helper()
	if err := r.members[i].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	name, root := r.members[i].Name(), r.members[(i+1)%len(r.members)].Root(t)
	release := sync.OnceFunc(r.table.Hold())
	defer time.AfterFunc(9*time.Second, release).Stop()
	defer release()
	until(t, 120*time.Second, "the group has given "+name+" up", func() bool {
		return ask(t, root, "SELECT COUNT(*) FROM performance_schema.replication_group_members") == strconv.Itoa(len(r.members)-1)
	})
	release()
	r.join(t, i)
}

// busiest is the member most clients are at work on.
func (r *rig) busiest() (member, sessions int) {
	working := map[uint32]string{}
	for range 50 {
		for _, s := range r.proxy.Sessions() {
			if s.State != "idle" && s.Member != "" {
				working[s.ID] = s.Member
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	for i, m := range r.members {
		n := 0
		for _, on := range working {
			if on == m.Name() {
				n++
			}
		}
		if n > sessions {
			member, sessions = i, n
		}
	}
	return member, sessions
}

// TestFaultsUnderReadWriteLoad is the fault table: each fault is made
// PERDURE_FAULTS times (default once) under a load that is accounted for;
// PERDURE_FAULT names the only one to be made.
func TestFaultsUnderReadWriteLoad(t *testing.T) {
	t.Parallel()
	times, sessions, idle := 1, 16, 40
	if n, err := strconv.Atoi(os.Getenv("PERDURE_FAULTS")); err == nil {
		times, sessions, idle = n, 32, 200
	}
	r := group(t, 3)
	exec(t, r.members[0].Root(t), "CREATE TABLE test.soak_rows (id BIGINT PRIMARY KEY, session INT)", "CREATE TABLE test.soak_count (id INT PRIMARY KEY, n BIGINT)")
	calm := idlers(t, r, idle)
	// Each is made on the member v, and the one after it where it takes two.
	faults := []struct {
		name   string
		silent bool // no client may notice
		make   func(v int)
		mend   func(v int)
	}{
		{"drain", true, func(v int) {
			name := r.members[v].Name()
			if err := r.proxy.Drain(name); err != nil {
				t.Fatal(err)
			}
			until(t, 15*time.Second, name+" is empty", func() bool { return r.proxy.Drained(name) == 0 })
		}, func(v int) { r.proxy.Undrain(r.members[v].Name()) }},
		{"SIGTERM", false, func(v int) {
			if err := r.members[v].Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
		}, func(v int) { r.comeBack(t, v) }},
		{"SIGSTOP", false, func(v int) { r.signal(t, syscall.SIGSTOP, v); time.Sleep(4 * time.Second) }, func(v int) { r.signal(t, syscall.SIGCONT, v) }},
		{"kill -9", false, func(v int) {
			if err := r.members[v].Kill(mysqld.StayDown); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
		}, func(v int) { r.comeBack(t, v) }},
		{"quorum", false, func(v int) { r.signal(t, syscall.SIGSTOP, v, (v+1)%3); time.Sleep(4 * time.Second) }, func(v int) { r.signal(t, syscall.SIGCONT, v, (v+1)%3) }},
	}
	for round := range times {
		for _, f := range faults {
			if only := os.Getenv("PERDURE_FAULT"); only != "" && only != f.name {
				continue
			}
			l := startSoak(t, r, sessions)
			time.Sleep(time.Second)
			v, sessions := r.busiest()
			direct := l.direct(t, r.members[(v+2)%3].Root(t))
			t.Logf("%d %s: on %s, where %d of %d clients are", round, f.name, r.members[v].Name(), sessions, len(l.counts))
			l.mark.Store(clock())
			f.make(v)
			if f.name != "quorum" {
				stillWhole(t, f.name, calm)
			}
			f.mend(v)
			time.Sleep(time.Second)
			t.Logf("%d %s: past the proxy the group writes again after %s, on %s", round, f.name, direct().Round(time.Millisecond), r.members[(v+2)%3].Name())
			rolled, unknown := l.judge(t, fmt.Sprintf("%d %s", round, f.name), r.members[(v+2)%3].Root(t))
			if f.silent && rolled+unknown > 0 {
				t.Errorf("%s: clients saw %d errors", f.name, rolled+unknown)
			}
			r.whole(t)
			stillWhole(t, f.name, calm)
			if t.Failed() {
				t.FailNow()
			}
		}
	}
}
