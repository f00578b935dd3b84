// Package consistency answers one question: do all members of a group hold the
// same? It compares GTID sets, table lists, table definitions and every row,
// while clients write to any member, and only reads. It needs SELECT and nothing
// else, and leaves nothing on the servers.
//
// # The method
//
// Members of a multi-primary group never stand at the same place: each commits
// its own transactions a little before the others do, so under load there may be
// no two moments in which two members have executed the same set. So the audit
// does not try to catch such a moment. It works in three steps, each dearer and
// surer than the one before, and only what is left goes to the next.
//
//  1. Scan. A table is walked along its key in slices of 60 ms or so. For each,
//     every member computes the number of rows and the exclusive or of the
//     SHA-256 of each row, in one statement, which sees one snapshot. Equal
//     slices are done. Different ones are sifted: each member puts their rows
//     into heaps by key and sums up each, and the rows of different heaps are
//     read one by one. Beside writers that never pause every slice differs.
//  2. Look again. Suspicious rows are taken along and read again on all members,
//     many in one statement, while the walk goes on: for two seconds, and until
//     every member has executed what any had begun when they were found. A row
//     that showed the same everywhere, at whatever looks, is dropped: it was a
//     write on its way. So is a row that every member showed changing, where whole
//     rows are logged (binlog_row_image=FULL): each such write made it the same
//     everywhere.
//  3. Prove. What still differs is not a race, most likely. A proof makes it
//     certain; without one, nothing is reported as a difference.
//
// # The proof
//
// For a row with key k, on members A (which has the row) and B:
//
//	a. A: open a transaction and read k FOR SHARE; nobody can change k on A
//	   while that lock lives. The value is x.
//	b. A: read U(A), all transactions executed or begun.
//	c. B: wait until U(A) is executed, then read k: y. Then read U(B).
//	d. A: wait until U(B) is executed; read k FOR SHARE once more, and COMMIT.
//
// If every step succeeds and x is not y, A and B have diverged. Three facts of
// the server carry it. A transaction is visible before it is in gtid_executed,
// so what was waited for is seen. It is in gtid_owned from before it is visible
// until it is in gtid_executed, so owned, then executed, read after a snapshot
// hold all that snapshot saw. And all members apply writes to one row in one
// order, the order of certification.
//
// Suppose the members have not diverged. x is the row after its n-th write, y
// after its m-th. Every write up to the n-th is in U(A), so m ≥ n by (c). The
// writes up to the m-th are in U(B), so after (d) A has executed them. But k on
// A did not change since (a), or the lock would be gone; so m ≤ n. Then m = n
// and x = y.
//
// How the lock tells that it is gone: the group's applier does not wait for
// readers. It rolls the transaction of (a) back, and the second locking read
// fails with error 1213, or the COMMIT with 1180. (Not so in a START TRANSACTION
// READ ONLY, for which the applier does wait; so ours is not one.) Local writers
// of that one row wait, no longer than holdLimit. Since rows are held only after
// they stayed different for two seconds of looking, a healthy group under load
// sees no lock but on rows that change all the time.
//
// Missing rows need no lock where they are missing: A is any member that has the
// row. Definitions and missing tables are proved alike, with the metadata lock of
// a table in use in place of the row's lock.
//
// A transaction that is on one member alone counts as errant when it was neither
// executed nor received elsewhere, in all looks of ten seconds.
//
// # What it does not see
//
// What diverges after its slice was read is found by the next audit. Tables
// without a key that is unique and NOT NULL, and tables of engines without
// snapshots, are named as not comparable; a group takes no writes to either.
// Virtual generated columns are not read. Views, triggers, routines, events and
// accounts are not compared. Rows that cannot be decided, because they change too
// fast or a member is too late, are named as undecided. Where members gave one transaction
// different GTIDs the group is broken, and a row may be reported that is only on
// its way. FLOAT and DOUBLE are compared to the last bit, strings byte by byte.
//
// # What it costs
//
// Memory: the keys and hashes of 10,000 rows a member at most, and the names of
// all tables. Time: about 1 µs of one core per row of 100 bytes on each member. While
// a member has other work the audit keeps it busy for BusyShare of the time; it
// rests while a member's queue is long. Slices end after a time, not after a
// number of rows, so that no statement holds back purge or a schema change.
//
// # Rights
//
// SELECT on what is to be compared; on everything:
//
//	GRANT SELECT ON *.* TO auditor
//
// Since MySQL 8.0.22 that includes SELECT … FOR SHARE. Tables the account cannot
// read are named in the report, and so is that it cannot see all tables.
package consistency
