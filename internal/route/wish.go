package route

// Wish is what operators asked of routing. It is one document in the control
// store, and every node obeys it.
type Wish struct {
	Writers string   `json:"writers,omitempty"` // as ParsePolicy reads it; "" leaves the file's
	Drains  []string `json:"drains,omitempty"`  // members out of use
}
