package check

// how a setting is changed.
type how int

const (
	online  how = iota // SET PERSIST, at once
	apart              // the same, but only while the server is in no group
	restart            // SET PERSIST_ONLY, and the server reads it at its next start
	file               // only in the server's option file
	never              // not any more: it belongs to the data directory
)

// rule is what one variable should be. Where the server does not know the
// variable, a newer version has made the right value the only one.
type rule struct {
	name     string
	want     []string // any of these; the first is what we recommend
	kind     string
	severity Severity
	how      how
	why      string
}

// rules are judged in this order. Group Replication checks the first part
// itself at START, with one line in the error log for each try.
var rules = []rule{
	{"enforce_gtid_consistency", []string{"ON"}, Setting, Refuses, online, "Group Replication needs transactions that fit one GTID each"},
	{"gtid_mode", []string{"ON"}, Setting, Refuses, online, "Group Replication knows transactions by their GTID"},
	{"log_bin", []string{"ON"}, Setting, Refuses, file, "other members fetch what they missed from the binary log"},
	{"log_replica_updates", []string{"ON"}, Setting, Refuses, restart, "what other members wrote must be in this server's binary log too"},
	{"binlog_format", []string{"ROW"}, Setting, Refuses, online, "conflicts are found by row"},
	{"transaction_write_set_extraction", []string{"XXHASH64", "MURMUR32"}, Setting, Refuses, online, "conflicts are found by the hash of the primary key"},
	{"replica_preserve_commit_order", []string{"ON"}, Setting, Refuses, online, "parallel appliers would commit in another order than the group"},
	{"replica_parallel_type", []string{"LOGICAL_CLOCK"}, Setting, Refuses, online, "with parallel appliers the group takes only this type"},
	{"master_info_repository", []string{"TABLE"}, Setting, Refuses, online, "a crash would leave file and data at odds"},
	{"relay_log_info_repository", []string{"TABLE"}, Setting, Refuses, online, "a crash would leave file and data at odds"},
	{"performance_schema", []string{"ON"}, Setting, Refuses, file, "the state of the group can be read nowhere else"},

	{"sync_binlog", []string{"1"}, Durability, Warns, online, "after a power cut the binary log can lack commits that clients were told about"},
	{"innodb_flush_log_at_trx_commit", []string{"1"}, Durability, Warns, online, "after a power cut the data can lack commits that clients were told about"},
	{"innodb_doublewrite", []string{"ON", "DETECT_AND_RECOVER"}, Durability, Warns, file, "a power cut in the middle of a page leaves a page nobody can repair"},

	{"binlog_row_image", []string{"FULL"}, Advice, Warns, online, "without whole rows in the binary log, what a failover lost cannot be listed row by row or taken back"},
	{"transaction_isolation", []string{"READ-COMMITTED", "REPEATABLE-READ", "READ-UNCOMMITTED"}, Advice, Warns, online, "a multi-primary group refuses every write of a SERIALIZABLE session"},
}

// shortestBinlog is how long a member may be away and still catch up from
// another one's binary log. A day is a night without anybody at a keyboard.
const shortestBinlog = 24 * 60 * 60

// extra are variables read for judgements that are no plain rule, or for
// Compare alone.
var extra = []string{
	"super_read_only", "read_only", "server_id", "replica_parallel_workers", "binlog_expire_logs_seconds", "binlog_expire_logs_auto_purge",
	"sql_generate_invisible_primary_key", "sql_require_primary_key", "auto_increment_increment", "auto_increment_offset",
}
