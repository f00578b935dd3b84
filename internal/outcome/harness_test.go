package outcome

import (
	"context"
	"database/sql"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/topology"
	"github.com/perdure/perdure/internal/watch"
)

func TestMain(m *testing.M) { mysqltest.Main(m) }

// rig is a multi-primary group that is really watched.
type rig struct {
	members []*mysqltest.Member
	watch   *watch.Watcher
	finder  *Finder
	locals  []string
}

func login(in topology.Instance) mysql.Login {
	user, password := mysqltest.AdminAccount()
	return mysql.Login{Address: in.Address, User: user, Password: password}
}

// least signs in as somebody who may do what is needed and no more.
func least(address string) mysql.Login {
	return mysql.Login{Address: address, User: "least", Password: "L3ast-pass"}
}

func openServer(in topology.Instance) (*mysql.Server, error) { return mysql.Open(in.Name, login(in)) }

func (r *rig) instance(i int) topology.Instance {
	return topology.Instance{Name: r.members[i].Name(), Address: r.members[i].Address()}
}

// prepare gives a member that just started what its group needs it to know.
func (r *rig) prepare(t testing.TB, i int) *mysql.Server {
	t.Helper()
	s, err := openServer(r.instance(i))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for _, v := range [][2]string{
		{"group_name", "0c7c0e5e-0000-4000-8000-0000000000aa"},
		{"local_address", r.locals[i]},
		{"member_expel_timeout", "0"},
		{"group_seeds", strings.Join(r.locals, ",")},
		{"single_primary_mode", "OFF"},
		{"enforce_update_everywhere_checks", "ON"},
		{"start_on_boot", "OFF"},
		{"recovery_get_public_key", "ON"},
	} {
		if err := s.SetGlobal(t.Context(), map[string]string{"group_replication_" + v[0]: v[1]}); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, r.members[i].Root(t), "SET GLOBAL max_connections=1000",
		"CHANGE REPLICATION SOURCE TO SOURCE_USER='rpl', SOURCE_PASSWORD='R3plica-pass' FOR CHANNEL 'group_replication_recovery'")
	return s
}

func (r *rig) join(t testing.TB, i int) {
	t.Helper()
	if err := r.prepare(t, i).Join(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func group(t testing.TB, n int, options ...mysqltest.Option) *rig {
	t.Helper()
	r := &rig{members: mysqltest.Start(t, n, options...)}
	var instances []topology.Instance
	for i := range r.members {
		port, err := mysqld.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		r.locals = append(r.locals, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		instances = append(instances, r.instance(i))
	}
	if err := r.prepare(t, 0).Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	exec(t, r.members[0].Root(t), "CREATE USER rpl IDENTIFIED BY 'R3plica-pass'",
		"GRANT REPLICATION SLAVE, CONNECTION_ADMIN, BACKUP_ADMIN, GROUP_REPLICATION_STREAM ON *.* TO rpl",
		"CREATE USER least IDENTIFIED BY 'L3ast-pass'", "GRANT REPLICATION SLAVE ON *.* TO least", "GRANT SELECT ON performance_schema.* TO least",
		"CREATE DATABASE test", "CREATE TABLE test.t (id BIGINT PRIMARY KEY, v LONGTEXT)")
	for i := 1; i < n; i++ {
		r.join(t, i)
	}
	r.watch = watch.New(openServer, slog.New(slog.DiscardHandler))
	r.watch.Watch(topology.Expect{Cluster: "test"}, instances)
	background(t, func(ctx context.Context) { _ = r.watch.Run(ctx) })
	r.finder = New(r.watch, least, testLog())
	background(t, func(ctx context.Context) { _ = r.finder.Run(ctx) })
	r.until(t, 60*time.Second, func(v *topology.View) bool { return len(v.In(topology.Online)) == n })
	return r
}

// background runs f until the end of the test and waits for it.
func background(t testing.TB, f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func (r *rig) until(t testing.TB, limit time.Duration, ok func(*topology.View) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if v, err := r.watch.Until(ctx, ok); err != nil {
		t.Fatalf("%v: %+v", err, v.Members)
	}
}

func exec(t testing.TB, db *sql.DB, stmts ...string) {
	t.Helper()
	for _, s := range stmts {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func ask(t testing.TB, db interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, query string,
) (s string) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&s); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return s
}

func testLog() *slog.Logger {
	level := slog.LevelWarn
	if os.Getenv("PERDURE_TEST_DEBUG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

func mustSet(t testing.TB, m *mysqltest.Member) gtid.Set {
	t.Helper()
	return gtid.MustParse(ask(t, m.Root(t), "SELECT @@GLOBAL.gtid_executed"))
}
