// Package peers keeps the list of a cluster's nodes, and decides who comes in
// and who goes.
//
// The list is one document in the control store, and a node is changed by
// changing its entry first: it is there from the moment a node was let in, and
// marked as leaving from the moment somebody asked for that. The node that
// holds the lease does what the list says and looks before each step, so it may
// be killed anywhere: the next one goes on.
//
// A node is let in by an invitation: a secret that is shown once, works once,
// and ends by itself. It also carries the fingerprint of the cluster's
// authority, so that the new node knows whom it talks to before it says
// anything. Who comes back with an invitation that he has used gets the same
// answer until he has started: his first answer may have been lost.
package peers
