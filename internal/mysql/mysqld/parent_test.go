package mysqld_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql/mysqld"
)

// beParent is this test binary in another role: it starts a server on the
// directory, prints its pid and waits to be killed.
func beParent(dir string) int {
	b, err := mysqld.Find("")
	if err == nil {
		var s *mysqld.Server
		if s, err = mysqld.New(mysqld.Config{Binary: b, Dir: dir, ServerID: 1}); err == nil {
			if err = s.Start(context.Background()); err == nil {
				// Threads come and go meanwhile; the server must survive that.
				churnThreads()
				if err = s.WaitUsable(context.Background()); err == nil {
					fmt.Println(s.PID())
					select {}
				}
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// churnThreads ends as many threads of this process as Go can be made to end: a
// goroutine that ends while it is locked takes its thread with it.
func churnThreads() {
	done := make(chan struct{})
	for range 50 {
		go func() { runtime.LockOSThread(); done <- struct{}{} }()
	}
	for range 50 {
		<-done
	}
	time.Sleep(200 * time.Millisecond) // the threads end after the last line of their goroutines
}

func TestAServerDiesWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has a parent-death signal")
	}
	t.Parallel()
	dir, _ := prepared(t)
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "PERDURE_TEST_CHILD="+dir)
	parent.Stderr = os.Stderr
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if err := parent.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = parent.Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent printed %q", line)
	}
	for limit := time.Now().Add(10 * time.Second); ; {
		if gone(pid) {
			return
		}
		if time.Now().After(limit) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("server %d lives on without its parent", pid)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// gone counts a zombie as gone: who reaps it is not our affair.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}
