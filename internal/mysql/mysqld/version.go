package mysqld

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
)

// Version is the version of a server.
type Version struct{ Major, Minor, Patch int }

// Oldest is the oldest version we support: the first one Amazon RDS offers for
// active-active groups, and the last series people still run.
var Oldest = Version{8, 0, 35}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Compare is negative when v is older than w, positive when newer.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Patch, w.Patch))
}

// Before says whether v is older than w.
func (v Version) Before(w Version) bool { return v.Compare(w) < 0 }

var versionInBanner = regexp.MustCompile(`Ver (\d+)\.(\d+)\.(\d+)`)

// parseBanner reads what mysqld --version prints.
func parseBanner(banner string) (Version, error) {
	m := versionInBanner.FindStringSubmatch(banner)
	if m == nil {
		return Version{}, fmt.Errorf("its version cannot be read from %.80q", banner)
	}
	var n [3]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+1]) // only digits get here
	}
	return Version{n[0], n[1], n[2]}, nil
}
