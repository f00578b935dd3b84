// Package proxy accepts MySQL clients, brings them to a member, and keeps them
// when members die, move or are upgraded.
//
// # One client, one goroutine
//
// A session alternates: one request from the client, one answer from a member.
// There is no second goroutine, no channel and no lock between the two, and no
// memory is allocated per query. Answers are passed on as they arrive; only the
// packets that end a result are looked at (wire.Tracker). Everything that is a
// matter of time (limits, idle clients, clients that left, balance) is one sweep
// over all sessions; everything that is a matter of the View is one comparison
// of a pointer per request. A session that waits for its client is woken by
// setting its read deadline into the past.
//
// # States
//
//	GREETING ─► signed in ─► DETACHED ◄─► ATTACHED ─► IN TRANSACTION ─► …
//	                             ▲            │
//	                             └── HELD ◄───┘        TUNNEL (no way back)
//
// Detached sessions have no server connection and get one with their next
// request. A session leaves its connection only outside of a transaction and
// only if nothing pins it.
//
// # What is carried along
//
// Schema, the session variables in the list named carried, NAMES with collation,
// roles, user variables, LAST_INSERT_ID, COM_SET_OPTION, and prepared statements
// with their parameter types. Servers report most of it in their answers; a
// small lexer sees what they do not report. Restoring it is one write of
// [reset][init db][set …][role][wait for GTID] and one round trip. Values of
// user variables that were set to literals are known; of others the old member
// is asked on a planned move.
//
// Before a session works on another member than the one it wrote on, that member
// has to have applied what it wrote.
//
// # Pins
//
// What cannot be carried keeps the session where it is, with a reason that
// Sessions and the metrics show together with the digest of the statement:
// temporary tables, GET_LOCK, LOCK TABLES, HANDLER, text PREPARE, XA, open
// cursors, variables we do not carry, a client that tracks its session itself,
// and a sign-in for which we hold no password.
//
// # Transactions outlive their member
//
// The statements of an open transaction are kept (MaxReplay bytes), and a sum of
// their answers. When the member is gone, by the View and not by one broken
// connection, they are run again on another one; if every answer is the same, byte
// by byte, the client goes on. It has seen nothing that is not so there, and the
// first attempt has left nothing behind. A transaction is not run again if it did
// what cannot be compared or taken back: set variables, took user-level locks,
// called procedures, streamed large requests, used cursors, or inserted several
// rows whose ids the server chose (a single one is given the same id again); or if
// an answer differs. Then it is rolled back with error 1213, as ever.
//
// With the COMMIT of a transaction that wrote goes a savepoint, in the same write.
// Its name stands in the binary logs of all members. If the member is lost before
// it answers, Outcomes looks for it there: then the COMMIT took effect and is
// answered as such; if it can no longer come, the transaction is run again.
//
// # Promises
//
//   - An answer goes to the client whose request it answers, or to nobody: a
//     connection with an answer outstanding is never given to another session.
//   - A request is run again only if it cannot have been understood, if the
//     server said that it did nothing, or if it plainly only reads. Autocommit
//     writes that lost certification are tried again, a bounded number of times.
//   - A transaction that was certainly rolled back, and was not run again, is
//     reported as error 1213, because what to do is the same. An outcome nobody
//     knows is reported as error 1053 that says so: that of autocommit writes, and
//     of commits where the group itself lost its majority. Both leave the session
//     usable.
//   - State that is lost with a member and cannot be made again ends the session,
//     after an error that says what was lost.
//   - Waiting has limits: HoldLimit for a member, BorrowTimeout for a connection.
//   - A member is given up for lost by the View, not by one broken connection;
//     trouble of our own only makes others preferred for a second, and makes
//     watch look again.
//
// # Changes of schema
//
// Two changes of schema at once, or one beside writes made under the old schema
// on other members, throw members out of a multi-primary group. So where several
// members take writes, a change of schema
//
//  1. commits its session's transaction, as the server would;
//  2. waits for its turn in this process, then for the user-level lock
//     "perdure.schema" on the member with the lowest name: the same one in
//     every proxy that sees the same View;
//  3. sends all writes of this proxy to that member and waits until no
//     transaction of another session is open elsewhere (DrainLimit, else error
//     1205 and nothing was changed);
//  4. has Others do the same: all other proxies, and it looks on the members
//     whether anybody has a transaction open that wrote;
//  5. waits until that member has applied what the others committed;
//  6. runs, answers its client, and
//  7. lets go only when it is certainly over and every member has applied it.
//
// A member counts until the majority has put it out or it says itself that it is
// not in the group. While nobody knows who is, a change of schema waits.
//
// What a text does not show is not seen: a stored procedure or an event that
// changes the schema takes no turn.
//
// # Splitting
//
// On a split listener a statement goes to a reader if it plainly only reads and
// does not ask for anything a connection remembers; START TRANSACTION READ ONLY
// goes there too. A comment /* perdure:writer */ (or reader), or the query
// attribute perdure.route, decides otherwise. A reader that is more than a second
// behind what the session wrote is passed over for the writer.
//
// # Pooling
//
// FOUND_ROWS() and ROW_COUNT() are about the statement directly before; what an
// earlier one left may be on another connection by then. An INSERT that names its
// own id is reported like one that was given it, so that LAST_INSERT_ID() elsewhere
// than on the connection that ran it is that id. A statement that is prepared again
// has the lengths of the character set of that moment.
//
// Connections are shared by sessions with the same user, secret, capabilities
// that shape the protocol, collation and connection attributes. With
// PerConnection they change hands, reset, when a client leaves; with
// PerTransaction after every transaction. A connection whose last session comes
// back is used as it is.
package proxy
