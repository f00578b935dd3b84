//go:build unix && !linux

package mysqld

import (
	"os/exec"
	"syscall"
)

// tieToParent keeps Ctrl-C at the terminal away from the child. Without a
// parent-death signal the child outlives a parent that is killed.
func tieToParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
