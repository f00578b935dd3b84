// Package schedule begins things at times: consistency audits, stops and starts
// of the group, rolling restarts.
//
// Only the node that leads begins anything. What was dealt with is a document
// in the control store, so that another node, or this one after a restart, goes
// on from there.
//
// # What may be relied on
//
// A time is dealt with at most once, also when clocks are turned, when a node's
// clock jumps, and when the node dies at that moment. Whoever dies between
// writing down that he begins and having begun leaves a time of which nobody
// knows; it is not begun again, and an event says so.
//
// A time at which no node could act is missed. It is skipped, or made up for
// once, late, as the entry says; of several missed times in a row only the
// newest counts.
//
// What cannot begin because something else is going on, a plan or an earlier
// run of the same, is refused, and an event says so. An entry that makes up for
// missed times tries again until it is too late.
//
// # Clocks
//
// Times are those of the entry's zone, UTC if it names none. In the hour that
// does not exist in spring, what was due in it begins an hour later. In the hour
// that comes twice in autumn, what has a fixed hour begins in its first pass
// only; what comes every hour, or every few minutes, goes on as if nothing were.
package schedule
