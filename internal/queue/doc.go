// Package queue accepts writes durably and applies each of them exactly once,
// in the order of its key, however often anything is killed in between.
//
// # What a client can rely on
//
// A write that was accepted (202) is on disk, on a majority where there are
// several nodes, and will take effect once, or end where a person sees it: in
// the dead letters. Writes of one key take effect in the order in which they
// were accepted. A request without an answer is in doubt; sent again with the
// same ids it takes effect once. Whoever waits gets the rows affected and a
// GTID set for reading its own write.
//
// What is not promised: an order between keys; that an AUTO_INCREMENT value is
// the same after a replay on another site; anything about writes that did not
// go through the queue.
//
// # The way of a write
//
//	Submit ─► guard, types, limits ─► record ─► gather ─► seal ─► log (fsync) ─► receipt
//	                                             many records, one frame, one flush
//	log ─► dispatch ─► partition of its key ─► one transaction: position + statements + ledger
//
// The log holds frames (record.go). The sequence of a write is that of its
// frame and its place in it. A record is complete: SQL, values, the time and
// the session context it is to be applied in. So a later change of an operation
// changes nothing that was accepted before.
//
// # Exactly once
//
// Every partition has a row in the database that says how far it is. The
// transaction that applies a batch moves that row from exactly where this
// applier left it, under its epoch and its holder's number, or does nothing at
// all. So an applier that was replaced without noticing cannot commit, a
// COMMIT without an answer is settled by reading the row, and a database that
// is promoted elsewhere says by itself from where to go on. The ledger, a row
// for each write id in the same transaction, is not for that: it is what makes
// retries of clients harmless and answers their questions.
//
// A transaction takes two packets: the second, with the ledger, is made of what
// the first affected. Should the server have taken the transaction back between
// them, the second is refused before its COMMIT, and nothing happened.
//
// Single-row INSERTs of one text that follow each other in a batch are sent as
// one (merge.go). Nobody can tell, except by the rate: three times as high.
//
// The row also has a mark of the frame it stands at. If the log has another
// frame there, or ends before, it has lost what was accepted; applying halts
// rather than taking new writes for old ones.
//
// # What happens on errors
//
//	the server, the link, the group      wait, without limit; nobody's fault       partition.run
//	a lock, a time limit                 three times, then that write is set aside  decide.go
//	conflict at COMMIT, too large        again, then in halves                      decide.go
//	the statement itself                 one by one; the culprit is set aside       batch.go
//	COMMIT without an answer             read the position row                      partition.open
//	commits behind our back              halt, a person must look                   batch.go
//	takes the connection down, always    after 15 times, quarantined                poison.go
//
// A write that is set aside lies in queue_held, and its key with it: later
// writes of the key queue up behind it in that table, in order, while all other
// keys go on. It is tried again with growing pauses. Only errors that are its
// own count, and after 25 of them it becomes a dead letter, in one transaction
// with the ledger row that says so. Then the key goes on without it or, with
// Park, waits until somebody retries or discards it. Both are records in the
// log, with their place among the writes of the key.
//
//	            ┌────────── own error, < 25 ───────┐
//	queued ─► applied      held ──► applied        │
//	   └──── own error ──► held ◄──────────────────┘
//	                        └─ 25th ─► dead ─► retry ─► held
//	                                     └───► discard ─► discarded
//
// # What is refused
//
// Only INSERT, REPLACE, UPDATE and DELETE pass (guard.go), one a string and up
// to 64 a write, without variables, without functions that answer differently
// elsewhere, without comments the server would run. NOW() and RAND() pass: the
// session's clock and seeds are those of acceptance. Values never become SQL
// other than as literals of their kind. Text is searched for SQL and script
// unless a parameter is declared free, and by the OWASP Core Rule Set where it is
// switched on (ruleset.go).
//
// # Memory
//
// 64 MiB of requests that wait for the disk, 32 MiB of writes that were read
// and are not applied, a quarter to half a million ids of recent writes. All
// else lies in the log or the database, however long the database is away.
//
// # Forgetting
//
// The log is trimmed up to the lowest position, minus ten minutes, and not
// beyond what Safe says other sites still need. Ledger rows go when their id is
// older than the window (7 days) and the log no longer has their writes; ids
// that old are refused, so no late retry can slip past a forgotten row.
package queue
