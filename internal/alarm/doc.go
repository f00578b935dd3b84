// Package alarm watches conditions: rules over what we believe about the
// members and over this node's metrics, written as data.
//
// # States
//
//	OK ──condition true for `for`──► ALARM ──clear true for `hold`──► OK
//	 └──data missing for `for`─────► NO-DATA ─(the same ways out)
//
// A condition that is true is not yet an alarm, and one that is false again is
// not yet over: `for` and `hold` say how long. Between `when` and `clear` an
// alarm stays what it is (hysteresis). Without `clear`, not `when` clears it.
//
// Missing data are an alarm unless a rule says otherwise: a metric that is not
// exported any more, a member whose numbers cannot be read, a View older than
// a few seconds. Turning to and from NO-DATA is told like an alarm.
//
// # Who evaluates
//
// The node that holds the lease, once a second. The states, what they are
// turning to, the acknowledgements and the newest changes are one document in
// the control store, so they outlive the node. A change is written there
// together with the event that tells it, and the event is published after: a
// crash in between publishes it again under the same ID.
//
// Evaluating changes nothing else: alarms heal nobody.
package alarm
