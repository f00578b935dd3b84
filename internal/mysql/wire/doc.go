// Package wire speaks the MySQL client/server protocol: packets, the greeting
// and the exchange that signs a client in, OK and ERR packets with their
// session tracks, and a tracker that follows an answer without ever holding
// more of it than the packet it has to look at.
//
// It has no policy. Who may connect, where to, and what to do about an error
// is decided by the packages above.
//
// Three things everybody else relies on:
//
//   - Conn hands out slices of its own buffer. They are valid until the next
//     call that fills it.
//   - Nothing that arrives from a stranger is believed: every length is checked
//     against what is there, and against a limit before memory is set aside.
//   - Following an answer (Tracker.Scan) allocates nothing.
package wire
