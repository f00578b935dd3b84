package mysqld

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// restartCode is how mysqld asks its supervisor to be started again.
const restartCode = 16

// Exit says how a server process ended.
type Exit struct {
	PID    int
	Code   int            // exit code; -1 when a signal ended it
	Signal syscall.Signal // 0 when it ended by itself
	At     time.Time
}

func (e Exit) String() string {
	if e.Signal != 0 {
		return fmt.Sprintf("process %d was ended by signal %d (%s)", e.PID, int(e.Signal), e.Signal)
	}
	return fmt.Sprintf("process %d ended with exit code %d", e.PID, e.Code)
}

// asksForRestart is true after RESTART, and after CLONE has replaced the data.
func (e Exit) asksForRestart() bool { return e.Code == restartCode }

// process is one running program. exit may be read once done is closed.
type process struct {
	cmd  *exec.Cmd
	pid  int
	done chan struct{}
	exit Exit
}

// launch starts cmd so that it dies with us. The goroutine it leaves ends with
// the process.
func launch(cmd *exec.Cmd) (*process, error) {
	tieToParent(cmd)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the thread that started
		// the child ends, not when the process does, and Go ends threads as it
		// likes. So one thread stays with the child, from its start to its end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		_ = cmd.Wait() // how it ended is in ProcessState
		p.exit = exitOf(cmd)
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

func exitOf(cmd *exec.Cmd) Exit {
	e := Exit{PID: cmd.Process.Pid, Code: cmd.ProcessState.ExitCode(), At: time.Now()}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal()
	}
	return e
}

// signal does nothing once the process is gone.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s to process %d: %w", sig, p.pid, err)
	}
	return nil
}
