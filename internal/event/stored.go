package event

import "time"

// Stored is an event with the place it has in the stream of events. The Event
// is zero if what lies there is none that this version can read.
type Stored struct {
	Sequence uint64 `json:"sequence"`
	Event    Event  `json:"event"`
}

// Range is what a stream of events holds. Sequences of one generation mean
// nothing in another: the stream was made anew in between.
type Range struct {
	Generation string    `json:"generation"`
	First      uint64    `json:"first"`
	Last       uint64    `json:"last"` // less than First if it is empty
	Oldest     time.Time `json:"oldest,omitzero"`
	Bytes      int64     `json:"bytes"`
}
