package mysqld_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/mysql/mysqld"
)

var (
	rootPassword = mysqld.NewPassword()
	testDir      string // holds the template; removed at the end
	nextID       atomic.Uint32
)

func TestMain(m *testing.M) {
	if child := os.Getenv("PERDURE_TEST_CHILD"); child != "" {
		os.Exit(beParent(child))
	}
	var err error
	if testDir, err = os.MkdirTemp("", "mysqld-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(testDir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// binary skips on a laptop without a server; CI must have one.
func binary(t *testing.T) mysqld.Binary {
	t.Helper()
	b, err := mysqld.Find("")
	if err != nil {
		if os.Getenv("CI") != "" || os.Getenv("PERDURE_REQUIRE_MYSQL") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return b
}

var template struct {
	sync.Once
	err error
}

// prepared gives a server directory with a fresh copy of the one template.
func prepared(t *testing.T) (dir string, b mysqld.Binary) {
	t.Helper()
	b = binary(t)
	from := filepath.Join(testDir, "template")
	template.Do(func() {
		began := time.Now()
		template.err = mysqld.Init(context.Background(), mysqld.Seed{Binary: b, DataDir: from, RootPassword: rootPassword})
		fmt.Printf("init took %s\n", time.Since(began))
	})
	if template.err != nil {
		t.Fatal(template.err)
	}
	dir = shortDir(t)
	if err := mysqld.Copy(t.Context(), from, filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	return dir, b
}

// shortDir is t.TempDir with a path short enough for sockets.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(testDir, "s-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func config(t *testing.T) mysqld.Config {
	t.Helper()
	dir, b := prepared(t)
	return mysqld.Config{Binary: b, Dir: dir, ServerID: nextID.Add(1)}
}

func started(t *testing.T, cfg mysqld.Config) *mysqld.Server {
	t.Helper()
	s, err := mysqld.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Kill(mysqld.StayDown); err != nil && !errors.Is(err, mysqld.ErrDown) {
			t.Error(err)
		}
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// open logs in as root through the socket.
func open(t *testing.T, s *mysqld.Server) *sql.DB {
	t.Helper()
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr = "root", rootPassword, "unix", s.Socket()
	cfg.Logger = log.New(io.Discard, "", 0) // broken connections are what these tests are about
	cfg.Timeout, cfg.ReadTimeout = 2*time.Second, 5*time.Second
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func value(t *testing.T, s *mysqld.Server, query string) string {
	t.Helper()
	var v string
	if err := open(t, s).QueryRowContext(t.Context(), query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}
