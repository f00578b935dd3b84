//go:build unix && !linux

package hook

import (
	"os/exec"
	"syscall"
)

// apart gives the command a process group of its own, so that all it starts can
// be killed.
func apart(cmd *exec.Cmd, as *syscall.Credential) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: as}
}
