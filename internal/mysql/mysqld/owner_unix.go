//go:build unix

package mysqld

import (
	"os"
	"syscall"
)

// ownedByUs says whether dir exists and is ours. A directory in a place open to
// all, such as /tmp, may have been put there by somebody else for us to execute.
func ownedByUs(dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}

// writable asks the kernel, because mode bits do not tell the whole truth.
func writable(dir string) bool { return syscall.Access(dir, 0x2) == nil }
