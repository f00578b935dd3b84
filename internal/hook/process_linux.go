package hook

import (
	"os/exec"
	"syscall"
)

// apart gives the command a process group of its own, so that all it starts can
// be killed, and has the kernel kill it if this node is killed.
func apart(cmd *exec.Cmd, as *syscall.Credential) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: as}
}
