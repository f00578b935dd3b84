package mysqld

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Config describes one server.
type Config struct {
	Name   string // for logs and errors; the base of Dir when empty
	Binary Binary

	// Dir holds what belongs to the server: data (a directory from Init or
	// Copy), my.cnf, error.log, mysqld.pid and, where its path is short enough,
	// mysql.sock.
	Dir string

	Port        int    // 0: a free port, chosen at the first Start and kept
	BindAddress string // 127.0.0.1 when empty
	ServerID    uint32 // required, different for each server of a group
	TLS         TLS

	// Settings are server variables; they win over the defaults of this
	// package. Those that Config has fields for are refused, and so is
	// everything that would let the server start writable.
	Settings map[string]string

	// RestartDelay, when positive, starts the server again that long after a
	// crash, as an init system would. RESTART and CLONE are always answered.
	RestartDelay time.Duration

	StartLimit time.Duration // how long Start waits for a usable server; 60 s when 0
	StopLimit  time.Duration // how long Stop waits before it kills; 30 s when 0
	Log        *slog.Logger  // nothing is logged when nil
}

// TLS names the files of the server's certificate. All empty: the server uses
// the certificate made with its data directory.
type TLS struct{ CA, Cert, Key string }

const (
	dataDir   = "data"
	cnfFile   = "my.cnf"
	errorLog  = "error.log"
	pidFile   = "mysqld.pid"
	localhost = "127.0.0.1"
)

// reserved are the variables that fields of Config or promises of this package
// decide.
var reserved = []string{
	"basedir", "bind_address", "datadir", "init_file", "log_error", "offline_mode", "pid_file", "plugin_dir", "port",
	"read_only", "server_id", "skip_networking", "socket", "ssl_ca", "ssl_cert", "ssl_key", "super_read_only", "user",
}

// check names all mistakes at once.
func (c Config) check() error {
	var all []error
	if c.Binary.Path == "" {
		all = append(all, errors.New("no server program is named (see Find)"))
	}
	if !filepath.IsAbs(c.Dir) {
		all = append(all, fmt.Errorf("its directory %q is not an absolute path", c.Dir))
	}
	if c.ServerID == 0 {
		all = append(all, errors.New("its server id is 0"))
	}
	if c.Port < 0 || c.Port > 65535 {
		all = append(all, fmt.Errorf("port %d does not exist", c.Port))
	}
	if n := c.TLS; (n.CA == "" || n.Cert == "" || n.Key == "") && n != (TLS{}) {
		all = append(all, errors.New("TLS needs CA, certificate and key together"))
	}
	for _, name := range sortedKeys(c.Settings) {
		if slices.Contains(reserved, bareName(name)) {
			all = append(all, fmt.Errorf("setting %s is not free to choose here", name))
		}
	}
	return errors.Join(all...)
}

// bareName strips the prefixes under which mysqld takes the same variable.
func bareName(name string) string {
	name = normalise(name)
	for _, prefix := range []string{"loose_", "skip_", "enable_", "disable_"} {
		if len(name) > len(prefix) && name[:len(prefix)] == prefix && name != "skip_networking" {
			return bareName(name[len(prefix):])
		}
	}
	return name
}

// cnf gives the option file for a start on the given port and socket.
func (c Config) cnf(port int, socket string) *cnf {
	f := c.Binary.places()
	f.set("datadir", filepath.Join(c.Dir, dataDir))
	f.set("log_error", filepath.Join(c.Dir, errorLog))
	f.set("log_error_verbosity", "3") // Group Replication tells its story in notes
	f.set("pid_file", filepath.Join(c.Dir, pidFile))
	f.set("socket", socket)
	f.set("port", strconv.Itoa(port))
	f.set("bind_address", c.BindAddress)
	f.set("report_host", c.BindAddress)
	f.set("report_port", strconv.Itoa(port))
	f.set("server_id", strconv.FormatUint(uint64(c.ServerID), 10))
	if c.TLS != (TLS{}) {
		f.set("ssl_ca", c.TLS.CA)
		f.set("ssl_cert", c.TLS.Cert)
		f.set("ssl_key", c.TLS.Key)
	}
	replication(f, c.Binary.Version)
	small(f)
	for _, name := range sortedKeys(c.Settings) {
		f.set(name, c.Settings[name])
	}
	// Last, so that nothing above can undo it: a member that comes back must not
	// take a write before its group has taken it back, or that write makes it a
	// stranger for ever.
	f.set("super_read_only", "ON")
	return f
}

// replication is what Group Replication and GTID replication ask of every
// server. Row format is not named: it is the default of every version we
// support, and naming it is a deprecation warning in the newer ones. Nor is
// relay_log_recovery: after the loss of a whole group the relay log may hold the
// last copy of a certified transaction, and must not be thrown away.
func replication(f *cnf, v Version) {
	f.set("gtid_mode", "ON")
	f.set("enforce_gtid_consistency", "ON")
	f.set("log_bin", "binlog")
	f.set("log_replica_updates", "ON")
	f.set("relay_log", "relay")
	f.set("replica_preserve_commit_order", "ON")
	f.set("replica_parallel_workers", "4")
	if v.Before(Version{8, 4, 0}) {
		f.set("binlog_transaction_dependency_tracking", "WRITESET")
	}
	f.set("plugin_load_add", "group_replication.so")
	f.set("plugin_load_add", "mysql_clone.so")
	// A server without a group would complain at every start; who forms a group
	// persists its own value, which then wins.
	f.set("loose_group_replication_start_on_boot", "OFF")
}

// small lets nine servers fit on a laptop. Durability is left as MySQL has it.
func small(f *cnf) {
	f.set("innodb_buffer_pool_size", "64M")
	f.set("innodb_redo_log_capacity", "32M")
	f.set("innodb_log_buffer_size", "4M")
	f.set("innodb_buffer_pool_dump_at_shutdown", "OFF")
	f.set("innodb_buffer_pool_load_at_startup", "OFF")
	f.set("key_buffer_size", "1M") // only MyISAM uses it
	f.set("max_connections", "300")
	f.set("table_open_cache", "400")
	f.set("table_definition_cache", "400")
	f.set("loose_mysqlx", "OFF")
	f.set("skip_name_resolve", "ON") // loopback needs no DNS, and a slow resolver would stop logins

	// performance_schema takes 180 MB by default, most of it for counters per
	// account, host and user, and for statement digests.
	f.set("performance_schema", "ON")
	for _, kind := range []string{"accounts", "hosts", "users"} {
		f.set("performance_schema_"+kind+"_size", "20")
	}
	f.set("performance_schema_digests_size", "2000")
	for _, kind := range []string{"stages", "statements", "transactions", "waits"} {
		f.set("performance_schema_events_"+kind+"_history_long_size", "1000")
	}
}
