// Package group keeps one replication group: it makes it, adopts it, lets
// members in and out, changes its mode and settings, stops it and starts it
// again.
//
// Everything it does is a plan (package plan): decided by a pure function from
// a fresh View and the cluster document (decide.go, guard.go, settings.go),
// journalled, and carried out step by step by the node that holds the lease
// (act.go, join.go, mode.go). Every step looks first and does what is missing,
// so a node may be killed anywhere and the next one goes on.
//
// Promises, each with a test on real servers:
//
//   - A group is bootstrapped only when every known member answered, none is
//     in a group, and the chosen one holds what all others hold; or when a
//     human named what may be lost. Running set-up again never makes a second
//     group.
//   - A member is read-only from its first breath until the group says ONLINE,
//     and again when it leaves.
//   - A server with transactions the group does not have is let in only after
//     a human gave them up by name.
//   - No password of a recovery account is kept anywhere outside MySQL.
//   - Two groups with one name are found, and the smaller one is made
//     read-only.
package group
