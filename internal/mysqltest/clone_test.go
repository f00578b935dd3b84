package mysqltest_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysqltest"
)

func TestCloneReplacesTheDataAndTheServerComesBack(t *testing.T) {
	t.Parallel()
	members := mysqltest.Start(t, 2)
	donor, recipient := members[0], members[1]
	donor.OpenForWrites(t)
	for _, statement := range []string{"create database shop", "create table shop.t (id int primary key)", "insert into shop.t values (42)"} {
		if _, err := donor.App(t).Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	user, password := mysqltest.AdminAccount()
	db := recipient.Admin(t)
	if _, err := db.Exec("set global clone_valid_donor_list = ?", donor.Address()); err != nil {
		t.Fatal(err)
	}
	var before string
	if err := db.QueryRow("select @@server_uuid").Scan(&before); err != nil {
		t.Fatal(err)
	}
	began, exited := time.Now(), recipient.Exited()
	if _, err := db.Exec(fmt.Sprintf("clone instance from '%s'@'127.0.0.1':%d identified by '%s' require ssl", user, donor.Port(), password)); err != nil {
		t.Log("clone ended with", err) // the connection may be cut by the restart
	}
	select {
	case <-exited:
	case <-time.After(30 * time.Second):
		t.Fatal("the recipient does not restart")
	}
	if err := recipient.WaitUsable(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("cloned and back after %s", time.Since(began))
	var after, id, readOnly string
	if err := recipient.Admin(t).QueryRow("select @@server_uuid, (select id from shop.t), @@super_read_only").Scan(&after, &id, &readOnly); err != nil {
		t.Fatal(err)
	}
	if after != before || id != "42" || readOnly != "1" {
		t.Errorf("uuid %s, was %s; row %s, want 42; super_read_only %s, want 1", after, before, id, readOnly)
	}
}

// A measurement, not a promise: run it with -v -run Nine to see the figures.
func TestNineServersFitTogether(t *testing.T) {
	if testing.Short() || os.Getenv("PERDURE_MEASURE") == "" {
		t.Skip("set PERDURE_MEASURE to measure nine servers")
	}
	began := time.Now()
	members := mysqltest.Start(t, 9)
	took := time.Since(began)
	total := 0
	for _, m := range members {
		total += resident(t, m.PID())
	}
	t.Logf("nine servers up after %s, %d MB resident together, %.0f MB on disk", took, total, onDisk(t, members[0].Dir())*9)
}
