package mysql

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
)

// procedures are those Amazon puts on its servers, with their names, parameters
// and effects. Each writes down that it was called.
func procedures() []string {
	const log = "INSERT INTO rds.calls (what) VALUES "
	return []string{
		"CREATE DATABASE rds", "CREATE TABLE rds.calls (n INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(200))",
		`CREATE PROCEDURE mysql.rds_group_replication_start(IN bootstrap INT) BEGIN
			SET SESSION sql_log_bin = 0; ` + log + `(CONCAT('start ', bootstrap));
			IF bootstrap THEN SET GLOBAL group_replication_bootstrap_group = ON; END IF;
			START GROUP_REPLICATION;
			SET GLOBAL group_replication_bootstrap_group = OFF; SET SESSION sql_log_bin = 1; END`,
		`CREATE PROCEDURE mysql.rds_group_replication_stop() BEGIN
			SET SESSION sql_log_bin = 0; ` + log + `('stop'); SET SESSION sql_log_bin = 1;
			STOP GROUP_REPLICATION; END`,
		`CREATE PROCEDURE mysql.rds_group_replication_create_user(IN pw VARCHAR(100)) BEGIN
			SET SESSION sql_log_bin = 0; ` + log + `(CONCAT('create_user ', pw)); SET SESSION sql_log_bin = 1;
			SET @s = CONCAT('CREATE USER IF NOT EXISTS rdsgrprepladmin IDENTIFIED BY ', QUOTE(pw)); PREPARE p FROM @s; EXECUTE p; END`,
		`CREATE PROCEDURE mysql.rds_group_replication_set_recovery_channel(IN pw VARCHAR(100)) BEGIN
			SET SESSION sql_log_bin = 0; ` + log + `(CONCAT('set_recovery_channel ', pw)); SET SESSION sql_log_bin = 1;
			SET @s = CONCAT('CHANGE REPLICATION SOURCE TO SOURCE_USER = ''rdsgrprepladmin'', SOURCE_PASSWORD = ', QUOTE(pw), ' FOR CHANNEL ''group_replication_recovery''');
			PREPARE p FROM @s; EXECUTE p; END`,
	}
}

// The same verbs, on a server that a cloud runs: groups are made by calling
// procedures, and settings are somebody else's.
func TestTheVerbsCallProceduresOnRDS(t *testing.T) {
	t.Parallel()
	port, err := mysqld.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	m := mysqltest.Start(t, 1, mysqltest.Settings(map[string]string{ // as a parameter group would have them
		"loose_group_replication_group_name":             groupName,
		"loose_group_replication_local_address":          fmt.Sprintf("127.0.0.1:%d", port),
		"loose_group_replication_single_primary_mode":    "OFF",
		"loose_group_replication_bootstrap_group":        "OFF",
		"loose_group_replication_member_expel_timeout":   "5",
		"loose_group_replication_autorejoin_tries":       "0",
		"loose_group_replication_exit_state_action":      "READ_ONLY",
		"loose_group_replication_recovery_use_ssl":       "ON",
		"loose_group_replication_communication_stack":    "XCOM",
		"loose_group_replication_paxos_single_leader":    "OFF",
		"loose_group_replication_transaction_size_limit": "1000000",
	}))[0]
	m.OpenForWrites(t)
	do(t, m, procedures()...)
	do(t, m, "reset binary logs and gtids")
	// The account there may call procedures and read; it is no administrator.
	do(t, m, "create user clouduser identified by 'Some-1-Password'", "grant select, replication client, replication slave, connection_admin on *.* to clouduser",
		"grant execute on mysql.* to clouduser", "set global super_read_only = on")
	s, err := Open("m1", Login{Address: m.Address(), User: "clouduser", Password: "Some-1-Password"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	d, err := s.Dialect(t.Context())
	if err != nil || !d.RDS {
		t.Fatalf("%+v, %v", d, err)
	}
	m.OpenForWrites(t) // the cloud's own procedures may write where clients may not
	if err := s.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Report(t.Context()); err != nil || r.GroupName != groupName {
		t.Fatalf("%+v, %v", r, err)
	} else if self, in := r.Self(); !in || self.State != "ONLINE" && self.State != "RECOVERING" {
		t.Errorf("after the bootstrap: %+v", r.Peers)
	}
	awaitWritable(t, m)
	if err := s.SetRecoveryAccount(t.Context(), Account{"ignored", "%"}, "Recovery-1"); err != nil {
		t.Error(err)
	}
	if err := s.UseRecoveryAccount(t.Context(), "ignored", "Recovery-1"); err != nil {
		t.Error(err)
	}
	if err := s.Leave(t.Context()); err != nil {
		t.Error(err)
	}
	if r, err := s.Report(t.Context()); err != nil {
		t.Error(err)
	} else if self, in := r.Self(); in && self.State != "OFFLINE" {
		t.Errorf("after leaving: %+v", r.Peers)
	}
	m.OpenForWrites(t)
	// Nobody is there to be joined: the call is what counts.
	if err := s.Join(t.Context()); err == nil {
		t.Error("it joined a group that nobody runs")
	}
	if got := value(t, m, "select group_concat(what order by n separator ', ') from rds.calls"); got !=
		"start 1, create_user Recovery-1, set_recovery_channel Recovery-1, stop, start 0" {
		t.Errorf("called: %s", got)
	}
	for name, verb := range map[string]func() error{
		"SetGlobal":       func() error { return s.SetGlobal(t.Context(), map[string]string{"max_connections": "9"}) },
		"Persist":         func() error { return s.Persist(t.Context(), map[string]string{"max_connections": "9"}) },
		"SetReadOnly":     func() error { return s.SetReadOnly(t.Context()) },
		"AcceptClients":   func() error { return s.AcceptClients(t.Context()) },
		"Clone":           func() error { return s.Clone(t.Context(), "127.0.0.1:1", "u", "p") },
		"PersistOnly":     func() error { return s.PersistOnly(t.Context(), map[string]string{"max_connections": "9"}) },
		"SetWritable":     func() error { return s.SetWritable(t.Context()) },
		"InstallPlugins":  func() error { return nilIfLoaded(s.InstallPlugins(t.Context())) },
		"ForgetBootstrap": func() error { return nilIfLoaded(s.ForgetBootstrap(t.Context())) },
	} {
		err := verb()
		managed, ok := errors.AsType[*ErrManaged](err)
		if errors.Is(err, errFine) {
			continue
		}
		if !ok || !strings.Contains(managed.Error(), "Amazon RDS") || managed.Instead == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var errFine = errors.New("there is nothing to do on RDS")

// nilIfLoaded marks verbs that have nothing to do where the cloud did it.
func nilIfLoaded(err error) error {
	if err == nil {
		return errFine
	}
	return err
}

func awaitWritable(t *testing.T, m *mysqltest.Member) {
	t.Helper()
	db := m.Root(t) // one for all looks: its connection stays until the test ends
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var closed bool
		if err := db.QueryRowContext(t.Context(), "select @@super_read_only").Scan(&closed); err != nil {
			t.Fatal(err)
		}
		if !closed {
			return
		}
		if time.Now().After(limit) {
			t.Fatal("the group does not open its first member")
		}
	}
}
