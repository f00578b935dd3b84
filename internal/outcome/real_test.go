package outcome

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/topology"
)

// What became of commits is asked in every way a member of one group of three
// can be lost. The parts come one after the other; each leaves the group whole.
func TestAGroupTellsWhatBecameOfCommitsThatItsLostMemberNeverAnswered(t *testing.T) {
	r := group(t, 3)
	t.Run("the barrier waits for what is still to apply", r.barrierWaits)
	t.Run("every way to write a transaction shows its mark on every member", r.marksStand)
	t.Run("a commit that a frozen member never saw", r.frozen)
	t.Run("a member that is well and has not committed", r.well)
	t.Run("commits under SIGTERM", func(t *testing.T) {
		r.storm(t, func() { _ = syscall.Kill(r.members[lost].PID(), syscall.SIGTERM) })
	})
	t.Run("commits under kill -9 while the others cannot apply", func(t *testing.T) {
		r.storm(t, func() {
			free := r.blockApply(t)
			_ = r.members[lost].Kill(mysqld.StayDown)
			time.AfterFunc(12*time.Second, free) // long after the member is out
		})
	})
	t.Run("commits while their member is frozen", func(t *testing.T) {
		r.storm(t, func() {
			if err := r.members[lost].Freeze(); err != nil {
				t.Error(err)
			}
			time.AfterFunc(12*time.Second, func() { _ = r.members[lost].Thaw() })
		})
	})
	t.Run("an account that may not read logs", r.denied)
	t.Run("commits under kill -9", func(t *testing.T) {
		r.storm(t, func() { _ = r.members[lost].Kill(mysqld.StayDown) })
	})
}

// lost is the member that is lost, stays one that is not.
const lost, stays = 1, 0

func (r *rig) barrierWaits(t *testing.T) {
	root, err := r.members[stays].Root(t).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	for _, s := range []string{"LOCK TABLES test.t READ"} {
		if _, err := root.ExecContext(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, r.members[lost].App(t), "INSERT INTO test.t VALUES (1, 'to apply')")
	l, err := dial(t.Context(), least(r.members[stays].Address()))
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	passed := make(chan error, 1)
	go func() { passed <- l.barrier() }()
	select {
	case err := <-passed:
		t.Fatal("it did not wait:", err)
	case <-time.After(time.Second):
	}
	if _, err := root.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	if err := <-passed; err != nil {
		t.Fatal(err)
	}
	if got := ask(t, r.members[stays].Root(t), "SELECT COUNT(*) FROM test.t WHERE id = 1"); got != "1" {
		t.Error("the barrier came back before the row was there")
	}
}

func (r *rig) marksStand(t *testing.T) {
	since := time.Now()
	root, err := r.members[lost].Root(t).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	do := func(statements ...string) {
		t.Helper()
		for _, s := range statements {
			if _, err := root.ExecContext(t.Context(), s); err != nil {
				t.Fatal(s, err)
			}
		}
	}
	do("BEGIN", "INSERT INTO test.t VALUES (10, 'x')", "SAVEPOINT perdure_plain", "COMMIT",
		"SET sql_mode = CONCAT(@@sql_mode, ',ANSI_QUOTES')",
		"BEGIN", "INSERT INTO test.t VALUES (11, 'x')", "SAVEPOINT perdure_ansi", "COMMIT",
		"SET sql_mode = DEFAULT, sql_quote_show_create = 0",
		"BEGIN", "INSERT INTO test.t VALUES (12, 'x')", "SAVEPOINT perdure_bare", "COMMIT", "SET sql_quote_show_create = 1",
		"BEGIN", "INSERT INTO test.t VALUES (13, REPEAT('x', 40000000))", "SAVEPOINT perdure_large", "COMMIT",
		"SET gtid_next = 'AUTOMATIC:some_tag'", "BEGIN", "INSERT INTO test.t VALUES (14, 'x')", "SAVEPOINT perdure_tagged", "COMMIT", "SET gtid_next = 'AUTOMATIC'",
		"SET binlog_transaction_compression = ON",
		"BEGIN", "INSERT INTO test.t VALUES (15, REPEAT('x', 3000000)), (16, SHA2('y', 512))", "SAVEPOINT perdure_compressed", "COMMIT",
		"SET binlog_transaction_compression = OFF",
		"BEGIN", "INSERT INTO test.t VALUES (17, 'x')", "SAVEPOINT perdure_undone", "ROLLBACK")
	hunts := make([]*hunt, len(r.members))
	for i := range hunts {
		hunts[i] = newHunt(Commit{Member: "none", Since: since})
	}
	look := func(want ...string) {
		t.Helper()
		after := ask(t, root, "SELECT @@GLOBAL.gtid_executed")
		for i, m := range r.members {
			if ask(t, m.Root(t), fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', 120)", after)) != "0" {
				t.Fatal("not applied")
			}
			h := hunts[i]
			clear(h.marks)
			began, from := time.Now(), h.end
			if _, err := r.finder.lookAt(t.Context(), h, r.instance(i)); err != nil {
				t.Fatal(err)
			}
			var got []string
			for mark := range h.marks {
				got = append(got, mark[len(Prefix):])
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", m.Name(), got, want)
			}
			if have := mustSet(t, m); !h.start.Union(h.read).Contains(have) {
				t.Errorf("%s: %s was not read", m.Name(), have.Subtract(h.start.Union(h.read)))
			}
			t.Logf("%s: read from %v to %v in %s", m.Name(), from, h.end, time.Since(began).Round(time.Millisecond))
		}
	}
	look("ansi", "bare", "compressed", "large", "plain", "tagged")
	look()
	do("BEGIN", "INSERT INTO test.t VALUES (20, 'x')", "SAVEPOINT perdure_later", "COMMIT")
	look("later")
	do("FLUSH BINARY LOGS", "BEGIN", "INSERT INTO test.t VALUES (21, 'x')", "SAVEPOINT perdure_behind", "COMMIT")
	look("behind")
	hunts[0].end = position{file: "no-such-file.000001", offset: 4}
	if s, err := r.finder.lookAt(t.Context(), hunts[0], r.instance(0)); err == nil {
		t.Errorf("read from a file that is not there: %+v", s)
	}
	do("BEGIN", "INSERT INTO test.t VALUES (22, 'x')", "SAVEPOINT perdure_again", "COMMIT")
	look("again")
}

func (r *rig) frozen(t *testing.T) {
	id := int64(1000)
	w := r.writer(t, lost, id)
	if err := w.insert(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.members[lost].Freeze(); err != nil {
		t.Fatal(err)
	}
	c := w.commits()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	_ = w.commit(ctx)
	cancel()
	began := time.Now()
	yes, err := r.finder.Committed(limited(t, 60*time.Second), c)
	if err != nil || yes {
		t.Errorf("committed %v, %v", yes, err)
	}
	t.Logf("No after %s", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	if yes, err := r.finder.Committed(limited(t, 60*time.Second), c); err != nil || yes {
		t.Errorf("asked again: committed %v, %v", yes, err)
	}
	t.Logf("asked again: %s", time.Since(began))
	if err := r.members[lost].Thaw(); err != nil {
		t.Fatal(err)
	}
	r.back(t)
	if r.has(t, id) {
		t.Error("the row is there")
	}
}

func (r *rig) well(t *testing.T) {
	c := Commit{Member: r.members[lost].Name(), Mark: Prefix + "never_sent", Since: time.Now()}
	began := time.Now()
	yes, err := r.finder.Committed(limited(t, 60*time.Second), c)
	if yes || !errors.Is(err, errAlive) {
		t.Errorf("committed %v, %v", yes, err)
	}
	t.Logf("nobody knows, after %s", time.Since(began).Round(time.Millisecond))
}

func (r *rig) denied(t *testing.T) {
	exec(t, r.members[stays].Root(t), "CREATE USER weak IDENTIFIED BY 'W3ak-pass'", "GRANT SELECT ON performance_schema.* TO weak")
	weak := New(r.watch, func(address string) mysql.Login {
		return mysql.Login{Address: address, User: "weak", Password: "W3ak-pass"}
	}, testLog())
	background(t, func(ctx context.Context) { _ = weak.Run(ctx) })
	since := time.Now().Add(time.Second)
	r.until(t, 10*time.Second, func(*topology.View) bool { return time.Now().After(since) })
	began := time.Now()
	_, err := weak.Committed(limited(t, 30*time.Second), Commit{Member: r.members[lost].Name(), Mark: Prefix + "x", Since: since})
	// Not that the member is well, which would be the answer after three seconds.
	_, refused := errors.AsType[*wire.ServerError](err)
	if took := time.Since(began); !refused || took > 20*time.Second {
		t.Errorf("%v, after %s", err, took)
	}
	t.Log(err)
}

// blockApply lets nothing be applied on the members that stay, until free.
func (r *rig) blockApply(t *testing.T) (free func()) {
	var held []*sql.Conn
	for i, m := range r.members {
		if i == lost {
			continue
		}
		c, err := m.Root(t).Conn(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.ExecContext(t.Context(), "LOCK TABLES test.t READ"); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	return func() {
		for _, c := range held {
			_, _ = c.ExecContext(context.Background(), "UNLOCK TABLES")
			_ = c.Close()
		}
	}
}

// storm lets many writers commit on one member, loses it, and compares what is
// told of every commit that was not answered with the rows that are there.
func (r *rig) storm(t *testing.T, lose func()) {
	const writers = 32
	base := time.Now().UnixNano()
	type result struct {
		id       int64
		answered bool // by an error of the server
		yes      bool
		err      error
		took     time.Duration
	}
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		results []result
		acked   atomic.Int64
		losing  atomic.Bool
	)
	ready := make(chan struct{}, writers)
	for i := range writers {
		wg.Go(func() {
			begun := sync.OnceFunc(func() { ready <- struct{}{} })
			defer begun() // also without a commit: it did not get in, on a busy machine
			for n := int64(0); ; n++ {
				w, err := r.open(lost, base+int64(i)*1_000_000+n)
				if err != nil {
					return
				}
				for ; ; n++ {
					w.id = base + int64(i)*1_000_000 + n
					if err := w.insert(context.Background()); err != nil {
						break
					}
					c := w.commits()
					err := w.commit(context.Background())
					if err == nil {
						acked.Add(1)
						begun()
						continue
					}
					if !losing.Load() {
						// A busy machine took longer than ReadTimeout. Nobody can tell what
						// became of a commit while its member is well.
						t.Log("before the member is lost:", err)
						w.close()
						return
					}
					began := time.Now()
					yes, err2 := r.finder.Committed(limited(t, 60*time.Second), c)
					_, answered := errors.AsType[*driver.MySQLError](err)
					mu.Lock()
					results = append(results, result{w.id, answered, yes, err2, time.Since(began)})
					mu.Unlock()
					w.close()
					return
				}
				w.close()
				return
			}
		})
	}
	for range writers {
		<-ready
	}
	until := acked.Load() + 50*writers
	for limit := time.Now().Add(20 * time.Second); acked.Load() < until && time.Now().Before(limit); {
		time.Sleep(10 * time.Millisecond)
	}
	before := time.Now()
	losing.Store(true)
	lose()
	wg.Wait()
	r.until(t, 60*time.Second, func(v *topology.View) bool { return len(v.In(topology.Online)) == 2 })
	r.until(t, 60*time.Second, func(v *topology.View) bool { // thawed, if it was frozen
		m, _ := v.Member(r.members[lost].Name())
		return m.Failure != topology.Silent
	})
	// A process that begins within three seconds of a commit cannot be told from
	// the one before, and a late question would have no answer.
	time.Sleep(time.Until(before.Add(4 * time.Second)))
	r.restart(t)
	var unknown, wrong, errs int
	var yes, no []time.Duration
	for _, x := range results {
		there := r.has(t, x.id)
		if x.answered {
			errs++
		}
		switch {
		case x.err != nil:
			unknown++
			t.Log("unknown:", x.err)
		case x.yes != there:
			wrong++
			t.Errorf("row %d: told committed %v, and it is there: %v", x.id, x.yes, there)
		case x.yes:
			yes = append(yes, x.took)
		default:
			no = append(no, x.took)
		}
	}
	t.Logf("%d answered; %d not (%d of them by an error): yes %s, no %s, unknown %d, wrong %d",
		acked.Load(), len(results), errs, spread(yes), spread(no), unknown, wrong)
	if unknown > 0 {
		t.Error("unknown:", unknown)
	}
	// Somebody asks when the member is back and all is forgotten but what was seen.
	r.finder.mu.Lock()
	clear(r.finder.hunts)
	r.finder.mu.Unlock()
	began := time.Now()
	late, err := r.finder.Committed(limited(t, 30*time.Second), Commit{Member: r.members[lost].Name(), Mark: Prefix + "never_sent", Since: before})
	if late || err != nil {
		t.Errorf("a late question: committed %v, %v", late, err)
	}
	t.Logf("a late question: No after %s", time.Since(began).Round(time.Millisecond))
}

func spread(took []time.Duration) string {
	if slices.Sort(took); len(took) == 0 {
		return "0"
	}
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	return fmt.Sprintf("%d (after %s to %s)", len(took), ms(took[0]), ms(took[len(took)-1]))
}

// has tells whether the members have a row; they have to agree.
func (r *rig) has(t *testing.T, id int64) bool {
	t.Helper()
	var first string
	for i, m := range r.members {
		n := ask(t, m.Root(t), fmt.Sprintf("SELECT COUNT(*) FROM test.t WHERE id = %d", id))
		if i == 0 {
			first = n
		} else if n != first {
			t.Errorf("row %d: the members do not agree", id)
		}
	}
	return first == "1"
}

// restart brings the lost member up and into the group again.
func (r *rig) restart(t *testing.T) {
	if err := r.members[lost].Stop(t.Context()); err != nil {
		t.Log(err)
	}
	if err := r.members[lost].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.back(t)
}

// back lets a member that the group expelled join again.
func (r *rig) back(t *testing.T) {
	t.Helper()
	r.until(t, 60*time.Second, func(v *topology.View) bool {
		m, _ := v.Member(r.members[lost].Name())
		return m.State == topology.Error || m.State == topology.Offline || m.State == topology.Isolated
	})
	s, err := openServer(r.instance(lost))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	_ = s.Leave(t.Context())
	r.join(t, lost)
	exec(t, r.members[lost].Root(t), "SET GLOBAL offline_mode = OFF")
	r.until(t, 60*time.Second, func(v *topology.View) bool { return len(v.In(topology.Online)) == 3 })
}

// writer is one client of one member.
type writer struct {
	member string
	id     int64
	db     *sql.DB
	conn   *sql.Conn
}

func (r *rig) open(i int, id int64) (*writer, error) {
	user, password := mysqltest.AppAccount()
	cfg, err := driver.ParseDSN(r.members[i].DSN(user, password))
	if err != nil {
		return nil, err
	}
	cfg.MultiStatements, cfg.TLSConfig = true, "skip-verify"
	cfg.ReadTimeout = 3 * time.Second // a frozen member breaks no connection
	cfg.Logger = &driver.NopLogger{}
	connector, err := driver.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	w := &writer{member: r.members[i].Name(), id: id, db: sql.OpenDB(connector)}
	if w.conn, err = w.db.Conn(context.Background()); err != nil {
		_ = w.db.Close()
		return nil, err
	}
	return w, nil
}

func (r *rig) writer(t *testing.T, i int, id int64) *writer {
	t.Helper()
	w, err := r.open(i, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}

func (w *writer) close() { _ = w.conn.Close(); _ = w.db.Close() }

func (w *writer) insert(ctx context.Context) error {
	_, err := w.conn.ExecContext(ctx, fmt.Sprintf("BEGIN; INSERT INTO test.t VALUES (%d, 'w')", w.id))
	return err
}

// commits is the commit that w is about to send.
func (w *writer) commits() Commit {
	return Commit{Member: w.member, Mark: fmt.Sprintf("%s%x", Prefix, w.id), Since: time.Now()}
}

func (w *writer) commit(ctx context.Context) error {
	_, err := w.conn.ExecContext(ctx, fmt.Sprintf("SAVEPOINT `%s%x`; COMMIT", Prefix, w.id))
	return err
}

func limited(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
