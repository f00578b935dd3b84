package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
)

// Every class is met for real: the errors come from a server that was brought
// into the state that causes them.
func TestErrorsOfAServerAreSortedByWhatToDo(t *testing.T) {
	t.Parallel()
	m := mysqltest.Start(t, 1)[0]
	m.OpenForWrites(t)
	root := m.Root(t)
	exec := func(db interface {
		ExecContext(context.Context, string, ...any) (sql.Result, error)
	}, q string,
	) error {
		_, err := db.ExecContext(t.Context(), q)
		return err
	}
	must := func(q string) {
		t.Helper()
		if err := exec(root, q); err != nil {
			t.Fatal(q, err)
		}
	}
	must("CREATE DATABASE c")
	must("CREATE TABLE c.t (id INT PRIMARY KEY, v INT NOT NULL, CHECK (v < 100))")
	must("INSERT INTO c.t VALUES (1, 1), (2, 2)")
	conn := func() *sql.Conn {
		c, err := root.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	expect := func(name string, err error, number int, class mysql.Class) {
		t.Helper()
		if mysql.Number(err) != number || mysql.Classify(err) != class {
			t.Errorf("%s: number %d, class %s, expected %d and %s (%v)", name, mysql.Number(err), mysql.Classify(err), number, class, err)
		}
	}
	expect("nothing", nil, 0, mysql.Fine)
	expect("duplicate key", exec(root, "INSERT INTO c.t VALUES (1, 1)"), 1062, mysql.Statement)
	expect("syntax", exec(root, "INSERT INTO"), 1064, mysql.Statement)
	expect("check", exec(root, "UPDATE c.t SET v = 100"), 3819, mysql.Statement)
	expect("no table", exec(root, "INSERT INTO c.nosuch VALUES (1)"), 1146, mysql.Schema)
	expect("no column", exec(root, "UPDATE c.t SET nosuch = 1"), 1054, mysql.Schema)
	expect("no right", exec(m.App(t), "GRANT ALL ON *.* TO app"), 1045, mysql.Schema)

	a, b := conn(), conn()
	for _, c := range []*sql.Conn{a, b} {
		if err := exec(c, "SET innodb_lock_wait_timeout = 1"); err != nil {
			t.Fatal(err)
		}
		if err := exec(c, "BEGIN"); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(exec(a, "UPDATE c.t SET v = 5 WHERE id = 1"), exec(b, "UPDATE c.t SET v = 5 WHERE id = 2")); err != nil {
		t.Fatal(err)
	}
	expect("lock wait", exec(b, "UPDATE c.t SET v = 6 WHERE id = 1"), 1205, mysql.Transient)
	expect("NOWAIT", exec(b, "SELECT * FROM c.t WHERE id = 1 FOR UPDATE NOWAIT"), 3572, mysql.Transient)
	for _, c := range []*sql.Conn{a, b} {
		if err := exec(c, "SET innodb_lock_wait_timeout = 20"); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 2)
	go func() { done <- exec(a, "UPDATE c.t SET v = 7 WHERE id = 2") }()
	go func() { done <- exec(b, "UPDATE c.t SET v = 7 WHERE id = 1") }()
	err := errors.Join(<-done, <-done)
	expect("deadlock", err, 1213, mysql.Conflict)
	_ = errors.Join(exec(a, "ROLLBACK"), exec(b, "ROLLBACK"))

	if err := exec(a, "SET max_execution_time = 50"); err != nil {
		t.Fatal(err)
	}
	rows, err := a.QueryContext(t.Context(), "SELECT COUNT(*) FROM information_schema.columns x, information_schema.columns y, information_schema.columns z")
	if err == nil {
		for rows.Next() {
		}
		err = rows.Err()
		_ = rows.Close()
	}
	expect("too slow", err, 3024, mysql.Transient)

	must("SET GLOBAL super_read_only = ON")
	expect("read only", exec(m.App(t), "INSERT INTO c.t VALUES (3, 3)"), 1290, mysql.Transient)
	m.OpenForWrites(t)
	if err := exec(a, "SET SESSION TRANSACTION READ ONLY"); err != nil {
		t.Fatal(err)
	}
	expect("read-only transaction", exec(a, "INSERT INTO c.t VALUES (3, 3)"), 1792, mysql.Transient)
	must("SET GLOBAL max_connections = 1")
	var held []*sql.Conn
	app := m.App(t)
	for range 5 {
		c, cerr := app.Conn(t.Context())
		if cerr != nil {
			err = cerr
			break
		}
		held = append(held, c)
	}
	expect("too many connections", err, 1040, mysql.Transient)
	must("SET GLOBAL max_connections = 100")
	for _, c := range held {
		_ = c.Close()
	}

	c := conn()
	var id int
	if err := c.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id); err != nil {
		t.Fatal(err)
	}
	// killed runs a statement that takes long, and kills it once the server runs
	// it: a KILL QUERY that comes first is forgotten.
	killed := func(kill, q string) error {
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for n := 0; n == 0; time.Sleep(5 * time.Millisecond) {
				if ctx.Err() != nil {
					return // it ended by itself
				}
				_ = root.QueryRowContext(ctx, "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_ID = ? AND PROCESSLIST_INFO = ?", id, q).Scan(&n)
			}
			_, _ = root.ExecContext(t.Context(), fmt.Sprintf("%s %d", kill, id))
		})
		err := exec(c, q)
		stop()
		wg.Wait()
		return err
	}
	expect("interrupted", killed("KILL QUERY", "UPDATE c.t SET v = v WHERE id = 1 AND BENCHMARK(2000000000, SHA2('x', 256))"), 1317, mysql.Transient)
	// Another text: the list shows the first one until a little after its answer.
	err = killed("KILL", "UPDATE c.t SET v = v WHERE id = 2 AND BENCHMARK(2000000000, SHA2('x', 256))")
	if k := mysql.Classify(err); k != mysql.Lost && k != mysql.Transient {
		t.Errorf("killed: %s (%v)", k, err)
	}

	c = conn()
	if err := m.Kill(mysqld.StayDown); err != nil {
		t.Fatal(err)
	}
	expect("the server died", exec(c, "INSERT INTO c.t VALUES (9, 9)"), 0, mysql.Lost)
	expect("nobody listens", exec(m.App(t), "INSERT INTO c.t VALUES (9, 9)"), 0, mysql.Transient)
}
