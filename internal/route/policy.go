package route

import (
	"fmt"
	"strconv"
	"strings"
)

// Policy says over how many members writes are spread. The zero value is
// Spread.
type Policy struct {
	// Max is how many members take writes; 0 means all that can.
	Max int
	// Prefer is the member that comes first while it can be written to.
	Prefer string
}

// Spread lets every writable member take writes.
var Spread = Policy{}

// Pinned sends all writes to one member: the named one while it can be written
// to, else the lowest name.
func Pinned(member string) Policy { return Policy{Max: 1, Prefer: member} }

// AtMost sends writes to n members.
func AtMost(n int) Policy { return Policy{Max: n} }

// ParsePolicy reads "spread", "pinned", "pinned:NAME" or a number.
func ParsePolicy(s string) (Policy, error) {
	word, name, _ := strings.Cut(strings.TrimSpace(s), ":")
	switch word {
	case "", "spread":
		return Spread, nil
	case "pinned":
		return Pinned(name), nil
	}
	if n, err := strconv.Atoi(word); err == nil && n > 0 {
		return AtMost(n), nil
	}
	return Policy{}, fmt.Errorf("writer policy %q is none of spread, pinned, pinned:NAME or a number above 0", s)
}

func (p Policy) String() string {
	switch {
	case p.Max == 0:
		return "spread"
	case p.Max == 1 && p.Prefer != "":
		return "pinned:" + p.Prefer
	case p.Max == 1:
		return "pinned"
	}
	return strconv.Itoa(p.Max)
}
