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
}
