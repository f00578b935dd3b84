package mysqld

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestNewNamesAllMistakesAtOnce(t *testing.T) {
	_, err := New(Config{
		Name: "m1", Dir: "relative", Port: 70000, TLS: TLS{CA: "ca.pem"},
		Settings: map[string]string{"super-read-only": "OFF", "loose_read_only": "0", "skip-super-read-only": "", "max_connections": "10"},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, part := range []string{"server m1", "no server program", "absolute", "server id", "70000", "TLS", "super-read-only", "loose_read_only", "skip-super-read-only"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("nothing about %q in: %v", part, err)
		}
	}
	if strings.Contains(err.Error(), "max_connections") {
		t.Error("max_connections is refused:", err)
	}
}

func TestSettingsWinOverDefaultsButNotOverPromises(t *testing.T) {
	cfg := Config{
		Binary: Binary{Version: Version{8, 0, 35}}, Dir: "/x", ServerID: 7, BindAddress: localhost,
		Settings: map[string]string{"innodb-buffer-pool-size": "1G", "plugin_load_add": "more.so", "init_connect": `set names "x" # \`},
	}
	text, err := cfg.cnf(3306, "/x/s").text()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`innodb_buffer_pool_size = "1G"`, `plugin_load_add = "group_replication.so"`, `plugin_load_add = "more.so"`,
		`init_connect = "set names \"x\" # \\"`, `super_read_only = "ON"`, `binlog_transaction_dependency_tracking = "WRITESET"`,
	} {
		if strings.Count(text, line+"\n") != 1 {
			t.Errorf("%s is not in the file once:\n%s", line, text)
		}
	}
	cfg.Binary.Version = Version{9, 7, 4}
	if text, _ := cfg.cnf(3306, "/x/s").text(); strings.Contains(text, "dependency_tracking") {
		t.Error("9.7 gets a variable it no longer knows")
	}
}

func TestASettingCannotSmuggleInAnotherLine(t *testing.T) {
	for name, value := range map[string]string{"a": "1\nsuper_read_only=OFF", "b\nc": "1", "[client]": "x"} {
		c := &cnf{}
		c.set(name, value)
		if text, err := c.text(); err == nil {
			t.Errorf("%q = %q became %s", name, value, text)
		}
	}
}

func TestAgainDecidesWhoIsStartedAgain(t *testing.T) {
	const delay = 3 * time.Second
	crashed, asked, left := Exit{Code: -1, Signal: syscall.SIGKILL}, Exit{Code: 16}, Exit{Code: 0}
	for name, c := range map[string]struct {
		exit      Exit
		condemned bool
		policy    time.Duration
		delay     time.Duration
		yes       bool
	}{
		"a crash without a policy stays down":         {exit: crashed},
		"a crash with a policy comes back later":      {exit: crashed, policy: delay, delay: delay, yes: true},
		"a failed start with a policy is tried again": {exit: Exit{Code: 1}, policy: delay, delay: delay, yes: true},
		"RESTART comes back at once":                  {exit: asked, yes: true},
		"SHUTDOWN stays down even with a policy":      {exit: left, policy: delay},
		"what was stopped by us stays down":           {exit: crashed, condemned: true, policy: delay},
		"RESTART while we stop it stays down":         {exit: asked, condemned: true},
	} {
		if d, yes := again(c.exit, c.condemned, c.policy); d != c.delay || yes != c.yes {
			t.Errorf("%s: got %v after %s", name, yes, d)
		}
	}
}

func TestASocketPathAlwaysFits(t *testing.T) {
	if got := socketPath("/short"); got != "/short/mysql.sock" {
		t.Error("a short directory gives", got)
	}
	for _, tmp := range []string{"/tmp", "/" + strings.Repeat("t", 200)} {
		t.Setenv("TMPDIR", tmp)
		long := "/" + strings.Repeat("d", 150)
		got := socketPath(long)
		if len(got) > 107 || got != socketPath(long) || got == socketPath(long+"e") {
			t.Error("a long directory gives", got)
		}
	}
}

func TestAServerPersistedAsWritableIsRefused(t *testing.T) {
	for text, refused := range map[string]bool{
		`{"Version":2,"mysql_dynamic_parse_early_variables":{"super_read_only":{"Value":"OFF","Metadata":{"Host":"x"}}}}`: true,
		`{"mysql_server":{"read_only":{"Value":"0"}}}`:                                                                    true,
		`{"Version":2,"mysql_dynamic_variables":{"super_read_only":{"Value":"ON"}}}`:                                      false,
		`{"Version":2,"mysql_dynamic_variables":{"max_connections":{"Value":"100"}}}`:                                     false,
		`not json`: true,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "mysqld-auto.cnf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := writableByPersisted(dir); (err != nil) != refused {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := writableByPersisted(t.TempDir()); err != nil {
		t.Error("nothing persisted:", err)
	}
}

func TestFreePortsAreHandedOutOnce(t *testing.T) {
	seen := map[int]bool{}
	for range 50 {
		p, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if seen[p] || p >= ephemeralStart() {
			t.Error("port", p)
		}
		seen[p] = true
	}
}
