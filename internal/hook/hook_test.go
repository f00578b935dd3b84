package hook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/hook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topSecret = "s3cret-t0ken"

func needs() hook.Needs {
	return hook.Needs{
		Secret: func(ref string) (string, error) {
			if ref == "env:TOKEN" {
				return topSecret, nil
			}
			return "", errors.New("there is no " + ref)
		},
		Still: func(context.Context, event.Event) (bool, error) { return true, nil },
	}
}

func crash() event.Event {
	e := event.New(event.MemberCrashed, "member/m3", "m3 went away")
	e.Cluster = "shop"
	return e
}

// script makes a hook of a shell script.
func script(t *testing.T, text string, edit func(*hook.Config), n hook.Needs) *hook.Hook {
	t.Helper()
	dir, err := os.MkdirTemp("", "perdure-hook-") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // the hook runs as nobody
		t.Fatal(err)
	}
	path := filepath.Join(dir, "hook.sh")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil { //nolint:gosec // the hook runs as nobody
		t.Fatal(err)
	}
	// A program that was just written cannot be started while another test forks:
	// its child has the file open for writing. A shell may read it.
	cfg := hook.Config{Name: "test", Command: []string{"/bin/sh", path, "one two", "$HOME;`id`"}, Dir: dir, Timeout: event.Duration(10 * time.Second)}
	if edit != nil {
		edit(&cfg)
	}
	h, err := hook.New(cfg, n)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func final(err error) string {
	var f interface{ Final() string }
	if errors.As(err, &f) {
		return f.Final()
	}
	return ""
}

func TestACommandGetsTheEventAndNothingElse(t *testing.T) {
	t.Parallel()
	h := script(t, `echo "args: $# <$1> <$2>"; echo "env: $(env | sort | cut -d= -f1 | tr '\n' ' ')"; echo "id: $(id -u) $(id -G)"; echo "run: $PERDURE_ID $PERDURE_ATTEMPT $PERDURE_KIND $PERDURE_MEMBER"; echo "secret: $API_KEY"; cat`,
		func(c *hook.Config) { c.Secrets = map[string]string{"API_KEY": "env:TOKEN"} }, needs())
	e := crash()
	receipt, err := h.Attempt(t.Context(), "task-1", 2, e)
	if err != nil {
		t.Fatalf("%v: %s", err, receipt)
	}
	lines := strings.Split(receipt, "\n")
	uid := strconv.Itoa(os.Geteuid())
	if os.Geteuid() == 0 {
		uid = "65534"
	}
	for i, want := range []string{
		"args: 2 <one two> <$HOME;`id`>",
		"env: API_KEY HOME LANG PATH PERDURE_ATTEMPT PERDURE_CLUSTER PERDURE_HOOK PERDURE_ID PERDURE_KIND PERDURE_MEMBER PERDURE_SEVERITY PWD",
		"id: " + uid,
		"run: task-1 2 member.crashed m3",
		"secret: ***",
	} {
		if !strings.HasPrefix(strings.ReplaceAll(lines[i], " _ ", " "), want) {
			t.Errorf("line %d is %q, want %q", i, lines[i], want)
		}
	}
	var back event.Event
	if err := json.Unmarshal([]byte(strings.Join(lines[5:], "\n")), &back); err != nil || back.ID != e.ID {
		t.Errorf("it read %v, %v", lines[5:], err)
	}
}

func TestHowACommandEndsCounts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, err, final string }{
		{"well", "exit 0", "", ""},
		{"badly", "echo it did not work; exit 3", "exit status 3", ""},
		{"hopelessly", "exit 99", "do not try again", "dead"},
		{"by a signal", "kill -9 $$", "signal: killed", ""},
		{"without reading the event", "exec <&-; exit 0", "", ""},
	} {
		receipt, err := script(t, c.text, nil, needs()).Attempt(t.Context(), "t", 1, crash())
		if (err == nil) != (c.err == "") || (err != nil && !strings.Contains(err.Error(), c.err)) || final(err) != c.final {
			t.Errorf("%s: %v (final %q), receipt %q", c.name, err, final(err), receipt)
		}
		if c.name == "badly" && receipt != "it did not work" {
			t.Errorf("receipt %q", receipt)
		}
	}
	h, err := hook.New(hook.Config{Name: "x", Command: []string{"/no/such/program"}}, needs())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Attempt(t.Context(), "t", 1, crash()); err == nil || final(err) != "" {
		t.Errorf("a program that is not there: %v", err)
	}
}

func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	return !strings.Contains(string(b), ") Z ")
}

// pids reads the process ids a script wrote.
func pids(t *testing.T, path string, n int) []int {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		b, _ := os.ReadFile(path)
		var out []int
		for f := range strings.FieldsSeq(string(b)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, pid)
		}
		if len(out) == n {
			return out
		}
	}
	t.Fatalf("%s does not have %d process ids", path, n)
	return nil
}

func gone(t *testing.T, ids []int) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := 0
		for _, pid := range ids {
			if alive(pid) {
				left++
			}
		}
		if left == 0 {
			return
		}
		if time.Now().After(limit) {
			t.Errorf("%d of the processes %v are alive", left, ids)
			return
		}
	}
}

func TestAHookThatHangsIsKilledWithAllItStarted(t *testing.T) {
	t.Parallel()
	list := ""
	h := script(t, `trap '' TERM; sleep 600 & echo $! > pids; sh -c 'trap "" TERM; echo $$ >> pids; sleep 600' & echo $$ >> pids; echo before; wait`,
		func(c *hook.Config) { // long enough for three processes to say who they are
			c.Timeout = event.Duration(5 * time.Second)
			list = filepath.Join(c.Dir, "pids")
		}, needs())
	begin := time.Now()
	receipt, err := h.Attempt(t.Context(), "t", 1, crash())
	if err == nil || !strings.Contains(err.Error(), "did not end within 5s") || receipt != "before" || final(err) != "" {
		t.Errorf("%q, %v", receipt, err)
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("it took %s", d)
	}
	gone(t, pids(t, list, 3))
}

func TestWhatAHookLeavesBehindIsKilled(t *testing.T) {
	t.Parallel()
	list := ""
	h := script(t, `sleep 600 & echo $! > pids; echo done`, func(c *hook.Config) { list = filepath.Join(c.Dir, "pids") }, needs())
	begin := time.Now()
	receipt, err := h.Attempt(t.Context(), "t", 1, crash())
	if err != nil || receipt != "done" || time.Since(begin) > 30*time.Second {
		t.Errorf("%q, %v after %s", receipt, err, time.Since(begin))
	}
	gone(t, pids(t, list, 1))
}

// It does not run beside others: all the memory that is taken counts.
func TestMegabytesOfOutputAreReadAndNotKept(t *testing.T) {
	h := script(t, `head -c 50000000 /dev/zero | tr '\0' x; exit 0`, func(c *hook.Config) { c.Timeout = event.Duration(time.Minute) }, needs())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	receipt, err := h.Attempt(t.Context(), "t", 1, crash())
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 5_000_000 {
		t.Errorf("it took %d bytes of memory to read 50,000,000", took)
	}
	if err != nil || len(receipt) > 5000 || !strings.Contains(receipt, "(49995904 bytes more)") {
		t.Errorf("%d bytes kept, %v", len(receipt), err)
	}
}

func TestAHookReadsTheTruthAgain(t *testing.T) {
	t.Parallel()
	ran := 0
	n := needs()
	n.Actions = map[string]hook.Action{"count": func(_ context.Context, id string, _ event.Event, with map[string]string) (string, error) {
		ran++
		return id + " " + with["to"], nil
	}}
	so, trouble := true, error(nil)
	n.Still = func(context.Context, event.Event) (bool, error) { return so, trouble }
	cfg := hook.Config{Name: "x", Action: "count", With: map[string]string{"to": "three"}}
	h, err := hook.New(cfg, n)
	if err != nil {
		t.Fatal(err)
	}
	if receipt, err := h.Attempt(t.Context(), "t1", 1, crash()); err != nil || receipt != "t1 three" || ran != 1 {
		t.Errorf("%q, %v, ran %d times", receipt, err, ran)
	}
	so = false
	if _, err := h.Attempt(t.Context(), "t1", 1, crash()); final(err) != "skipped" || ran != 1 {
		t.Errorf("%v, ran %d times", err, ran)
	}
	trouble = errors.New("nobody answers")
	if _, err := h.Attempt(t.Context(), "t1", 1, crash()); err == nil || final(err) != "" || ran != 1 {
		t.Errorf("%v, ran %d times", err, ran)
	}
	cfg.Always = true
	if h, err = hook.New(cfg, n); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Attempt(t.Context(), "t1", 1, crash()); err != nil || ran != 2 {
		t.Errorf("always: %v, ran %d times", err, ran)
	}
}

func TestADryRunDoesNothingAndShowsNoSecret(t *testing.T) {
	t.Parallel()
	list := ""
	h := script(t, `echo > ran`, func(c *hook.Config) {
		c.Secrets = map[string]string{"API_KEY": "env:TOKEN"}
		list = filepath.Join(c.Dir, "ran")
	}, needs())
	r := h.DryRun(t.Context(), "t", crash())
	b, _ := json.Marshal(r)
	if strings.Contains(string(b), topSecret) || !strings.Contains(string(b), "API_KEY=***") || r.Still != "yes" || r.Problem != "" || r.User == "root" || !strings.Contains(r.Input, "perdure.member.crashed") {
		t.Errorf("%s", b)
	}
	if _, err := os.Stat(list); err == nil {
		t.Error("it ran")
	}
}

// TestAHookDiesWithItsNode kills the process that runs a hook.
func TestAHookDiesWithItsNode(t *testing.T) {
	t.Parallel()
	list := filepath.Join(t.TempDir(), "pid")
	cmd := exec.Command(os.Args[0], "-test.run=^TestNodeProcess$")
	cmd.Env = append(os.Environ(), "PERDURE_TEST_PIDS="+list)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ids := pids(t, list, 1)
	if !alive(ids[0]) {
		t.Error("the hook does not run")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	gone(t, ids)
}

func TestNodeProcess(t *testing.T) {
	list := os.Getenv("PERDURE_TEST_PIDS")
	if list == "" {
		t.Skip("it is run by another test")
	}
	f, err := os.OpenFile(list, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Chmod(0o666)                                    // the hook runs as nobody
	_ = os.Chmod(filepath.Dir(list), 0o777)               //nolint:gosec // the same
	_ = os.Chmod(filepath.Dir(filepath.Dir(list)), 0o777) //nolint:gosec // the same
	h := script(t, "echo $$ > "+list+"; exec sleep 600", func(c *hook.Config) { c.Timeout = event.Duration(time.Minute) }, needs())
	_, _ = h.Attempt(t.Context(), "t", 1, crash())
}

func TestMistakesInHooksAreNamed(t *testing.T) {
	t.Parallel()
	err := hook.Check([]hook.Config{
		{Name: "A"},
		{Name: "b", Command: []string{"x"}, User: "root", Secrets: map[string]string{"path": "env:X", "LD_PRELOAD": "env:X", "OK": "plain"}},
		{Name: "b", Action: "fly", HTTP: &hook.HTTP{URL: "ftp://x", Secret: "plain"}, Attempts: 1000},
	}, []string{"rejoin"})
	for _, want := range []string{"hooks[0].name", "exactly one kind", "hooks[1].command[0]", "hooks[1].user", "secrets.path", "secrets.LD_PRELOAD", "secrets.OK", "two hooks are called b", "no action \"fly\"; there are rejoin", "http.url", "http.secret", "attempts"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("lacks %q:\n%v", want, err)
		}
	}
}
