package node_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/node"
)

// What only looks like a fault: both processors busy for a minute, stalls of two
// seconds, a disk that takes its time, a clock that jumps. No member may be
// expelled, rebuilt or fenced, and nothing is decided. The group's own counter of
// its membership is the judge: it changes with everybody who comes or goes.
// PERDURE_FALSE_ALARMS=1; it takes six minutes, most of it for compiling a program
// whose clock jumps.
func TestNothingIsDoneAboutWhatIsNoFault(t *testing.T) {
	if os.Getenv("PERDURE_FALSE_ALARMS") == "" {
		t.Skip("set PERDURE_FALSE_ALARMS to run it")
	}
	slow := newSlowDisk(t)
	w := newWhole(t, node.Options{Heal: true}, nil, mysqltest.Durable())
	l := startLoad(t, w.rw, 32, 10*time.Millisecond)
	calm := func(what string, do func()) {
		t.Helper()
		w.healthy(t, time.Minute)
		was, at, began := w.membership(t), l.now(), time.Now()
		do()
		w.healthy(t, time.Minute)
		now := w.membership(t)
		gap, _ := l.gap(at, l.now())
		errors, text := l.errors(at)
		fmt.Fprintf(os.Stderr, "%-50s %4.0f s, %5.0f writes/s, longest stall %.2f s, %d errors %s; membership %s\n",
			what, time.Since(began).Seconds(), l.rate(at, l.now()), gap.Seconds(), errors, text, now)
		if was != now {
			t.Errorf("%s: the group's membership was %s and is %s", what, was, now)
		}
		if errors > 0 {
			t.Errorf("%s: clients saw errors\n%s", what, w.saidOf(t, "no member lets a session in"))
		}
		if d := w.node.Node.Group().Decided(); d.After(began) {
			t.Errorf("%s: healing decided on something", what)
		}
	}
	if only := os.Getenv("PERDURE_FALSE_ALARMS"); only != "stall" {
		calm("both processors busy", func() {
			var busy []*exec.Cmd
			for range 4 {
				c := exec.Command("sh", "-c", "while :; do :; done")
				if err := c.Start(); err != nil {
					t.Fatal(err)
				}
				busy = append(busy, c)
			}
			time.Sleep(time.Minute)
			for _, c := range busy {
				_ = c.Process.Kill()
				_ = c.Wait()
			}
		})
	}
	calm("a stall of 2 s of each member, three times", func() {
		for range 3 {
			for _, m := range w.three {
				if err := m.Freeze(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
				if err := m.Thaw(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * time.Second)
			}
		}
	})
	if os.Getenv("PERDURE_FALSE_ALARMS") == "stall" {
		return
	}
	calm("every flush to disk takes 200 ms longer, for 30 s", func() {
		slow.set(t, 200)
		time.Sleep(30 * time.Second)
		slow.set(t, 0)
	})
	w.node.stop()
	d := newDaemon(t, w, jumpy(t))
	d.start()
	cl, err := d.client(30 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	viewer := eye(t, w.three)
	was, at, began := w.membership(t), l.now(), time.Now()
	time.Sleep(time.Minute)
	ops, err := cl.Operations(t.Context(), 1)
	if err != nil || len(ops) > 0 && ops[0].Created.After(began.Add(-30*time.Second)) && ops[0].Kind != "create" {
		t.Errorf("the node with a jumping clock did something: %v %+v", err, ops)
	}
	log, _ := os.ReadFile(d.log())
	errors, text := l.errors(at + 15*time.Second) // clients reconnect to the new node
	fmt.Fprintf(os.Stderr, "%-50s %4.0f s, %5.0f writes/s, %d errors %s; healing said %d times something\n", "the node's clock jumps by an hour every 5 s",
		time.Since(began).Seconds(), l.rate(at, l.now()), errors, text, strings.Count(string(log), "msg=healing"))
	if now := w.membership(t); was != now {
		t.Errorf("clock jumps: the group's membership was %s and is %s", was, now)
	}
	if strings.Contains(string(log), "msg=healing") {
		t.Errorf("clock jumps: healing did something:\n%s", tail(d.log(), 40))
	}
	l.stop()
	l.onEach(t, w.three)
	audited(t, viewer, w.three)
}

// saidOf is what the node's log has to say of something.
func (w *whole) saidOf(t *testing.T, what string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, "node.log"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.SplitSeq(string(b), "\n") {
		if strings.Contains(line, what) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// membership is the number of the group's view, the same on all members, and who
// is read-only.
func (w *whole) membership(t *testing.T) string {
	t.Helper()
	var out []string
	for _, m := range w.three {
		out = append(out, one(t, m.Root(t), "SELECT CONCAT(COALESCE((SELECT view_id FROM performance_schema.replication_group_member_stats WHERE member_id = @@server_uuid), 'none'), ' read-only ', @@super_read_only)"))
	}
	for _, o := range out {
		if o != out[0] {
			return strings.Join(out, " / ")
		}
	}
	return out[0]
}

// slowDisk makes every flush of the servers of a test take longer, when asked: a
// library that is loaded before the server's own.
type slowDisk struct{ knob string }

const slowSource = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>
static void wait_(void) {
	FILE *f = fopen(KNOB, "r");
	int ms = 0;
	if (f) { if (fscanf(f, "%d", &ms) != 1) ms = 0; fclose(f); }
	if (ms > 0) usleep(ms * 1000);
}
int fsync(int fd) { static int (*real)(int); if (!real) real = dlsym(RTLD_NEXT, "fsync"); wait_(); return real(fd); }
int fdatasync(int fd) { static int (*real)(int); if (!real) real = dlsym(RTLD_NEXT, "fdatasync"); wait_(); return real(fd); }
`

func newSlowDisk(t *testing.T) *slowDisk {
	t.Helper()
	dir := t.TempDir()
	d := &slowDisk{knob: filepath.Join(dir, "milliseconds")}
	source, lib := filepath.Join(dir, "slow.c"), filepath.Join(dir, "slow.so")
	text := strings.ReplaceAll(slowSource, "KNOB", fmt.Sprintf("%q", d.knob))
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", lib, source, "-ldl").CombinedOutput(); err != nil {
		t.Skipf("a slow disk takes a C compiler: %v: %s", err, out)
	}
	t.Setenv("LD_PRELOAD", lib)
	return d
}

func (d *slowDisk) set(t *testing.T, ms int) {
	t.Helper()
	if err := os.WriteFile(d.knob, []byte(fmt.Sprint(ms)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// jumpy builds the program with a clock that is right, an hour ahead and an hour
// behind in turns of five seconds, while its monotonic part goes on as it is:
// what time.Now says after somebody set the host's clock.
func jumpy(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Skip("it takes the Go tools")
	}
	source := filepath.Join(strings.TrimSpace(string(out)), "src", "time", "time.go")
	b, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const where = "\tmono -= startNano\n\tsec += unixToInternal - minWall\n"
	if strings.Count(string(b), where) != 1 {
		t.Skip("this version of Go reads its clock otherwise")
	}
	dir := t.TempDir()
	changed := strings.Replace(string(b), where, "\tmono -= startNano\n\tsec += [...]int64{0, 3600, 0, -3600}[(mono/5e9)%4]\n\tsec += unixToInternal - minWall\n", 1)
	overlay := filepath.Join(dir, "overlay.json")
	for name, text := range map[string]string{
		filepath.Join(dir, "time.go"): changed,
		overlay:                       fmt.Sprintf(`{"Replace": {%q: %q}}`, source, filepath.Join(dir, "time.go")),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "perdure")
	began := time.Now()
	build := exec.Command("go", "build", "-overlay", overlay, "-o", program, "github.com/perdure/perdure/cmd/perdure")
	build.Env = append(os.Environ(), "LD_PRELOAD=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build a program whose clock jumps: %v\n%s", err, out)
	}
	t.Logf("built in %.0f s", time.Since(began).Seconds())
	return program
}
