package mysqltest

import (
	"crypto/tls"
	"database/sql"
	"io"
	"log"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/mysql/mysqld"
)

// Member is one server of a test.
type Member struct {
	*mysqld.Server
	ID uint32 // server_id
}

// AdminAccount is the account the product logs in with, the same on all servers:
// it has what a controller needs and no more.
func AdminAccount() (user, password string) { return admin.User, admin.Password }

// AppAccount is an account of an application, the same on all servers.
func AppAccount() (user, password string) { return app.User, app.Password }

// RootPassword belongs to root@localhost, who gets in through the socket.
func RootPassword() string { return rootPassword }

// Root opens a pool as root through the socket. The pool is closed when the test
// ends, as are those of Admin and App.
func (m *Member) Root(t testing.TB) *sql.DB {
	t.Helper()
	cfg := m.driver("root", rootPassword)
	cfg.Net, cfg.Addr, cfg.TLS = "unix", m.Socket(), nil
	return open(t, cfg)
}

// Admin opens a pool over TCP with the account of the product.
func (m *Member) Admin(t testing.TB) *sql.DB {
	t.Helper()
	return open(t, m.driver(AdminAccount()))
}

// App opens a pool over TCP as an application.
func (m *Member) App(t testing.TB) *sql.DB {
	t.Helper()
	return open(t, m.driver(AppAccount()))
}

// DSN is for tests that open their own pool. Over TCP, encrypted.
func (m *Member) DSN(user, password string) string { return m.driver(user, password).FormatDSN() }

// OpenForWrites ends the read-only state in which every server starts, as a
// group does when it takes a member in.
func (m *Member) OpenForWrites(t testing.TB) {
	t.Helper()
	if _, err := m.Root(t).ExecContext(t.Context(), "SET GLOBAL read_only = OFF"); err != nil {
		t.Fatalf("open %s for writes: %v", m.Name(), err)
	}
}

func (m *Member) driver(user, password string) *mysql.Config {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd = user, password
	cfg.Net, cfg.Addr = "tcp", m.Address()
	cfg.Timeout = 5 * time.Second
	cfg.ParseTime = true
	cfg.TLSConfig = "skip-verify"
	cfg.TLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a server of our own on loopback
	cfg.Logger = log.New(io.Discard, "", 0)         // broken connections are what these tests are about
	return cfg
}

func open(t testing.TB, cfg *mysql.Config) *sql.DB {
	t.Helper()
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}
