package mysql

import (
	"cmp"
	"fmt"
	"strings"
)

// Version is a MySQL server version.
type Version struct{ Major, Minor, Patch int }

// Oldest is the oldest version Perdure works with: before it, Group
// Replication lacks what safe restarts and clones need.
var Oldest = Version{8, 0, 35}

// ParseVersion reads the text of @@version, such as "8.0.35-log" or
// "9.7.4-1". MariaDB's versions are refused: it has no Group Replication.
func ParseVersion(s string) (Version, error) {
	var v Version
	if strings.Contains(strings.ToLower(s), "mariadb") {
		return v, fmt.Errorf("the server is MariaDB (%s), not MySQL: it has no Group Replication", s)
	}
	if n, err := fmt.Sscanf(s, "%d.%d.%d", &v.Major, &v.Minor, &v.Patch); err != nil || n != 3 {
		return v, fmt.Errorf("%q is not a MySQL version", s)
	}
	return v, nil
}

// Compare orders versions: negative if v is older than w.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Patch, w.Patch))
}

// AtLeast tells whether v is w or newer.
func (v Version) AtLeast(major, minor, patch int) bool {
	return v.Compare(Version{major, minor, patch}) >= 0
}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }
