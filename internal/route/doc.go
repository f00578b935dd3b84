// Package route holds the current answer to "which server for this session".
//
// A Plan is made of three things: the View (what watch believes), the writer
// policy (what the operator wants) and the drains and holds in force. It is
// never changed after it was made; the Table swaps a pointer, and whoever waits
// on a plan learns that there is a newer one from its Changed channel.
//
// What a session may rely on:
//
//   - Plan is one atomic load. A session that kept the pointer knows with one
//     comparison that nothing happened.
//   - The same View, policy and drains give the same writers in every process:
//     wherever one member has to be chosen, it is the one with the lowest name
//     among those that can be written to.
//   - Pick never returns a member that is drained, held or not in the plan.
package route
