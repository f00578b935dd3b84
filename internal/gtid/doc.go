// Package gtid knows MySQL's global transaction identifiers: it reads and
// writes sets of them as the server does, joins, subtracts and compares them,
// and finds what one server has and another lacks.
//
// # Words
//
// A [GTID] names one transaction: a [Source] (the UUID it was committed under
// and, since MySQL 8.3, an optional [Tag]) and a number. A [Set] holds any
// number of them as ranges. A transaction is errant on one server relative to
// others if they do not have it; see [Errant].
//
// # Promises
//
// Values are never modified after they were made, so they may be copied and
// shared between goroutines freely. The zero Set is the empty set. Equal sets
// have the same text, and that text is, byte for byte, what the server prints
// for them.
//
// Costs follow the number of ranges, never the number of transactions: reading
// text takes time and memory proportional to its length (plus sorting, where
// it is out of order), and every operation on sets is one pass over both.
//
// # Which text is accepted
//
// The grammar is the one of GTID_SUBSET and GTID_SUBTRACT in MySQL 9.7:
//
//	set      = { "," } [ item { "," { "," } item } { "," } ]
//	item     = uuid { ":" ( tag | interval ) }
//	interval = number [ "-" number ]
//
// White space may stand between any two of these, never inside one. An
// interval belongs to the last tag before it in its item, "5-3" is an empty
// interval and not a mistake, and numbers are decimal, leading zeros or not.
//
// Servers have a second, older reader: the only one before 9.7, and still the
// one behind gtid_purged and WAIT_FOR_EXECUTED_GTID_SET. It takes numbers with
// leading zeros for octal, does not know UUIDs in braces or without hyphens,
// and lets pass some unfinished text ("uuid:1-"). Text that String made means
// the same to both, so pass that on to servers rather than text from people.
package gtid
