// Package mysqld runs real MySQL server processes: it finds a server on the
// machine, makes data directories, and starts, watches, stops, kills and freezes
// servers. The playground, restore drills and tests use it; servers that
// operators run themselves are none of its business.
//
// What a caller can rely on:
//
//   - A server accepts no writes from its first breath: super_read_only=ON is in
//     its configuration file and cannot be configured away.
//   - No account ever exists without a password, and passwords reach the server
//     only through files that nobody else can read.
//   - RESTART and CLONE work: the server knows it is supervised and is started
//     again when it asks for it (exit code 16).
//   - A server dies with the process that started it, even when that process is
//     killed with SIGKILL (Linux).
//   - The error of a server that does not start carries the lines of its log
//     that say why.
//
// The life of a Server:
//
//	        Start                    SIGTERM, SIGKILL, crash
//	down ────────────► up ───────────────────────────────────► down
//	                   ▲ │ exit 16, or a crash with RestartDelay
//	                   └─┘
//
// Group Replication and clone are loaded, GTIDs and row format are on; the
// group_replication variables themselves belong to whoever forms the group.
package mysqld
