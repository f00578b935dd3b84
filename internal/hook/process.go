package hook

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// killGroup kills the command and everything it started, unless it left the
// group on purpose.
func killGroup(cmd *exec.Cmd) error {
	if cmd.Process == nil {
		return nil
	}
	err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// account is the name of whom the command runs as.
func (h *Hook) account() (string, error) {
	if os.Geteuid() != 0 {
		u, err := user.Current()
		if err != nil {
			return strconv.Itoa(os.Geteuid()), nil //nolint:nilerr // an account without a name will do
		}
		return u.Username, nil
	}
	name := cmp.Or(h.cfg.User, "nobody")
	if name == "root" || name == "0" {
		return name, errors.New("user: hooks do not run as root")
	}
	return name, nil
}

// credential says as whom to run the command; nil is as we are, which is not
// root.
func (h *Hook) credential() (*syscall.Credential, error) {
	name, err := h.account()
	if err != nil || os.Geteuid() != 0 {
		return nil, err
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("user: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("user: %w", err)
	}
	if uid == 0 {
		return nil, errors.New("user: hooks do not run as root")
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{}}, nil
}
