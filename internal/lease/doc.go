// Package lease decides which node may act.
//
// Everything Perdure changes is changed by one node at a time: the one that
// holds the lease. The others stand by and take over when it stops renewing.
//
// # The lease is a document
//
// It lies in the control store at state.LeaseKey(name). Whoever creates it
// holds the lease. The holder renews it by writing it again, four times per
// TTL. To end a term is to delete it: the holder does that when it shuts down,
// and any other node may do it once it has seen the same revision for a whole
// TTL of its own clock. Every one of these steps names the revision it is based
// on, so of two nodes that try the same step one is refused.
//
// A term is one life of the document, from creation to deletion. Its epoch is
// the revision of the creation, so epochs only grow, and a fence (see
// state.Fence) is checked against the living document in the same transaction
// as the change it protects: from the moment a term is deleted, none of its
// changes can reach the store, however late they arrive.
//
// # The trust window
//
// Actions outside the store, on MySQL servers, have no such transaction.
// For them the holder must know by itself when to stop, and must stop before
// anybody else may begin:
//
//	holder       sends renewal r ──────── trusts itself ────────┤ margin │
//	             at time s                until s + TTL − margin │        │
//	another node        sees r, at s or later ───── waits TTL ─────────────┤ deletes, begins
//
// The window counts from the moment the renewal was sent, not from the answer,
// because the other node may have seen it before the answer arrived. Both sides
// measure how long, never until when: clocks need not agree, they only must not
// run at speeds that differ by more than the margin (an eighth of the TTL;
// real clocks differ by less than a thousandth). A renewal without an answer
// does not move the window, whether it happened or not.
//
// # What if
//
//   - The holder dies: another acts one TTL after it saw the last renewal. If
//     the control store's own leader died in the same moment, the last renewal
//     may be seen only after its election. With the defaults, three seconds and
//     an election of at most two, that is five. (A lease kept by etcd itself
//     counts its TTL anew after every election, whoever died.)
//   - The holder is frozen (SIGSTOP, a long pause) and thaws: the monotonic
//     clock went on, the window has passed, Term says no at once and the
//     contexts of Hold end as soon as their timers run.
//   - The wall clock jumps: nothing is measured with it. As a second opinion
//     Term also refuses when the wall clock says the window has passed, because
//     a suspended machine stops its monotonic clock. A jump forward thus costs
//     the term a pause until its next renewal; a jump backward costs nothing.
//   - A virtual machine is stopped and resumed, both clocks with it: no clock
//     shows it. Until the next renewal is refused, within a quarter of the TTL,
//     the node believes that it leads. This is why a step of a plan is written
//     down under the term's fence before it is done: the store refuses it.
//   - The store does not answer: the window closes, the work stops, and the
//     node goes on trying to renew. If nobody took the lease meanwhile the term
//     goes on with its epoch, since then nobody else has led.
//   - The holder shuts down: it deletes the document and another begins at once.
//     Keeper.Run must therefore end after the work that was done under Hold.
//   - A restarted node finds its own old term: with Config.Reclaim it ends that
//     term at once instead of waiting for it.
package lease
