package consistency_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/topology"
	"github.com/perdure/perdure/internal/watch"
)

func TestMain(m *testing.M) { mysqltest.Main(m) }

// auditor is the account of the audit: it may read, and nothing else.
const (
	auditor         = "auditor"
	auditorPassword = "a-9-Reads-only" //nolint:gosec // of servers that live for one test
)

// groupName is the same in all tests: groups that share no address never meet.
const groupName = "5e0f2f4e-7a0e-4d1c-9d59-3c0f5ad1a0b7"

// group is a real group of three members in multi-primary mode.
type group struct {
	members []*mysqltest.Member
	name    string
	watcher *watch.Watcher
}

// startGroup makes one and watches it. prepare runs on every server while it is
// still alone, and leaves no transaction behind.
func startGroup(t *testing.T, settings map[string]string, prepare func(*sql.DB) error) *group {
	t.Helper()
	began := time.Now()
	g := &group{members: mysqltest.Start(t, 3, mysqltest.Settings(settings)), name: groupName}
	if prepare != nil {
		errs := make(chan error, len(g.members))
		for _, m := range g.members {
			db := m.Root(t)
			go func() { errs <- prepare(db) }()
		}
		for range g.members {
			if err := <-errs; err != nil {
				t.Fatal("prepare a member: ", err)
			}
		}
	}
	t.Cleanup(func() { g.explain(t) })
	g.form(t)
	g.watch(t)
	t.Logf("a group of three after %s", time.Since(began).Round(time.Millisecond))
	return g
}

// explain says of a test that failed what the group itself has to complain of.
func (g *group) explain(t *testing.T) {
	if !t.Failed() {
		return
	}
	for _, m := range g.members {
		const ask = `SELECT COALESCE(GROUP_CONCAT(what SEPARATOR '; '), 'nothing') FROM (
			SELECT CONCAT('the group says ', MEMBER_STATE, ' of port ', MEMBER_PORT) AS what FROM performance_schema.replication_group_members
			UNION ALL SELECT CONCAT(CHANNEL_NAME, ' worker ', WORKER_ID, ': ', LAST_ERROR_MESSAGE) FROM performance_schema.replication_applier_status_by_worker WHERE LAST_ERROR_NUMBER <> 0
			UNION ALL SELECT CONCAT(CHANNEL_NAME, ' coordinator: ', LAST_ERROR_MESSAGE) FROM performance_schema.replication_applier_status_by_coordinator WHERE LAST_ERROR_NUMBER <> 0) x`
		var said string
		if err := m.Root(t).QueryRowContext(context.WithoutCancel(t.Context()), ask).Scan(&said); err != nil {
			said = err.Error()
		}
		t.Logf("%s (port %s): %s", m.Name(), m.Address(), said)
	}
}

func (g *group) form(t *testing.T) {
	t.Helper()
	addresses := make([]string, len(g.members))
	for i := range g.members {
		port, err := mysqld.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		addresses[i] = "127.0.0.1:" + strconv.Itoa(port)
	}
	for i, m := range g.members {
		run(t, m.Root(t),
			fmt.Sprintf("SET GLOBAL group_replication_group_name = '%s'", g.name),
			fmt.Sprintf("SET GLOBAL group_replication_local_address = '%s'", addresses[i]),
			fmt.Sprintf("SET GLOBAL group_replication_group_seeds = '%s'", strings.Join(addresses, ",")),
			"SET GLOBAL group_replication_single_primary_mode = OFF",
			"SET GLOBAL group_replication_enforce_update_everywhere_checks = ON",
			"SET GLOBAL group_replication_ssl_mode = REQUIRED",
			"SET GLOBAL group_replication_recovery_use_ssl = ON",
			"SET GLOBAL group_replication_exit_state_action = READ_ONLY",
		)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for i, m := range g.members {
		s := g.admin(t, m)
		var err error
		if i == 0 {
			err = s.Bootstrap(ctx)
			if err == nil {
				err = wait(ctx, func() bool { return one(t, m.Root(t), "SELECT @@read_only") == "0" })
			}
			if err == nil {
				err = s.SetRecoveryAccount(ctx, mysql.Account{User: "recovery", Host: "%"}, "r-9-Recovers")
			}
		} else {
			if err = s.UseRecoveryAccount(ctx, "recovery", "r-9-Recovers"); err == nil {
				err = s.Join(ctx)
			}
		}
		if err == nil {
			err = wait(ctx, func() bool {
				return one(t, m.Root(t), "SELECT COALESCE(MAX(MEMBER_STATE), '') FROM performance_schema.replication_group_members WHERE MEMBER_ID = @@server_uuid") == "ONLINE"
			})
		}
		if err != nil {
			t.Fatalf("%s: %v", m.Name(), err)
		}
	}
	run(t, g.members[0].Root(t),
		fmt.Sprintf("CREATE USER %s IDENTIFIED BY '%s'", auditor, auditorPassword),
		fmt.Sprintf("GRANT SELECT ON *.* TO %s", auditor))
}

func (g *group) watch(t *testing.T) {
	t.Helper()
	user, password := mysqltest.AdminAccount()
	g.watcher = watch.New(opener(user, password), slog.New(slog.DiscardHandler))
	var servers []topology.Instance
	for _, m := range g.members {
		servers = append(servers, topology.Instance{Name: m.Name(), Address: m.Address()})
	}
	// With the default one slow probe on a loaded machine makes a member SUSPECT,
	// and the audit leaves it out for a moment and remarks that.
	g.watcher.Watch(topology.Expect{Cluster: "audited", Group: g.name, Patience: 20 * time.Second}, servers)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); _ = g.watcher.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	limit, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if v, err := g.watcher.Until(limit, func(v *topology.View) bool { return len(v.In(topology.Online)) == 3 }); err != nil {
		t.Fatalf("not all members are seen online: %v: %+v", err, v)
	}
}

func opener(user, password string) func(topology.Instance) (*mysql.Server, error) {
	return func(in topology.Instance) (*mysql.Server, error) {
		return mysql.Open(in.Name, mysql.Login{Address: in.Address, User: user, Password: password})
	}
}

func (g *group) admin(t *testing.T, m *mysqltest.Member) *mysql.Server {
	t.Helper()
	user, password := mysqltest.AdminAccount()
	s, err := opener(user, password)(topology.Instance{Name: m.Name(), Address: m.Address()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// run runs statements as they are, one by one.
func run(t testing.TB, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.ExecContext(context.WithoutCancel(t.Context()), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// behind changes one member behind the back of its group.
func behind(t testing.TB, m *mysqltest.Member, statements ...string) {
	t.Helper()
	conn, err := m.Root(t).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, s := range append([]string{"SET SESSION sql_log_bin = 0"}, statements...) {
		if _, err := conn.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %s: %v", m.Name(), s, err)
		}
	}
}

func one(t testing.TB, db *sql.DB, query string) string {
	t.Helper()
	var s string
	if err := db.QueryRowContext(context.WithoutCancel(t.Context()), query).Scan(&s); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return s
}

func wait(ctx context.Context, ok func() bool) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// everywhere waits until every member executed what any of them has now. A
// group does not certify changes of schema against writes: a table that one
// member drops while it has another's writes to it still to apply stops its
// applier. So nothing is dropped before this.
func (g *group) everywhere(t testing.TB) {
	t.Helper()
	var sets []string
	for _, m := range g.members {
		sets = append(sets, one(t, m.Root(t), "SELECT @@GLOBAL.gtid_executed"))
	}
	set := strings.Join(sets, ",")
	for _, m := range g.members {
		if got := one(t, m.Root(t), fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', 60)", set)); got != "0" {
			t.Fatalf("%s does not follow", m.Name())
		}
	}
}
