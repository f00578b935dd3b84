package mysqld_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/mysql/mysqld"
)

func TestAServerStartsReadOnlyWithGroupReplicationLoaded(t *testing.T) {
	t.Parallel()
	s := started(t, config(t))
	for query, want := range map[string]string{
		"select @@super_read_only": "1",
		"select @@gtid_mode":       "ON",
		"select @@gtid_executed":   "",
		"select count(*) from information_schema.plugins where plugin_status = 'ACTIVE' and plugin_name in ('group_replication','clone')": "2",
		"select count(*) from mysql.user where authentication_string = '' and account_locked = 'N'":                                       "0",
	} {
		if got := value(t, s, query); got != want {
			t.Errorf("%s gives %s, want %s", query, got, want)
		}
	}
	_, err := open(t, s).ExecContext(t.Context(), "create database nope")
	if e := (*mysql.MySQLError)(nil); !errors.As(err, &e) || e.Number != 1290 {
		t.Errorf("a write was answered with %v, want error 1290", err)
	}
	for _, file := range []string{"my.cnf", "error.log"} {
		info, err := os.Stat(s.Dir() + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %s, others can read it", file, info.Mode())
		}
	}
}

func TestTwoServersFromOneTemplateDiffer(t *testing.T) {
	t.Parallel()
	a, b := started(t, config(t)), started(t, config(t))
	if a.Port() == b.Port() {
		t.Error("both have port", a.Port())
	}
	if x, y := value(t, a, "select @@server_uuid"), value(t, b, "select @@server_uuid"); x == y {
		t.Error("both have server_uuid", x)
	}
}

func TestRESTARTBringsTheServerBack(t *testing.T) {
	t.Parallel()
	s := started(t, config(t))
	before, exited := s.PID(), s.Exited()
	if _, err := open(t, s).ExecContext(t.Context(), "restart"); err != nil && !isLost(err) {
		t.Fatal(err)
	}
	within(t, exited, 60*time.Second)
	if err := s.WaitUsable(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := s.PID(); after == before || after == 0 {
		t.Errorf("the process before was %d, now it is %d", before, after)
	}
	if got := value(t, s, "select @@super_read_only"); got != "1" {
		t.Error("super_read_only after RESTART is", got)
	}
}

func TestAKilledServerStaysDownUntilStarted(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.RestartDelay = 10 * time.Millisecond
	s := started(t, cfg)
	down, port := s.Down(), s.Port()
	if err := s.Kill(mysqld.StayDown); err != nil {
		t.Fatal(err)
	}
	within(t, down, time.Second)
	if s.PID() != 0 {
		t.Error("it has a process", s.PID())
	}
	if err := s.Kill(mysqld.StayDown); !errors.Is(err, mysqld.ErrDown) {
		t.Error("killing it again gives", err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Port() != port {
		t.Errorf("it came back on port %d, was on %d", s.Port(), port)
	}
}

func TestACrashedServerComesBackWhereThePolicySaysSo(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.RestartDelay = 200 * time.Millisecond
	s := started(t, cfg)
	before := s.PID()
	if err := s.Kill(mysqld.ComeBack); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitUsable(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.PID() == before {
		t.Error("the same process again:", before)
	}
}

func TestACrashWithoutPolicyEndsTheServer(t *testing.T) {
	t.Parallel()
	s := started(t, config(t))
	if err := syscall.Kill(s.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, s.Down(), 5*time.Second)
	if err := s.WaitUsable(t.Context()); !errors.Is(err, mysqld.ErrDown) {
		t.Error("waiting for it gives", err)
	}
}

func TestAFrozenServerDoesNotAnswerAndAThawedOneDoes(t *testing.T) {
	t.Parallel()
	s := started(t, config(t))
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.WaitUsable(short); err == nil {
		t.Error("a frozen server counts as usable")
	}
	if err := s.Thaw(); err != nil {
		t.Fatal(err)
	}
	if got := value(t, s, "select 1"); got != "1" {
		t.Error("select 1 gives", got)
	}
}

func TestStoppingAFrozenServerKillsItAtTheLimit(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.StopLimit = 500 * time.Millisecond
	s := started(t, cfg)
	if err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	pid := s.PID()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v, want it gone", pid, err)
	}
}

func TestABadSettingIsExplainedByTheLog(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Settings = map[string]string{"no_such_variable": "1"}
	s, err := mysqld.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err = s.Start(t.Context())
	var failed *mysqld.StartError
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "unknown variable 'no_such_variable=1'") {
		t.Fatalf("the error does not name the variable: %v", err)
	}
	if took := time.Since(began); took > 45*time.Second { // less than StartLimit: it did not wait that out
		t.Error("it took", took)
	}
	if s.PID() != 0 {
		t.Error("the server still has a process")
	}
}

func TestAServerOnATakenPortSaysSo(t *testing.T) {
	t.Parallel()
	first := started(t, config(t))
	cfg := config(t)
	cfg.Port = first.Port()
	s, err := mysqld.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "Address already in use") {
		t.Error("the error is", err)
	}
}

func TestAStartThatIsCalledOffLeavesNoProcess(t *testing.T) {
	t.Parallel()
	s, err := mysqld.New(config(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Start(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error("the error is", err)
	}
	if s.PID() != 0 {
		t.Error("the server still has process", s.PID())
	}
}

func within(t *testing.T, c <-chan struct{}, limit time.Duration) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(limit):
		t.Fatal("nothing happened within", limit)
	}
}

func isLost(err error) bool {
	return errors.Is(err, mysql.ErrInvalidConn) || strings.Contains(err.Error(), "bad connection") || strings.Contains(err.Error(), "EOF")
}

func TestAPersistedReadOnlyOFFKeepsTheServerDown(t *testing.T) {
	t.Parallel()
	s := started(t, config(t))
	if _, err := open(t, s).ExecContext(t.Context(), "set persist super_read_only = off"); err != nil {
		t.Fatal(err)
	}
	// Neither by itself nor when asked: it would come back writable.
	down := s.Down()
	if _, err := open(t, s).ExecContext(t.Context(), "restart"); err != nil && !isLost(err) {
		t.Fatal(err)
	}
	within(t, down, 60*time.Second)
	if err := s.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "persisted as OFF") {
		t.Error("the error is", err)
	}
}

func TestAServerInALongDirectoryIsReachable(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	long := cfg.Dir + "/" + strings.Repeat("long-", 20)
	if err := os.MkdirAll(long, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(cfg.Dir+"/data", long+"/data"); err != nil {
		t.Fatal(err)
	}
	cfg.Dir = long
	s := started(t, cfg)
	if got := value(t, s, "select 1"); got != "1" {
		t.Error("select 1 gives", got)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Socket()); !errors.Is(err, os.ErrNotExist) {
		t.Error("the socket was left behind")
	}
}

func TestAServerUsesTheCertificateItIsGiven(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	// The files of another server: the certificate must be told apart from the
	// one in the server's own data directory.
	other := config(t)
	from := other.Dir + "/data/"
	cfg.TLS = mysqld.TLS{CA: from + "ca.pem", Cert: from + "server-cert.pem", Key: from + "server-key.pem"}
	s := started(t, cfg)
	if got := value(t, s, "select @@ssl_cert"); got != cfg.TLS.Cert {
		t.Error("ssl_cert is", got)
	}
	if got := value(t, s, "select value from performance_schema.tls_channel_status where channel = 'mysql_main' and property = 'Enabled'"); got != "Yes" {
		t.Error("TLS enabled is", got)
	}
}
