package mysqld

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Binary is a server program fit for us, with the places of its parts.
type Binary struct {
	Path        string // mysqld itself, symbolic links resolved
	Version     Version
	BaseDir     string
	PluginDir   string // holds group_replication.so and mysql_clone.so
	MessagesDir string // lc_messages_dir; holds english/errmsg.sys
}

// Tool gives the path of a client program shipped with the server, such as
// mysqlbinlog, or of the one on PATH.
func (b Binary) Tool(name string) (string, error) {
	for _, dir := range []string{filepath.Dir(b.Path), filepath.Join(b.BaseDir, "bin")} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return exec.LookPath(name)
}

// ErrNoServer is returned by Find when the machine has no MySQL server at all.
var ErrNoServer = errors.New("no MySQL server was found on PATH, in the usual places or in the directory of scripts/get-mysql; " +
	"run scripts/get-mysql, or install MySQL " + Oldest.String() + " or later")

// UnfitError says why a server cannot be used.
type UnfitError struct {
	Path string
	Why  string
}

func (e *UnfitError) Error() string {
	return fmt.Sprintf("%s cannot be used: %s; name another server, or run scripts/get-mysql to fetch one", e.Path, e.Why)
}

// Find gives the server to run: the one named explicitly, else the one
// PERDURE_MYSQLD names, else the first fit one on PATH, in the usual places, or
// where scripts/get-mysql unpacks its own. A server somebody named is taken or
// refused, never replaced by another.
func Find(explicit string) (Binary, error) {
	for _, named := range []string{explicit, os.Getenv("PERDURE_MYSQLD")} {
		if named != "" {
			return Inspect(named)
		}
	}
	var unfit error
	for _, path := range candidates() {
		b, err := Inspect(path)
		if err == nil {
			return b, nil
		}
		if !errors.Is(err, os.ErrNotExist) && unfit == nil {
			unfit = err
		}
	}
	if unfit != nil {
		return Binary{}, fmt.Errorf("no fit MySQL server was found: %w", unfit)
	}
	return Binary{}, ErrNoServer
}

// candidates must agree with scripts/get-mysql.
func candidates() []string {
	var paths []string
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		paths = append(paths, filepath.Join(dir, "mysqld"))
	}
	paths = append(paths,
		"/usr/sbin/mysqld", "/usr/libexec/mysqld", "/usr/local/mysql/bin/mysqld", "/opt/mysql/bin/mysqld",
		"/opt/homebrew/opt/mysql/bin/mysqld", "/usr/local/opt/mysql/bin/mysqld")
	if dir := privateDir(); ownedByUs(dir) {
		paths = append(paths, filepath.Join(dir, "bin", "mysqld"))
	}
	return slices.DeleteFunc(paths, func(p string) bool { return !filepath.IsAbs(p) })
}

// privateDir is where scripts/get-mysql unpacks a server; see default_dir there.
func privateDir() string {
	if dir := os.Getenv("PERDURE_MYSQL_DIR"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		return filepath.Join(dir, "perdure", "mysql")
	}
	if home := os.Getenv("HOME"); home != "" && writable(home) {
		return filepath.Join(home, ".cache", "perdure", "mysql")
	}
	return filepath.Join(os.TempDir(), "perdure-"+strconv.Itoa(os.Getuid()), "mysql")
}

// Inspect says whether the program at path is a server fit for us. The error is
// an *UnfitError, or wraps os.ErrNotExist where there is nothing at path.
func Inspect(path string) (Binary, error) {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return Binary{}, fmt.Errorf("MySQL server %s: %w", path, err)
	}
	unfit := func(format string, args ...any) (Binary, error) {
		return Binary{}, &UnfitError{Path: path, Why: fmt.Sprintf(format, args...)}
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	banner, err := exec.CommandContext(ctx, real, "--no-defaults", "--version").Output()
	if err != nil {
		return unfit("it does not run (%v)", err)
	}
	if strings.Contains(string(banner), "MariaDB") {
		return unfit("it is MariaDB, which has no Group Replication")
	}
	version, err := parseBanner(string(banner))
	if err != nil {
		return unfit("%v", err)
	}
	if version.Before(Oldest) {
		return unfit("it is %s, and %s is the oldest we support", version, Oldest)
	}

	b := Binary{Path: real, Version: version, BaseDir: filepath.Dir(filepath.Dir(real))}
	if b.PluginDir = b.firstDir("group_replication.so", "lib/mysql/plugin", "lib64/mysql/plugin", "lib/plugin", "lib/*/mysql/plugin"); b.PluginDir == "" {
		return unfit("group_replication.so is missing from its plugin directory")
	}
	if _, err := os.Stat(filepath.Join(b.PluginDir, "mysql_clone.so")); err != nil {
		return unfit("mysql_clone.so is missing from %s", b.PluginDir)
	}
	if b.MessagesDir = b.firstDir("english/errmsg.sys", "share/mysql", "share/mysql-*", "share"); b.MessagesDir == "" {
		return unfit("its messages (english/errmsg.sys) are missing below %s/share", b.BaseDir)
	}
	return b, nil
}

// firstDir gives the first directory below BaseDir that holds the file.
func (b Binary) firstDir(file string, patterns ...string) string {
	for _, pattern := range patterns {
		// The only error of Glob is a malformed pattern, and ours are constants.
		found, _ := filepath.Glob(filepath.Join(b.BaseDir, pattern, file))
		if len(found) > 0 {
			dir := found[0]
			for range strings.Count(file, "/") + 1 {
				dir = filepath.Dir(dir)
			}
			return dir
		}
	}
	return ""
}
