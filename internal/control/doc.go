// Package control is the control store: documents that all nodes see alike,
// kept in etcd. It is the only package that knows etcd.
//
// By default etcd runs inside this process. One node alone opens no socket at
// all: calls reach the store as function calls, and there is nobody to talk
// to. Several nodes open one port each, for each other, with TLS in both
// directions; still no client port, because every node asks the etcd inside
// itself. A store that the operator runs can be named instead (Endpoints).
//
// # What a caller can rely on
//
// Control is a state.Store. Reads are linearizable. A change is one
// transaction: compare the document's revision, compare the lease's term,
// write. Every call ends within Config.CallLimit. A call that got no answer
// returns state.ErrUnavailable, and then it is not known whether it happened;
// so does every call while more than half of the nodes are away, whatever this
// node remembers.
//
// A change that was acknowledged has been on the disks of a majority (fsync),
// and survives kill -9 of every node.
//
// A full disk does not end the process: calls return ErrFull, which is
// state.ErrUnavailable too, until there is room again; see room.go.
//
// # Where things are
//
// A document lies in etcd at Prefix + its key. The embedded store keeps its
// files in Config.Dir, which only its owner can read and only one process can
// use: a lock refuses the second, and the kernel drops the lock with the
// process, however that ends.
package control
