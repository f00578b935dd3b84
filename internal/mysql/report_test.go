package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/topology"
)

const groupName = "5ca1ab1e-0000-4000-8000-00000000000a"

// alone makes a group of one by the verbs of the product.
func alone(t *testing.T, m *mysqltest.Member) *Server {
	t.Helper()
	port, err := mysqld.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := opened(t, m)
	if err := s.Persist(t.Context(), map[string]string{
		"group_replication_group_name": groupName, "group_replication_local_address": fmt.Sprintf("127.0.0.1:%d", port),
		"group_replication_single_primary_mode": "OFF",
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	limit := time.Now().Add(30 * time.Second)
	for {
		r, err := s.Report(t.Context())
		if self, in := r.Self(); err == nil && in && self.State == "ONLINE" && !r.SuperReadOnly {
			return s
		}
		if time.Now().After(limit) {
			t.Fatalf("not ONLINE: %+v, %v", r, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestAReportSaysWhatTheServerIsAndHas(t *testing.T) {
	t.Parallel()
	m := mysqltest.Start(t, 1)[0]
	s := opened(t, m)
	r, err := s.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.UUID != value(t, m, "select @@server_uuid") || r.ServerID != m.ID || !strings.HasPrefix(r.Version, "9.") && !strings.HasPrefix(r.Version, "8.") {
		t.Errorf("%+v", r)
	}
	if !r.ReadOnly || !r.SuperReadOnly || r.OfflineMode || r.GroupName != "" || !r.Executed.IsEmpty() || !r.Received.IsEmpty() {
		t.Errorf("a fresh server: %+v", r)
	}
	if self, in := r.Self(); in && self.State != "OFFLINE" {
		t.Errorf("it is in a group: %+v", r.Peers)
	}

	s = alone(t, m)
	do(t, m, "create database d", "create table d.t (id int primary key)", "insert into d.t values (1)")
	if r, err = s.Report(t.Context()); err != nil {
		t.Fatal(err)
	}
	self, in := r.Self()
	if !in || self.State != "ONLINE" || self.Role != topology.Primary || r.GroupName != groupName || r.SinglePrimary {
		t.Errorf("in a group of its own: %+v", r)
	}
	if want := gtid.MustParse(value(t, m, "select @@gtid_executed")); !r.Executed.Equal(want) || want.IsEmpty() || !r.Holds().Contains(want) {
		t.Errorf("executed %s, want %s", r.Executed, want)
	}
	if got, err := s.Executed(t.Context()); err != nil || !got.Equal(r.Executed) {
		t.Errorf("executed %s, %v", got, err)
	}
	if err := s.WaitExecuted(t.Context(), r.Executed); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.WaitExecuted(ctx, gtid.MustParse(groupName+":1-1000000")); err == nil {
		t.Error("it waited for what never came")
	}
	if st, err := s.Stats(t.Context()); err != nil || st.ViewID == "" {
		t.Errorf("%+v, %v", st, err)
	}
	do(t, m, "flush binary logs", "purge binary logs before now() + interval 1 hour")
	if p, err := s.Purged(t.Context()); err != nil || p.IsEmpty() || !r.Executed.Contains(p) {
		t.Errorf("purged %s, %v", p, err)
	}
}

// What lies in the relay log of a killed server counts before its applier runs
// again: the bootstrap guard stands on it.
func TestReceivedTransactionsSurviveAKill(t *testing.T) {
	t.Parallel()
	members := mysqltest.Start(t, 2)
	first := alone(t, members[0])
	do(t, members[0], "create database d", "create table d.t (id int primary key)")
	account := Account{User: "recovery", Host: "%"}
	if err := first.SetRecoveryAccount(t.Context(), account, "Some-1-Password"); err != nil {
		t.Fatal(err)
	}
	port, err := mysqld.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	second := opened(t, members[1])
	for _, step := range []error{
		second.Persist(t.Context(), map[string]string{
			"group_replication_group_name": groupName, "group_replication_local_address": fmt.Sprintf("127.0.0.1:%d", port),
			"group_replication_group_seeds": value(t, members[0], "select @@group_replication_local_address"), "group_replication_single_primary_mode": "OFF",
		}),
		second.UseRecoveryAccount(t.Context(), account.User, "Some-1-Password"),
		second.Join(t.Context()),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	at, err := first.Executed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// It copies all the first one has: CallLimit is too short for that.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := second.WaitExecuted(ctx, at); err != nil {
		t.Fatal(err)
	}
	c, err := members[1].App(t).Conn(t.Context()) // its applier waits for this lock
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.ExecContext(t.Context(), "lock tables d.t read"); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		do(t, members[0], fmt.Sprintf("insert into d.t values (%d)", i))
	}
	want := gtid.MustParse(value(t, members[0], "select @@gtid_executed"))
	limit := time.Now().Add(20 * time.Second)
	for {
		r, err := second.Report(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.Holds().Contains(want) {
			break
		}
		if time.Now().After(limit) {
			t.Fatalf("it never received %s", want.Subtract(r.Holds()))
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := members[1].Kill(mysqld.StayDown); err != nil {
		t.Fatal(err)
	}
	if err := members[1].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	second.Forget()
	r, err := second.Report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("after kill -9: executed %d, received and not applied %d", r.Executed.Count(), r.Received.Subtract(r.Executed).Count())
	if !r.Holds().Contains(want) {
		t.Errorf("it forgot that it received %s", want.Subtract(r.Holds()))
	}
	if r.Executed.Contains(want) {
		t.Error("it applied everything: the test proves nothing")
	}
}

// Settings: what is asked for is what is read, now and after a restart.
func TestSettingsArePersistedForgottenAndFoundFleeting(t *testing.T) {
	t.Parallel()
	m := mysqltest.Start(t, 1)[0]
	s := opened(t, m)
	const weight, name = "group_replication_member_weight", "group_replication_group_name"
	fleeting := func() string {
		f, err := s.Fleeting(t.Context(), weight, name, "max_connections", "super_read_only")
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%v %v %v", f[weight], f[name], f["max_connections"])
	}
	if got := fleeting(); got != "false false false" {
		t.Error("untouched:", got)
	}
	if err := s.SetGlobal(t.Context(), map[string]string{weight: "70", name: groupName}); err != nil {
		t.Fatal(err)
	}
	if got := fleeting(); got != "true true false" {
		t.Error("set until the next restart:", got)
	}
	if err := s.PersistOnly(t.Context(), map[string]string{weight: "70", name: groupName}); err != nil {
		t.Fatal(err)
	}
	if got := fleeting(); got != "false false false" {
		t.Error("persisted:", got)
	}
	if err := s.Persist(t.Context(), map[string]string{weight: "80"}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetGlobal(t.Context(), map[string]string{weight: "81"}); err != nil {
		t.Fatal(err)
	}
	if got := fleeting(); got != "true false false" {
		t.Error("changed after it was persisted:", got)
	}
	if err := s.Unpersist(t.Context(), weight); err != nil {
		t.Fatal(err)
	}
	if err := s.Unpersist(t.Context(), weight); err != nil {
		t.Error("forgotten twice:", err)
	}
	v, err := s.Variables(t.Context(), weight, "no_such_variable")
	if err != nil || v[weight] != "81" || len(v) != 1 {
		t.Errorf("%v, %v", v, err)
	}
	for _, bad := range []string{"a; DROP TABLE x", "A", "", "x = 1 -- "} {
		if err := s.SetGlobal(t.Context(), map[string]string{bad: "1"}); err == nil {
			t.Errorf("%q passes as the name of a setting", bad)
		}
	}
}

func TestAFailedStartSaysWhy(t *testing.T) {
	t.Parallel()
	m := mysqltest.Start(t, 1)[0]
	s := opened(t, m)
	if err := s.Join(t.Context()); err == nil {
		t.Fatal("it joined without a group's name")
	}
	said, err := s.LoggedErrors(t.Context(), time.Minute)
	if err != nil || !strings.Contains(said, "group_replication_group_name") {
		t.Errorf("its log says %q, %v", said, err)
	}
	if said, err = s.LoggedErrors(t.Context(), 0); err != nil || said != "" {
		t.Errorf("nothing was logged since now, but %q, %v", said, err)
	}
}

func TestFailuresAreToldApart(t *testing.T) {
	t.Parallel()
	m := mysqltest.Start(t, 1)[0]
	user, _ := mysqltest.AdminAccount()
	denied, err := Open("m1", Login{Address: m.Address(), User: user, Password: "wrong-Secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = denied.Close() }()
	if _, err := denied.Report(t.Context()); FailureOf(err) != topology.Denied || strings.Contains(err.Error(), "wrong-Secret") {
		t.Errorf("a wrong password is %q: %v", FailureOf(err), err)
	}
	s := opened(t, m)
	if err := m.Freeze(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("a second is over"))
	defer cancel()
	if _, err := s.Report(ctx); FailureOf(err) != topology.Silent && !strings.Contains(err.Error(), "a second is over") {
		t.Errorf("a frozen server is %q: %v", FailureOf(err), err)
	}
	if err := m.Kill(mysqld.StayDown); err != nil {
		t.Fatal(err)
	}
	s.Forget()
	if _, err := s.Report(t.Context()); FailureOf(err) != topology.Refused {
		t.Errorf("a dead server is %q: %v", FailureOf(err), err)
	}
}
