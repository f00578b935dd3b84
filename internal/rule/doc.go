// Package rule brings events to those who want to know: rules say which events
// go to which channels and hooks, and what goes there is brought for certain.
//
// # The way of an event
//
//	stream ──► rules ──► held back? silenced? ──► tasks ──► attempts ──► done
//	 position                flaps, silences        │          │ fails: back off
//	                                                │          └─► dead letters
//	                       all of it in the control store
//
// The node that holds the lease reads the stream of events from where the last
// one stopped. For each event and target it writes a task, and only then moves
// the position on; a crash in between reads the event again and finds the task
// there. A task is tried until it is done, its target refuses it for good, or
// it was tried long enough: then it is a dead letter, to be redriven or
// discarded by a human. Nothing waits in memory alone.
//
// A target gets one task at a time, and tasks about one subject in order. All
// hooks of a cluster share one lane: one runs at a time. While a target fails
// it is tried with one task at a time, with pauses that double up to a limit;
// when it is back, everything that waits goes out at once.
//
// An attempt has an outcome that may be lost with the node that made it. Then
// it is made again, with the same ID: receivers and hooks that must not act
// twice keep the IDs they have acted on.
//
// # Floods
//
// When one rule sends too many events about one subject within a time, one
// message says so and the rest is held back until the subject is calm for that
// time; a last message then counts them and says where it ended. Hooks run for
// the last event only. While it goes on there is a message an hour.
package rule
