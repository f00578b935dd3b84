package proxy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/topology"
)

// inTrx finds the one session that is in a transaction, and the member it is on.
// A client has its answer a moment before its session is told to be no longer busy.
func (r *rig) inTrx(t *testing.T) (in SessionInfo, on *mysqltest.Member) {
	t.Helper()
	until(t, 10*time.Second, "a session is in a transaction", func() bool {
		for _, s := range r.proxy.Sessions() {
			for _, m := range r.members {
				if s.State == "transaction" && m.Name() == s.Member {
					in, on = s, m
				}
			}
		}
		return on != nil
	})
	return in, on
}

// away takes the member from under the session that is in a transaction, as a
// drain does once its limit is over.
func (r *rig) away(t *testing.T) (back func()) {
	t.Helper()
	s, m := r.inTrx(t)
	if err := r.proxy.Drain(m.Name()); err != nil {
		t.Fatal(err)
	}
	root := m.Root(t)
	until(t, 10*time.Second, "the transaction is cut off", func() bool {
		return ask(t, root, fmt.Sprintf("SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_id = %d", s.Thread)) == "0"
	})
	return func() { r.proxy.Undrain(m.Name()) }
}

func TestATransactionIsRunAgainWhereItsMemberIsNot(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r := group(t, 2, func(c *Config) { c.DrainLimit, c.MaxReplay = 100*time.Millisecond, 4096 })
	root := r.members[0].Root(t)
	exec(t, root, "CREATE TABLE test.r (id INT PRIMARY KEY, v VARCHAR(2000))", "CREATE TABLE test.auto (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(20))",
		"CREATE USER plain IDENTIFIED BY '"+testPassword+"'", "GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON test.* TO plain",
		"CREATE PROCEDURE test.p() INSERT INTO test.r VALUES (1000, 'p')")
	second := r.members[1].Root(t)
	both := func(q string) {
		t.Helper()
		follow(t, root, second)
		exec(t, root, q)
		follow(t, second, root)
	}
	for _, tt := range []struct {
		name   string
		before []string // outside of the transaction
		in     []string
		aside  string // done by somebody else before it is run again
		args   []any  // of the last statement of in, which is prepared for it
		lost   bool
	}{
		{name: "writes and what they say", in: []string{"INSERT INTO r VALUES (10, 'x')", "UPDATE r SET v = 'y' WHERE id = 10", "DELETE FROM r WHERE id = 1"}},
		{name: "reads that find the same", in: []string{"SELECT * FROM r WHERE id < 3 FOR UPDATE", "INSERT INTO r SELECT id + 10, v FROM r WHERE id < 3"}},
		{name: "an error the client knows of", in: []string{"INSERT INTO r VALUES (11, 'x')", "!INSERT INTO r VALUES (11, 'x')"}},
		{name: "savepoints", in: []string{"SAVEPOINT a", "INSERT INTO r VALUES (12, 'x')", "ROLLBACK TO a", "INSERT INTO r VALUES (13, 'x')"}},
		{name: "a statement prepared and closed", in: []string{"INSERT INTO r VALUES (?, ?)"}, args: []any{14, "x"}},
		{name: "without BEGIN", before: []string{"SET autocommit=0"}, in: []string{"INSERT INTO r VALUES (15, 'x')", "SELECT v FROM r WHERE id = 1"}},
		{name: "variables set before", before: []string{"SET @a = 16"}, in: []string{"INSERT INTO r VALUES (@a, 'x')", "SELECT @a"}},
		{name: "an id the server chose", in: []string{"INSERT INTO auto (v) VALUES ('x')", "INSERT INTO r SELECT 900, LAST_INSERT_ID()", "SELECT LAST_INSERT_ID()"}},
		{name: "several ids the server chose", in: []string{"INSERT INTO auto (v) VALUES ('x'), ('y')"}, lost: true},
		{name: "a read finds something else", in: []string{"SELECT v FROM r WHERE id = 2", "INSERT INTO r VALUES (20, 'x')"}, aside: "UPDATE test.r SET v = 'other' WHERE id = 2", lost: true},
		{name: "a write finds something else", in: []string{"UPDATE r SET v = 'z' WHERE v = 'two'"}, aside: "INSERT INTO test.r VALUES (3, 'two')", lost: true},
		{name: "the member says who it is", in: []string{"SELECT @@server_uuid"}, lost: true},
		{name: "a variable set inside", in: []string{"INSERT INTO r VALUES (21, 'x')", "SET @b = 1"}, lost: true},
		{name: "a variable set in passing", in: []string{"SELECT v FROM r WHERE (@b := id) = 1"}, lost: true},
		{name: "a procedure", in: []string{"CALL p()"}, lost: true},
		{name: "a lock", in: []string{"SELECT GET_LOCK('a', 1)"}, lost: true},
		{name: "too large", in: []string{"INSERT INTO r VALUES (22, '" + strings.Repeat("x", 1900) + "')", "INSERT INTO r VALUES (23, '" + strings.Repeat("x", 1900) + "')", "INSERT INTO r VALUES (24, '" + strings.Repeat("x", 1900) + "')"}, lost: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both("DELETE FROM test.r")
			both("INSERT INTO test.r VALUES (1, 'one'), (2, 'two')")
			c := r.conn(t, ReadWrite, func(c *driver.Config) { c.User = "plain" })
			exec(t, c, tt.before...)
			if len(tt.before) == 0 || !strings.Contains(tt.before[0], "autocommit") {
				exec(t, c, "BEGIN")
			}
			for i, q := range tt.in {
				q, wrong := strings.CutPrefix(q, "!")
				var args []any
				if i == len(tt.in)-1 {
					args = tt.args
				}
				rows, err := c.QueryContext(ctx, q, args...)
				if err == nil {
					for rows.Next() {
						continue
					}
					err = errors.Join(rows.Err(), rows.Close())
				}
				if (err != nil) != wrong {
					t.Fatalf("%s: %v", q, err)
				}
			}
			back := r.away(t)
			defer back()
			if tt.aside != "" {
				both(tt.aside)
			}
			_, err := c.ExecContext(ctx, "INSERT INTO r VALUES (999, 'last')")
			if tt.lost {
				var e *driver.MySQLError
				if !errors.As(err, &e) || e.Number != 1213 && e.Number != 1053 {
					t.Fatalf("the transaction cannot be run again; got %v", err)
				}
				if n := ask(t, root, "SELECT COUNT(*) FROM test.r WHERE id > 3"); n != "0" {
					t.Errorf("%s rows of a transaction that was given up", n)
				}
				return
			}
			if err != nil {
				t.Fatalf("the transaction did not go on: %v", err)
			}
			exec(t, c, "COMMIT")
			if n := ask(t, c, "SELECT COUNT(*) FROM r WHERE id = 999"); n != "1" {
				t.Errorf("%s last rows", n)
			}
		})
	}
	if n := r.proxy.m.replays.Load(); n != 8 {
		t.Errorf("%d transactions were run again", n)
	}
}

func TestATransactionEndedBySomebodyIsNotRunAgain(t *testing.T) {
	t.Parallel()
	r := group(t, 2)
	root := r.members[0].Root(t)
	exec(t, root, "CREATE TABLE test.r (id INT PRIMARY KEY)")
	follow(t, r.members[1].Root(t), root)
	c := r.conn(t, ReadWrite)
	exec(t, c, "BEGIN", "INSERT INTO r VALUES (1)")
	s, m := r.inTrx(t)
	r.still(t) // a member that is suspected now would be taken for one that is gone
	exec(t, m.Root(t), fmt.Sprintf("KILL %d", s.Thread))
	_, err := c.ExecContext(context.Background(), "INSERT INTO r VALUES (2)")
	var e *driver.MySQLError
	if !errors.As(err, &e) || e.Number != 1213 {
		t.Fatalf("want 1213, got %v", err)
	}
	if n := ask(t, c, "SELECT COUNT(*) FROM r"); n != "0" {
		t.Errorf("%s rows", n)
	}
}

// committed says of every commit that it took effect.
type committed struct{}

func (committed) Committed(context.Context, LostCommit) (bool, error) { return true, nil }

// Of a transaction that was settled its client has heard. The next request, which
// finds no member at all, is no reason to run it once more.
func TestATransactionThatWasSettledIsNotRunAgain(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := alone(t, func(c *Config) { c.HoldLimit, c.Outcomes = time.Second, committed{} })
	m := r.members[0]
	root := m.Root(t)
	exec(t, root, "CREATE TABLE test.r (id INT PRIMARY KEY)")
	c := r.conn(t, ReadWrite)
	exec(t, c, "BEGIN", "INSERT INTO r VALUES (1)")
	lock, err := root.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	exec(t, lock, "FLUSH TABLES WITH READ LOCK")
	done := make(chan error, 1)
	go func() {
		_, err := c.ExecContext(ctx, "COMMIT")
		done <- err
	}()
	until(t, 10*time.Second, "the COMMIT waits for the lock", func() bool {
		return ask(t, lock, "SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_info LIKE 'COMMIT%' AND processlist_state LIKE 'Waiting for%'") == "1"
	})
	if err := m.Kill(mysqld.StayDown); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal("a COMMIT that took effect:", err)
	}
	r.table.SetView(topology.View{Number: 2, Members: []topology.Member{{
		Instance: topology.Instance{Name: m.Name(), Address: m.Address()}, State: topology.Offline,
	}}})
	if _, err := c.ExecContext(ctx, "INSERT INTO r VALUES (2)"); err == nil {
		t.Fatal("a write without a member")
	}
	if n := r.proxy.m.differing.Load() + r.proxy.m.replays.Load(); n != 0 {
		t.Error("it was tried to run the transaction again")
	}
}

func TestOpenTransactionsOutliveTheirMember(t *testing.T) {
	t.Parallel()
	r := group(t, 3)
	root := r.members[0].Root(t)
	exec(t, root, "CREATE TABLE test.r (id INT PRIMARY KEY, v INT)")
	for _, m := range r.members[1:] {
		follow(t, m.Root(t), root)
	}
	var all []*sql.Conn
	for i := range 30 {
		c := r.conn(t, ReadWrite)
		exec(t, c, "BEGIN", fmt.Sprintf("INSERT INTO r VALUES (%d, 0)", i), fmt.Sprintf("UPDATE r SET v = v + 1 WHERE id = %d", i))
		all = append(all, c)
	}
	on := map[string]int64{}
	until(t, 10*time.Second, "all are in a transaction", func() bool {
		clear(on)
		n := 0
		for _, s := range r.proxy.Sessions() {
			if s.State == "transaction" {
				on[s.Member]++
				n++
			}
		}
		return n == len(all)
	})
	// Sessions are spread evenly only if no member was suspected meanwhile.
	most := 0
	for i, m := range r.members {
		if on[m.Name()] > on[r.members[most].Name()] {
			most = i
		}
	}
	stays := r.members[(most+1)%len(r.members)].Root(t)
	if err := r.members[most].Kill(mysqld.StayDown); err != nil {
		t.Fatal(err)
	}
	for i, c := range all {
		exec(t, c, fmt.Sprintf("UPDATE r SET v = v + 1 WHERE id = %d", i), "COMMIT")
	}
	// The last ones may have been committed on the other member that stays.
	until(t, 30*time.Second, "all is applied", func() bool {
		return ask(t, stays, "SELECT CONCAT(COUNT(*), ' ', SUM(v)) FROM test.r") == "30 60"
	})
	if n, want := r.proxy.m.replays.Load(), on[r.members[most].Name()]; n != want {
		t.Errorf("%d transactions were run again, %d had lost their member", n, want)
	}
}
