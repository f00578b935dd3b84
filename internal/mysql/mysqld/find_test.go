package mysqld_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/mysql/mysqld"
)

// fake writes a program that claims to be a server, with or without plugins.
func fake(t *testing.T, banner string, files ...string) string {
	t.Helper()
	base := t.TempDir()
	for _, file := range append(files, "bin/mysqld") {
		path := filepath.Join(base, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+banner+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(base, "bin/mysqld")
}

func TestInspectSaysWhatIsMissing(t *testing.T) {
	const (
		gr, clone, messages = "lib/mysql/plugin/group_replication.so", "lib/mysql/plugin/mysql_clone.so", "share/mysql-8.4/english/errmsg.sys"
		good                = "/usr/sbin/mysqld  Ver 8.4.3 for Linux on x86_64 (MySQL Community Server - GPL)"
	)
	for name, c := range map[string]struct {
		path, why string
	}{
		"a MariaDB server":          {fake(t, "mysqld  Ver 11.8.3-MariaDB for debian-linux-gnu"), "MariaDB"},
		"a server that is too old":  {fake(t, "mysqld  Ver 8.0.34 for Linux on x86_64"), "8.0.35 is the oldest"},
		"a program of another kind": {fake(t, "hello"), "version cannot be read"},
		"no group replication":      {fake(t, good, clone, messages), "group_replication.so"},
		"no clone":                  {fake(t, good, gr, messages), "mysql_clone.so"},
		"no messages":               {fake(t, good, gr, clone), "errmsg.sys"},
		"a fit server":              {fake(t, good, gr, clone, messages), ""},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := mysqld.Inspect(c.path)
			var unfit *mysqld.UnfitError
			switch {
			case c.why == "" && err != nil:
				t.Error(err)
			case c.why == "" && b.Version != mysqld.Version{Major: 8, Minor: 4, Patch: 3}:
				t.Error("its version is", b.Version)
			case c.why != "" && (!errors.As(err, &unfit) || !strings.Contains(err.Error(), c.why)):
				t.Errorf("the error is %v, want one about %q", err, c.why)
			}
		})
	}
}

func TestFindTakesTheNamedServerOrNone(t *testing.T) {
	old := fake(t, "mysqld  Ver 5.7.44 for Linux on x86_64")
	if _, err := mysqld.Find(old); err == nil || !strings.Contains(err.Error(), old) {
		t.Error("an unfit server named explicitly gives", err)
	}
	if _, err := mysqld.Find("/nowhere/mysqld"); !errors.Is(err, os.ErrNotExist) {
		t.Error("a missing server named explicitly gives", err)
	}
	t.Setenv("PERDURE_MYSQLD", old)
	if _, err := mysqld.Find(""); err == nil || !strings.Contains(err.Error(), old) {
		t.Error("an unfit server in PERDURE_MYSQLD gives", err)
	}
}

func TestTheToolsOfTheServerAreFoundBesideIt(t *testing.T) {
	b := binary(t)
	path, err := b.Tool("mysqlbinlog")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
