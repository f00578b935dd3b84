package check_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/check"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysqltest"
)

func TestAFitServerIsRefusedNothing(t *testing.T) {
	t.Parallel()
	m := mysqltest.Start(t, 1)[0]
	f, found := look(t, admin(t, m))
	for _, one := range found {
		if one.Severity == check.Refuses {
			t.Errorf("%+v", one)
		}
	}
	if f.UUID == "" || f.ServerID != m.ID || f.Version.Compare(mysql.Oldest) < 0 || f.Variables["gtid_mode"] != "ON" ||
		f.Plugins["group_replication"] != "ACTIVE" || f.Tables != 0 || f.InGroup() {
		t.Errorf("facts: %+v", f)
	}
	if _, ok := f.Variables["group_replication_group_name"]; !ok {
		t.Error("the group's variables are missing in the facts")
	}

	root := m.Root(t)
	m.OpenForWrites(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *mysqltest.Member, *sql.DB)
	}{
		{"every missing grant is named, and its SQL repairs it", eachMissingGrant},
		{"rights through roles count while the roles are active", throughRoles},
		{"the printed account can do all the work", minimalAccount},
		{"a watcher can look while the server is offline", watcher},
		{"on RDS the procedures are what counts", onRDS},
		{"an account that sees no tables is told so", blind},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, m, root) })
	}
}

// account makes the account of the statements and gives its password.
func account(t *testing.T, root *sql.DB, user string, statements []string) (password string) {
	t.Helper()
	run(t, root, "DROP USER IF EXISTS "+user)
	var ignored string
	if err := root.QueryRowContext(t.Context(), statements[0]).Scan(&ignored, &ignored, &password, &ignored); err != nil {
		t.Fatalf("%s: %v", statements[0], err)
	}
	run(t, root, statements[1:]...)
	return password
}

var newest = mysql.Dialect{Version: mysql.Version{Major: 99}}

func eachMissingGrant(t *testing.T, m *mysqltest.Member, root *sql.DB) {
	d := mysql.Dialect{Version: version(t, m)}
	run(t, root, "UNINSTALL PLUGIN clone") // or nobody would miss the right to install it
	who := mysql.Account{User: "lacking", Host: "%"}
	statements := check.Grants(d, who)
	for _, statement := range statements[1:] {
		rights, rest, _ := strings.Cut(strings.TrimPrefix(statement, "GRANT "), " ON ")
		on, _, _ := strings.Cut(rest, " TO ")
		for right := range strings.SplitSeq(rights, ", ") {
			password := account(t, root, who.String(), statements)
			run(t, root, fmt.Sprintf("REVOKE %s ON %s FROM %s", right, on, who))
			_, found := look(t, server(t, m, who.User, password))
			lacks := of(found, check.Grant)
			one, named := lacks[right+" ON "+on]
			if len(lacks) != 1 || !named {
				t.Errorf("without %s on %s: %+v", right, on, lacks)
				continue
			}
			run(t, root, one.SQL)
			if _, found = look(t, server(t, m, who.User, password)); len(of(found, check.Grant)) != 0 {
				t.Errorf("after %s: %+v", one.SQL, found)
			}
		}
	}
}

func version(t *testing.T, m *mysqltest.Member) mysql.Version {
	t.Helper()
	d, err := admin(t, m).Dialect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d.Version
}

func throughRoles(t *testing.T, m *mysqltest.Member, root *sql.DB) {
	d := mysql.Dialect{Version: version(t, m)}
	role := mysql.Account{User: "keeper", Host: "%"}
	run(t, root, "DROP ROLE IF EXISTS 'keeper'", "CREATE ROLE 'keeper'")
	run(t, root, check.Grants(d, role)[1:]...)
	who := mysql.Account{User: "roled", Host: "%"}
	password := account(t, root, who.String(), check.Grants(d, who)[:1])
	run(t, root, "GRANT 'keeper' TO 'roled'")

	_, found := look(t, server(t, m, who.User, password))
	lacks := of(found, check.Grant)
	if one, ok := lacks["SHUTDOWN ON *.*"]; !ok || !strings.Contains(one.Text, "not active after login") {
		t.Errorf("with the role idle: %+v", lacks)
	}
	run(t, root, "SET DEFAULT ROLE ALL TO 'roled'")
	f, found := look(t, server(t, m, who.User, password))
	if len(of(found, check.Grant)) != 0 || f.ActiveRoles == "NONE" || len(f.Roles) == 0 {
		t.Errorf("with the role active: %+v, roles %q", found, f.Roles)
	}
}

// minimalAccount uses every verb of package mysql that needs no second server.
func minimalAccount(t *testing.T, m *mysqltest.Member, root *sql.DB) {
	who := mysql.Account{User: "least", Host: "%"}
	password := account(t, root, who.String(), check.Grants(newest, who))
	s := server(t, m, who.User, password)
	if _, found := look(t, s); len(of(found, check.Grant)) != 0 {
		t.Errorf("%+v", found)
	}
	ctx := t.Context()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"read its report", func() error { _, err := s.Report(ctx); return err }},
		{"close it", func() error { return s.SetReadOnly(ctx) }},
		{"install plugins, clone is missing", func() error { return s.InstallPlugins(ctx) }},
		{"persist", func() error { return s.Persist(ctx, map[string]string{"group_replication_member_weight": "50"}) }},
		{"open it", func() error { return s.SetWritable(ctx) }},
		{"make the recovery account", func() error { return s.SetRecoveryAccount(ctx, mysql.Account{User: "rec", Host: "%"}, "Rec-0-very") }},
		{"use the recovery account", func() error { return s.UseRecoveryAccount(ctx, "rec", "Rec-0-very") }},
		{"drop the recovery account", func() error { return s.DropAccount(ctx, mysql.Account{User: "rec", Host: "%"}) }},
		{"ask for a clone's progress", func() error { _, err := s.CloneProgress(ctx); return err }},
		{"go offline", func() error { return s.SetGlobal(ctx, map[string]string{"offline_mode": "ON"}) }},
		{"come back", func() error { return s.AcceptClients(ctx) }},
		{"leave", func() error { return s.Leave(ctx) }},
	} {
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
	}
	m.OpenForWrites(t)
}

func watcher(t *testing.T, m *mysqltest.Member, root *sql.DB) {
	who := mysql.Account{User: "watcher", Host: "%"}
	password := account(t, root, who.String(), check.WatcherGrants(newest, who))
	run(t, root, "SET GLOBAL offline_mode = ON")
	defer run(t, root, "SET GLOBAL offline_mode = OFF")
	if _, err := server(t, m, who.User, password).Report(t.Context()); err != nil {
		t.Error(err)
	}
}

// onRDS puts procedures of Amazon's names on the server.
func onRDS(t *testing.T, m *mysqltest.Member, root *sql.DB) {
	procedures := []string{"start", "stop", "create_user", "set_recovery_channel"}
	for _, p := range procedures {
		run(t, root, "CREATE PROCEDURE mysql.rds_group_replication_"+p+"() SELECT 1")
		defer run(t, root, "DROP PROCEDURE mysql.rds_group_replication_"+p)
	}
	who := mysql.Account{User: "tenant", Host: "%"}
	password := account(t, root, who.String(), check.Grants(mysql.Dialect{RDS: true}, who))
	f, found := look(t, server(t, m, who.User, password))
	for _, one := range found {
		if one.Severity == check.Refuses || one.SQL != "" {
			t.Errorf("%+v", one)
		}
	}
	run(t, root, "REVOKE EXECUTE ON PROCEDURE mysql.rds_group_replication_stop FROM 'tenant'")
	_, found = look(t, server(t, m, who.User, password))
	if lacks := of(found, check.Grant); !f.RDS || len(lacks) != 1 || lacks["EXECUTE ON PROCEDURE mysql.rds_group_replication_stop"].SQL == "" {
		t.Errorf("%t %+v", f.RDS, lacks)
	}
}

func blind(t *testing.T, m *mysqltest.Member, root *sql.DB) {
	run(t, root, "CREATE DATABASE unseen", "CREATE TABLE unseen.no_key (a INT)")
	defer run(t, root, "DROP DATABASE unseen")
	who := mysql.Account{User: "blind", Host: "%"}
	password := account(t, root, who.String(), check.WatcherGrants(newest, who))
	n, found := schema(t, server(t, m, who.User, password), "")
	lacks := of(found, check.Grant)
	if n != 0 || len(lacks) != 2 || lacks["REFERENCES ON *.*"].Severity != check.Refuses {
		t.Errorf("%d tables, %+v", n, found)
	}
	for _, one := range lacks {
		run(t, root, one.SQL)
	}
	if n, found = schema(t, server(t, m, who.User, password), ""); n != 1 || len(found) != 1 || found[0].Kind != check.NoPrimaryKey {
		t.Errorf("with the rights: %d tables, %+v", n, found)
	}
}

func TestAnUnfitServerIsRepairedByWhatTheFindingsSay(t *testing.T) {
	t.Parallel()
	settings := map[string]string{
		"gtid_mode": "OFF", "enforce_gtid_consistency": "OFF", "log_replica_updates": "OFF",
		"replica_preserve_commit_order": "OFF", "binlog_row_image": "MINIMAL", "transaction_isolation": "SERIALIZABLE",
		"replica_parallel_workers": "1", "binlog_expire_logs_seconds": "3600",
		"sync_binlog": "0", "innodb_flush_log_at_trx_commit": "2",
	}
	m := mysqltest.Start(t, 1, mysqltest.Settings(settings))[0]
	s := admin(t, m)
	_, found := look(t, s)
	want := map[string]check.Severity{
		"enforce_gtid_consistency": check.Refuses, "gtid_mode": check.Refuses, "log_replica_updates": check.Refuses,
		"replica_preserve_commit_order": check.Refuses, "sync_binlog": check.Warns, "innodb_flush_log_at_trx_commit": check.Warns,
		"binlog_row_image": check.Warns, "transaction_isolation": check.Warns, "replica_parallel_workers": check.Warns,
		"binlog_expire_logs_seconds": check.Warns, "sql_generate_invisible_primary_key": check.Warns,
	}
	if m.ID == 1 {
		want["server_id"] = check.Warns
	}
	root := m.Root(t)
	root.SetMaxOpenConns(1)
	run(t, root, "SET GLOBAL offline_mode = OFF")
	for _, one := range found {
		if want[one.Subject] != one.Severity || one.Member != m.Name() {
			t.Errorf("not expected: %+v", one)
		}
		delete(want, one.Subject)
		if one.SQL != "" {
			run(t, root, one.SQL)
		}
	}
	if len(want) != 0 {
		t.Errorf("not found: %v", want)
	}
	if err := m.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, found = look(t, s); len(of(found, check.ServerID)) != len(found) {
		t.Errorf("after the repairs: %+v", found)
	}
}

func TestAServerThatDoesNotAnswerIsAnError(t *testing.T) {
	t.Parallel()
	s, err := mysql.Open("m1", mysql.Login{Address: "127.0.0.1:1", User: "perdure", Password: "x"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, _, err = check.Server(t.Context(), s); err == nil || !strings.Contains(err.Error(), "m1 (127.0.0.1:1): connect") {
		t.Error(err)
	}
	if _, err = check.Schema(t.Context(), s, "", nil); err == nil {
		t.Error("Schema found nothing on a server that is not there")
	}
}
