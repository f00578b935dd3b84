package mysqld

import (
	"os/exec"
	"syscall"
)

// tieToParent makes the kernel kill the child when we die, even of SIGKILL. A
// process group of its own keeps Ctrl-C at the terminal away from it: servers
// are stopped by us, in order.
func tieToParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
