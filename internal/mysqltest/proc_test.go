package mysqltest_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// blocks is what a file really occupies, holes not counted.
func blocks(path string) (mb float64) {
	var st syscall.Stat_t
	if syscall.Lstat(path, &st) != nil {
		return 0 // servers at work remove files
	}
	return float64(st.Blocks) * 512 / 1e6
}

// resident is the memory of a process in MB, 0 where the system does not say.
func resident(t *testing.T, pid int) (mb int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, _ = fmt.Sscan(value, &mb)
			return mb / 1000
		}
	}
	return 0
}
