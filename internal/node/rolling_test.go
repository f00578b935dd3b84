package node_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/node"
)

// Every server of a cluster is restarted, and then replaced by another copy of
// its programs, one after the other, under 32 writers. No client of the proxy is
// told of an error and the members are equal afterwards. PERDURE_ROLLING=rounds
// for the long run, a round takes about a minute; PERDURE_THINK=duration for
// writers that pause otherwise, or with 0s not at all.
func TestRollingPlansUnderLoadAreNotFelt(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("PERDURE_ROLLING"))
	if err != nil {
		t.Skip("set PERDURE_ROLLING to the number of rounds to run it")
	}
	pause, err := time.ParseDuration(cmp.Or(os.Getenv("PERDURE_THINK"), rollingPause.String()))
	if err != nil {
		t.Fatal(err)
	}
	d := newDepot(t)
	w := newWhole(t, node.Options{Heal: true}, func(f *config.File) { f.Service.Restart = d.command() }, mysqltest.Each(d.via))
	d.manage(t, w)
	flow := flowControl(t, w.three[0])
	for round := range rounds {
		for _, kind := range []string{"restart", "upgrade"} {
			w.healthy(t, 2*time.Minute)
			l := startLoad(t, w.rw, 32, pause)
			time.Sleep(2 * time.Second) // it is under way
			before, began := l.rate(time.Second, l.now()), l.now()
			d.next(kind == "upgrade")
			var o api.Operation
			if kind == "restart" {
				o, err = w.node.Client.Group(t.Context(), "restart", api.Ask{})
			} else {
				o, err = w.node.Upgrade(t.Context(), api.Upgrade{})
			}
			o = w.node.done(t, o, err)
			time.Sleep(time.Second) // what comes late
			ended := l.now()
			l.stop()
			n, text := l.errors(0)
			gap, at := l.gap(began, ended)
			fmt.Fprintf(os.Stderr, "round %d %-7s %5.1f s, %d writes (%.0f/s before), errors to clients %d, longest stall of everybody %.2f s after %.1f s, slowest write %.2f s %s\n",
				round+1, kind, (ended - began).Seconds(), l.count(began, ended), before, n, gap.Seconds(), (at - began).Seconds(), l.worst.Seconds(), text)
			if n > 0 {
				t.Errorf("clients were told of %d errors: %s", n, text)
			}
			if testing.Verbose() {
				t.Log(story(o))
			}
			if kind == "upgrade" {
				d.check(t, w.three)
			}
			for _, m := range w.three { // writers may have been slowed down meanwhile
				if now := flowControl(t, m); now != flow {
					t.Errorf("flow control of %s is %s, it was %s", m.Name(), now, flow)
				}
			}
			l.onEach(t, w.three)
			sameEverywhere(t, w.three, nil)
			audited(t, w.node.Node.Watch(), w.three)
		}
	}
}

func flowControl(t *testing.T, m *mysqltest.Member) (settings string) {
	t.Helper()
	if err := m.Root(t).QueryRowContext(t.Context(), `SELECT GROUP_CONCAT(VARIABLE_NAME, '=', VARIABLE_VALUE ORDER BY VARIABLE_NAME)
		FROM performance_schema.global_variables WHERE VARIABLE_NAME LIKE 'group_replication_flow_control%'`).Scan(&settings); err != nil {
		t.Fatal(err)
	}
	return settings
}

// rollingPause is what each of the writers thinks between two writes. Members and
// writers share two processors: a member that joins would not catch up with
// writers who take all they get, and the plan waits for it.
const rollingPause = 100 * time.Millisecond

// depot has two copies of the server's programs, and a link to one of them for
// each member, as a host has a directory that a package manager replaces.
type depot struct {
	dir    string
	trees  [2]string
	binary mysqld.Binary
	want   int // the tree every member shall run from
}

func newDepot(t *testing.T) *depot {
	t.Helper()
	d := &depot{dir: t.TempDir(), binary: mysqltest.Binary(t)}
	d.trees[0], d.trees[1] = d.binary.BaseDir, filepath.Join(d.dir, "copy")
	if out, err := exec.Command("cp", "-a", d.trees[0], d.trees[1]).CombinedOutput(); err != nil {
		t.Fatalf("unpack a second copy: %v: %s", err, out)
	}
	return d
}

func (d *depot) link(member string) string { return filepath.Join(d.dir, member, "server") }

// via makes a server run through its link.
func (d *depot) via(i int, cfg *mysqld.Config) {
	link := d.link(fmt.Sprintf("m%d", i+1))
	_ = os.MkdirAll(filepath.Dir(link), 0o700)
	_ = os.Symlink(d.trees[0], link)
	moved := func(path string) string { return link + strings.TrimPrefix(path, d.trees[0]) }
	cfg.Binary.Path, cfg.Binary.BaseDir = moved(cfg.Binary.Path), link
	cfg.Binary.PluginDir, cfg.Binary.MessagesDir = moved(cfg.Binary.PluginDir), moved(cfg.Binary.MessagesDir)
}

// next says which copy the next hand-over installs.
func (d *depot) next(other bool) {
	if other {
		d.want = 1 - d.want
	}
	_ = os.WriteFile(filepath.Join(d.dir, "wanted"), []byte(d.trees[d.want]+"\n"), 0o600)
}

// command is what stands in service.restart. Like a package manager it replaces
// the link in one step; like systemctl it returns when the service runs again.
func (d *depot) command() []string {
	script := filepath.Join(d.dir, "replace.sh")
	_ = os.WriteFile(script, []byte(`#!/bin/sh
set -e
cd "$1/$2"
ln -s "$(cat ../wanted)" server.new
mv -T server.new server
: >restart
while [ -e restart ]; do sleep 0.05; done
[ ! -e failed ]
`), 0o700) //nolint:gosec // a program
	return []string{script, d.dir, "{name}"}
}

// manage is the service manager: it restarts a server when asked.
func (d *depot) manage(t *testing.T, w *whole) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, m := range w.three {
		all.Go(func() {
			asked := filepath.Join(d.dir, m.Name(), "restart")
			for ; ctx.Err() == nil; rest(ctx, 20*time.Millisecond) {
				if _, err := os.Stat(asked); errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err := m.Restart(ctx); err != nil {
					_ = os.WriteFile(filepath.Join(d.dir, m.Name(), "failed"), nil, 0o600)
				}
				_ = os.Remove(asked)
			}
		})
	}
	t.Cleanup(func() { cancel(); all.Wait() })
}

// check sees that every server really runs from the wanted copy.
func (d *depot) check(t *testing.T, servers []*mysqltest.Member) {
	t.Helper()
	for _, m := range servers {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", m.PID()))
		if err == nil && !strings.HasPrefix(exe, d.trees[d.want]+"/") {
			t.Errorf("%s runs %s, not the copy in %s", m.Name(), exe, d.trees[d.want])
		}
	}
}
