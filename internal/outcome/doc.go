// Package outcome finds out what became of a commit that was never answered.
//
// A connection that breaks while its COMMIT is under way leaves its client in
// doubt, and the member it was sent to may be gone. The group is not in doubt:
// either it has the transaction, and then every member that stays has it in its
// binary log, or it will never have it. Whoever sent the COMMIT sent a SAVEPOINT
// of a unique name with it. The server writes that statement into the binary log
// together with the transaction, on every member, and this package looks for it.
//
// Yes is final as soon as the mark stands in the log of another member that is
// ONLINE: nothing gets there that the group did not agree on.
//
// No is final when one such member, on one connection and in this order,
//
//  1. lists itself as ONLINE in a majority, and the lost member not at all: what
//     that member sent and the group did not order before, the group will never
//     take;
//  2. applied all that was ordered before that moment: a read under
//     group_replication_consistency = BEFORE came back, and the member is still
//     in its majority;
//  3. said what it executed by now, and its log was read without a gap from what
//     was executed before the commit was sent up to there.
//
// And it is only as good as the group's own memory. If, since the commit was
// sent, the group had lost its majority (somebody may have forced it), or was
// made anew, or nobody looked for a while, a mark that is missing proves nothing:
// the answer is an error. A member that is back in the group counts as having
// been out only if it was seen out after the commit was sent, and answers as a
// process that began later: the session died with the one before.
//
// A member that is out of the group and lives (it was frozen, or cut off) may
// still hold the session. Its commit fails there: while the member is out it is
// read-only. It would have to sleep in the server, before it first looks at
// read_only, until the member has joined again; then a No would be wrong.
package outcome
