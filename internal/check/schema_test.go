package check_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/check"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/topology"
)

// refused is Group Replication's answer to a write it does not take.
const refused = 3098

// What Schema reports is what a real member refuses, in both modes, and what
// Schema proposes makes the member take it.
func TestSchemaReportsWhatARealMemberRefuses(t *testing.T) {
	t.Parallel()
	m := mysqltest.Start(t, 1)[0]
	root := m.Root(t)
	root.SetMaxOpenConns(1) // the session settings below are meant
	m.OpenForWrites(t)
	who := mysql.Account{User: "least", Host: "%"}
	s := server(t, m, who.User, account(t, root, who.String(), check.Grants(newest, who)))

	makeSamples(t, root)
	formGroup(t, s)
	// Rows need not make sense: the group refuses before the engine looks.
	run(t, root, "USE `shop`", "SET SESSION sql_mode = ''")

	for _, mode := range []topology.Mode{topology.MultiPrimary, topology.SinglePrimary} {
		if mode == topology.SinglePrimary {
			if err := s.SwitchToSinglePrimary(t.Context(), uuid(t, root)); err != nil {
				t.Fatal(err)
			}
		}
		n, found := schema(t, s, mode)
		if n != len(samples) {
			t.Errorf("%s: %d tables, want %d", mode, n, len(samples))
		}
		got := kinds(found)
		for _, one := range samples {
			want := one.multi
			if mode == topology.SinglePrimary {
				want = one.single
			}
			if got["shop."+one.name] != want {
				t.Errorf("%s: %s is reported as %q, want %q", mode, one.name, got["shop."+one.name], want)
			}
			delete(got, "shop."+one.name)

			touches := one.touches != "" && (mode == topology.MultiPrimary || one.touches == "no_key")
			if says := refuses(t, root, one.name); says != (want != "" || touches) {
				t.Errorf("%s: the member refuses %s: %t, reported: %q", mode, one.name, says, want)
			}
		}
		if len(got) != 0 {
			t.Errorf("%s: nothing is wrong with %v", mode, got)
		}
	}

	if err := s.SwitchToMultiPrimary(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, found := schema(t, s, topology.MultiPrimary)
	for _, one := range found {
		run(t, root, one.SQL)
	}
	if _, found = schema(t, s, topology.MultiPrimary); len(found) != 0 {
		t.Errorf("after the repairs: %+v", found)
	}
	for _, one := range samples {
		if refuses(t, root, one.name) {
			t.Errorf("after the repairs the member refuses %s", one.name)
		}
	}
}

func makeSamples(t *testing.T, root *sql.DB) {
	t.Helper()
	run(t, root, "CREATE DATABASE shop", "USE shop", "SET SESSION foreign_key_checks = OFF", "SET SESSION sql_generate_invisible_primary_key = OFF")
	for _, one := range samples {
		run(t, root, "CREATE TABLE "+quoted(one.name)+" "+one.ddl)
	}
	run(t, root, "SET SESSION foreign_key_checks = ON",
		"CREATE TRIGGER log_it BEFORE INSERT ON triggers FOR EACH ROW INSERT INTO no_key (v) VALUES (1)",
		"CREATE VIEW a_view AS SELECT * FROM no_key",
		"CREATE TEMPORARY TABLE passing (v INT)",
		"CREATE EVENT later ON SCHEDULE EVERY 1 DAY DO INSERT INTO no_key (v) VALUES (1)")
}

// formGroup makes the server a group of its own.
func formGroup(t *testing.T, s *mysql.Server) {
	t.Helper()
	port, err := mysqld.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	for _, setting := range [][2]string{ // in this order
		{"group_name", "5ca1ab1e-0000-4000-8000-000000000001"},
		{"local_address", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))},
		{"single_primary_mode", "OFF"},
		{"enforce_update_everywhere_checks", "ON"},
	} {
		if err := s.SetGlobal(t.Context(), map[string]string{"group_replication_" + setting[0]: setting[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func uuid(t *testing.T, root *sql.DB) (id string) {
	t.Helper()
	if err := root.QueryRowContext(t.Context(), "SELECT @@server_uuid").Scan(&id); err != nil {
		t.Fatal(err)
	}
	return id
}

// refuses tells whether the group turns down any kind of write to the table.
func refuses(t *testing.T, root *sql.DB, table string) bool {
	t.Helper()
	says := false
	for _, write := range []string{"INSERT INTO %s () VALUES ()", "UPDATE %s SET v = v + 1 WHERE v = -7", "DELETE FROM %s WHERE v = -7"} {
		_, err := root.ExecContext(t.Context(), fmt.Sprintf(write, quoted(table)))
		switch number := mysql.Number(err); {
		case number == refused:
			says = true
		case err != nil && number == 0:
			t.Fatalf("%s: %v", table, err)
		case slices.Contains([]int{1031, 1062, 1364}, number):
			// The engine cannot do that, or the row makes no sense.
		case err != nil:
			t.Errorf(write+": %v", table, err)
		}
	}
	return says
}

// kinds gives the kinds of finding for each table, warnings aside.
func kinds(found []check.Finding) map[string]string {
	out := map[string]string{}
	for _, f := range found {
		if f.Severity == check.Refuses {
			out[f.Subject] = strings.TrimSpace(out[f.Subject] + " " + f.Kind)
		}
	}
	return out
}

func quoted(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func TestSchemaSeesThroughSettingsOfTheServer(t *testing.T) {
	t.Parallel()
	m := mysqltest.Start(t, 1, mysqltest.Settings(map[string]string{
		"show_gipk_in_create_table_and_information_schema": "OFF",
		"sql_generate_invisible_primary_key":               "ON",
		"sql_mode":                                         "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT",
		"max_execution_time":                               "1",
		"group_replication_transaction_size_limit":         "1000000",
	}))[0]
	root := m.Root(t)
	root.SetMaxOpenConns(1)
	m.OpenForWrites(t)
	run(t, root, "CREATE DATABASE shop", "USE shop", "CREATE TABLE hidden_key (v INT)", "CREATE TABLE isam (id INT PRIMARY KEY) ENGINE=MyISAM",
		"CREATE TABLE small (id INT PRIMARY KEY)", `CREATE TABLE "large é" (id INT PRIMARY KEY, v LONGBLOB)`,
		"CREATE TABLE parts (id INT PRIMARY KEY, v LONGBLOB) PARTITION BY HASH (id) PARTITIONS 4",
		`INSERT INTO "large é" VALUES (1, REPEAT('x', 3000000))`)
	for i := range 4 {
		run(t, root, fmt.Sprintf("INSERT INTO parts VALUES (%d, REPEAT('x', 400000))", i))
	}
	n, found := schema(t, admin(t, m), topology.MultiPrimary)
	if got := of(found, check.Engine); n != 5 || len(got) != 1 || got["shop.isam"].Severity != check.Refuses {
		t.Errorf("%d tables, %+v", n, found)
	}
	large := of(found, check.LargeTable)
	if len(large) != 2 || len(found) != 3 || large["shop.large é"].Severity != check.Warns || large["shop.parts"].Severity != check.Warns {
		t.Errorf("%+v", found)
	}
}

func TestManyTablesAreCheckedAtOnce(t *testing.T) {
	t.Parallel()
	count := 1500
	if testing.Short() {
		count = 300
	}
	manyTables(t, count)
}

// manyTables makes them, with one fault in a few of each hundred.
func manyTables(t testing.TB, count int) *mysqltest.Member {
	m := mysqltest.Start(t, 1)[0]
	root := m.Root(t)
	root.SetMaxOpenConns(1)
	m.OpenForWrites(t)
	run(t, root, "SET SESSION sql_log_bin = OFF", "SET GLOBAL innodb_flush_log_at_trx_commit = 0", "SET SESSION sql_generate_invisible_primary_key = OFF")
	want := 0
	for i := range count {
		if i%1000 == 0 {
			run(t, root, fmt.Sprintf("CREATE DATABASE big%d", i/1000), fmt.Sprintf("USE big%d", i/1000))
		}
		key, more, engine := "PRIMARY KEY", "", "InnoDB"
		switch i % 100 {
		case 50:
			key = "" // one in a hundred of each kind
			want++
		case 60:
			engine = "MyISAM"
			want++
		case 70:
			more = fmt.Sprintf(", FOREIGN KEY (a) REFERENCES t%d (id) ON DELETE CASCADE", i-1)
			want++
		case 80:
			more = fmt.Sprintf(", FOREIGN KEY (a) REFERENCES t%d (id)", i-1)
		}
		run(t, root, fmt.Sprintf(`CREATE TABLE t%d (id BIGINT NOT NULL %s, a BIGINT, b VARCHAR(100), c CHAR(9), d DATETIME, e DECIMAL(10,2),
			f INT, g INT, h TEXT, i JSON, KEY (a), KEY (b, c)%s) ENGINE=%s`, i, key, more, engine))
	}
	s := admin(t, m)
	n, found := schema(t, s, topology.MultiPrimary)
	if n != count || len(found) != want {
		t.Errorf("%d tables of %d, %d findings of %d", n, count, len(found), want)
	}
	enough := errors.New("enough")
	calls := 0
	_, err := check.Schema(t.Context(), s, topology.MultiPrimary, func(check.Finding) error {
		if calls++; calls == 2 {
			return enough
		}
		return nil
	})
	if err != enough || calls != 2 { //nolint:errorlint // it must come back as it is
		t.Errorf("after %d findings: %v", calls, err)
	}
	over, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the operator left"))
	if _, err := check.Schema(over, s, topology.MultiPrimary, nil); err == nil || !strings.Contains(err.Error(), "the operator left") {
		t.Errorf("in a context that is over: %v", err)
	}
	return m
}
