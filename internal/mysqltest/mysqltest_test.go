package mysqltest_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
)

func TestMain(m *testing.M) { mysqltest.Main(m) }

func TestThreeServersComeUpReadOnlyAndDifferent(t *testing.T) {
	t.Parallel()
	began := time.Now()
	members := mysqltest.Start(t, 3)
	t.Logf("three servers up after %s", time.Since(began))
	seen := map[string]string{}
	for _, m := range members {
		var uuid, readOnly string
		if err := m.Admin(t).QueryRow("select @@server_uuid, @@super_read_only").Scan(&uuid, &readOnly); err != nil {
			t.Fatal(err)
		}
		if readOnly != "1" {
			t.Errorf("%s has super_read_only %s", m.Name(), readOnly)
		}
		if other, twice := seen[uuid]; twice {
			t.Errorf("%s and %s have the same uuid", m.Name(), other)
		}
		seen[uuid] = m.Name()
		t.Logf("%s: data %.1f MB on disk, %d MB resident", m.Name(), onDisk(t, m.Dir()), resident(t, m.PID()))
	}
}

func TestAnApplicationWritesOnlyToAnOpenServer(t *testing.T) {
	t.Parallel()
	m := mysqltest.Start(t, 1, mysqltest.Settings(map[string]string{"max_connections": "77"}))[0]
	db := m.App(t)
	if _, err := db.Exec("create database shop"); err == nil {
		t.Error("a server that nobody opened took a write")
	}
	m.OpenForWrites(t)
	for _, statement := range []string{"create database shop", "create table shop.t (id int primary key)", "insert into shop.t values (1)"} {
		if _, err := db.Exec(statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	var n int
	if err := m.Root(t).QueryRow("select @@max_connections").Scan(&n); err != nil || n != 77 {
		t.Errorf("max_connections is %d (%v), want 77", n, err)
	}
}

func TestTheAdminAccountMayDoWhatAControllerDoes(t *testing.T) {
	t.Parallel()
	m := mysqltest.Start(t, 1, mysqltest.Each(func(_ int, cfg *mysqld.Config) { cfg.Name = "solo" }))[0]
	if m.Name() != "solo" {
		t.Error("its name is", m.Name())
	}
	m.OpenForWrites(t)
	db := m.Admin(t)
	for _, statement := range []string{
		"select count(*) from performance_schema.replication_group_members",
		"set persist group_replication_member_weight = 60",
		"set persist_only group_replication_recovery_use_ssl = on",
		"create user recovery identified by 'x9-y8-z7' require ssl",
		"grant replication slave, backup_admin, connection_admin, group_replication_stream on *.* to recovery",
		"change replication source to source_user = 'recovery', source_password = 'x9-y8-z7' for channel 'group_replication_recovery'",
		"set global clone_valid_donor_list = '127.0.0.1:3306'",
		"set global super_read_only = on",
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func TestTestsBeyondTheLimitWaitForOthers(t *testing.T) {
	t.Parallel()
	for range 2 {
		t.Run("a pair", func(t *testing.T) {
			t.Parallel()
			mysqltest.Start(t, mysqltest.MaxServers/2)
		})
	}
}

func onDisk(t *testing.T, dir string) (mb float64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mb += blocks(path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return mb
}
