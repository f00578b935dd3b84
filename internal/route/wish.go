package route

import "time"

// HoldMost is how long a hold lasts that nobody takes back: whoever asked for it
// may have died.
const HoldMost = 6 * time.Second

// Wish is what operators asked of routing. It is one document in the control
// store, and every node obeys it.
type Wish struct {
	Writers string   `json:"writers,omitempty"` // as ParsePolicy reads it; "" leaves the file's
	Drains  []string `json:"drains,omitempty"`  // members out of use
	// Hold names a hold that is on: nothing new begins, anywhere, until the name
	// goes or HoldMost is over, whichever is first.
	Hold string `json:"hold,omitempty"`
	// Funnel is set while a change of schema runs.
	Funnel *Funnel `json:"funnel,omitempty"`
}

// Funnel says that all writes go to one member.
type Funnel struct {
	Name   string `json:"name"`
	Node   string `json:"node"` // that asked for it
	Member string `json:"member"`
	// LockedOn is the member that has the schema lock as long as it is meant.
	LockedOn string `json:"locked_on"`
}

// Heard is what a node says about the funnel it obeys: by name, and only once no
// session of its own writes elsewhere any more.
type Heard struct {
	Funnel string `json:"funnel"`
}
