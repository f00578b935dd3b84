package mysqltest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/perdure/perdure/internal/mysql/mysqld"
)

// Main runs the tests of a package and removes what they left. Call it from
// TestMain; it does not return.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for a TestMain that has something to do after the tests.
func Run(m *testing.M) (code int) {
	sweep()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", dirPrefix, os.Getpid()))
	if err != nil {
		fmt.Fprintln(os.Stderr, "mysqltest:", err)
		return 1
	}
	process.dir = dir
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, "mysqltest:", err)
			code = 1
		}
	}()
	return m.Run()
}

// process is what the tests of this process share.
var process struct {
	dir string // set by Run before the first test

	once   sync.Once
	binary mysqld.Binary
	err    error
}

// dirPrefix is short because sockets live below it; the pid that follows says
// whose directory it is.
const dirPrefix = "perdure-t"

// sweep removes the directories of test processes that were killed.
func sweep() {
	found, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*-*"))
	for _, dir := range found {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // somebody else's, perhaps: not our failure
		}
	}
}

// Binary gives the server program, or skips the test, or fails it where a server
// is required.
func Binary(t testing.TB) mysqld.Binary {
	t.Helper()
	b, err := mysqld.Find("")
	if err == nil {
		return b
	}
	if os.Getenv("CI") != "" || os.Getenv("PERDURE_REQUIRE_MYSQL") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
	return b
}

// template gives the data directory all servers are copied from.
func template(t testing.TB) (dir string, b mysqld.Binary) {
	t.Helper()
	if process.dir == "" {
		t.Fatal("this package's TestMain must call mysqltest.Main")
	}
	dir = filepath.Join(process.dir, "template")
	process.once.Do(func() {
		process.binary, process.err = mysqld.Find("")
		if process.err == nil {
			process.err = mysqld.Init(context.Background(), mysqld.Seed{
				Binary: process.binary, DataDir: dir, RootPassword: rootPassword,
				Accounts: []mysqld.Account{admin, app},
			})
		}
	})
	if process.err != nil {
		Binary(t) // skips or fails when it is the server that is missing
		t.Fatal(process.err)
	}
	return dir, process.binary
}
