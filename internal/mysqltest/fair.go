package mysqltest

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// Fair tells how much of a time was somebody else's. The tests of several packages
// run side by side, and a promise in seconds is about a machine that has room for
// it: on a quiet one every second counts, on a crowded one only those in which
// nobody waited for a processor or the disk.
type Fair struct{ cpu, io time.Duration }

// StartFair begins to look.
func StartFair() Fair { return Fair{stalled("cpu"), stalled("io")} }

// Of is d, which ends now, without the time since the start in which somebody on
// this machine was kept waiting. Start it when what is measured begins, and ask as
// soon as it has ended: all that passes in between is forgiven.
func (f Fair) Of(d time.Duration) time.Duration {
	return max(0, d-max(stalled("cpu")-f.cpu, stalled("io")-f.io))
}

// stalled is for how long somebody waited for that, since the machine started, as
// the kernel counts it. Where it does not count, nobody ever waits.
func stalled(what string) time.Duration {
	b, err := os.ReadFile("/proc/pressure/" + what)
	_, total, ok := strings.Cut(string(b), "total=")
	var us int64
	if err == nil && ok {
		_, _ = fmt.Sscan(total, &us)
	}
	return time.Duration(us) * time.Microsecond
}
