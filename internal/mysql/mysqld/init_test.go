package mysqld_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql/mysqld"
)

func TestInitMakesTheAccountsWithTheirGrants(t *testing.T) {
	t.Parallel()
	b, dir := binary(t), shortDir(t)
	seed := mysqld.Seed{
		Binary: b, DataDir: filepath.Join(dir, "data"), RootPassword: rootPassword,
		Accounts: []mysqld.Account{{
			User: `o'b\r`, Password: `a'b"c\d`, RequireTLS: true, // nothing here may break out of its quotes
			Grants: []mysqld.Grant{{Privileges: "SELECT", On: "performance_schema.*"}, {Privileges: "CLONE_ADMIN", MayGrant: true}},
		}},
	}
	if err := mysqld.Init(t.Context(), seed); err != nil {
		t.Fatal(err)
	}
	s := started(t, mysqld.Config{Binary: b, Dir: dir, ServerID: nextID.Add(1)})
	for query, want := range map[string]string{
		`select concat(host, ' ', ssl_type) from mysql.user where user = 'o''b\\r'`:             "% ANY",
		`select with_grant_option from mysql.global_grants where user = 'o''b\\r'`:              "Y",
		`select select_priv from mysql.db where user = 'o''b\\r' and db = 'performance_schema'`: "Y",
		`select count(*) from mysql.user where user not like 'mysql.%' and user <> 'root'`:      "1",
		`select @@gtid_executed`: "",
	} {
		if got := value(t, s, query); got != want {
			t.Errorf("%s gives %s, want %s", query, got, want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".init-") {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

func TestInitThatFailsSaysWhyWithoutSecretsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	b, dir := binary(t), shortDir(t)
	const secret = "hunter2hunter2"
	err := mysqld.Init(t.Context(), mysqld.Seed{
		Binary: b, DataDir: filepath.Join(dir, "data"), RootPassword: rootPassword,
		Accounts: []mysqld.Account{{User: "a", Password: secret, Grants: []mysqld.Grant{{Privileges: "NO SUCH THING " + secret}}}},
	})
	if err == nil || !strings.Contains(err.Error(), "[ERROR]") {
		t.Error("the error does not show the log:", err)
	}
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Error("the error shows a password:", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("%v was left behind (%v)", entries, err)
	}
}

func TestInitRefusesAnAccountWithoutPassword(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	for name, seed := range map[string]mysqld.Seed{
		"root":    {DataDir: filepath.Join(dir, "a")},
		"account": {DataDir: filepath.Join(dir, "b"), RootPassword: rootPassword, Accounts: []mysqld.Account{{User: "x"}}},
	} {
		if err := mysqld.Init(t.Context(), seed); err == nil || !strings.Contains(err.Error(), "password") {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

func TestInitIsCalledOffWithItsContext(t *testing.T) {
	t.Parallel()
	b, dir := binary(t), shortDir(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := mysqld.Init(ctx, mysqld.Seed{Binary: b, DataDir: filepath.Join(dir, "data"), RootPassword: rootPassword})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error("the error is", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the data directory was left behind")
	}
}

func TestACopyHasTheDataButNotTheIdentity(t *testing.T) {
	t.Parallel()
	began := time.Now()
	dir, _ := prepared(t)
	t.Logf("a template has %.1f MB, %.1f on disk; copied in at most %s",
		sizes(t, dir, apparent), sizes(t, dir, occupied), time.Since(began))
	began = time.Now()
	s := started(t, mysqld.Config{Binary: binary(t), Dir: dir, ServerID: nextID.Add(1)})
	t.Logf("started in %s", time.Since(began))
	uuid := value(t, s, "select @@server_uuid")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(shortDir(t), "data")
	began = time.Now()
	if err := mysqld.Copy(t.Context(), filepath.Join(s.Dir(), "data"), to); err != nil {
		t.Fatal(err)
	}
	t.Logf("copied %.1f MB, %.1f on disk, in %s", sizes(t, to, apparent), sizes(t, to, occupied), time.Since(began))
	twin := started(t, mysqld.Config{Binary: binary(t), Dir: filepath.Dir(to), ServerID: nextID.Add(1)})
	if got := value(t, twin, "select @@server_uuid"); got == uuid {
		t.Error("both have server_uuid", uuid)
	}
}

func TestCopyDoesNotWriteOverADirectory(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	if err := mysqld.Copy(t.Context(), from, to); err == nil {
		t.Error("it did")
	}
}

func apparent(st *syscall.Stat_t) float64 { return float64(st.Size) / 1e6 }
func occupied(st *syscall.Stat_t) float64 { return float64(st.Blocks) * 512 / 1e6 }

func sizes(t *testing.T, dir string, of func(*syscall.Stat_t) float64) (mb float64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		mb += of(&st)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return mb
}
