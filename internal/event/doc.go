// Package event holds the words for what happened: the kinds, how severe, to
// whom, with which facts; and the one-method Publisher that everybody who
// notices something is handed.
//
// # What an event is, and is not
//
// An event is an output. It tells people and programs outside what was seen or
// done; nothing that heals, routes or fences waits for one or is started by
// one. A Publisher therefore never blocks and never fails towards its caller.
//
// Delivery is at least once. Events that come again carry the same ID: whoever
// acts on one keeps the IDs it has acted on. Events with the same Subject are
// in order.
//
// # On the wire
//
// An Event's JSON is a CloudEvent 1.0 in structured mode: type is "perdure."
// and the kind, source is "/perdure/CLUSTER/NODE", and severity, cluster, node
// and member are extension attributes. The text, labels and facts are in data.
//
// The kinds are listed in kinds.go with what each means; docs/events.md is the
// same list and a test keeps the two equal.
package event
