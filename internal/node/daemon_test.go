package node_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/node"
	"github.com/perdure/perdure/internal/topology"
	"github.com/perdure/perdure/internal/watch"
)

// daemonFile is the environment of a node that runs in a process of its own and
// heals: its perdure.yaml.
const daemonFile = "PERDURE_TEST_DAEMON_FILE"

// serveDaemon is what `perdure serve` does.
func serveDaemon(file string) int {
	f, err := config.Load(file)
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		var n *node.Node
		if n, err = node.New(ctx, f, node.Options{Version: "test", Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Heal: true}); err == nil {
			go tellMuch(ctx, n)
			err = n.Run(ctx)
		}
		if ctx.Err() != nil {
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// tellMuch tells a hundred events a second from the moment the node's process
// gets SIGUSR1.
func tellMuch(ctx context.Context, n *node.Node) {
	begin := make(chan os.Signal, 1)
	signal.Notify(begin, syscall.SIGUSR1)
	select {
	case <-begin:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		n.Publish(event.New(event.MemberLagging, fmt.Sprintf("member/m%d", i%3+1), "it is behind by 12 transactions").With("behind", fmt.Sprint(i)))
		<-tick.C
	}
}

// daemon is a node in a process of its own.
type daemon struct {
	t       *testing.T
	program string // this test, unless another is named
	file    string
	url     string
	data    string
	cmd     *exec.Cmd
	gone    chan struct{}
	cl      *client.Client
	starts  int
}

func newDaemon(t *testing.T, w *whole, program string) *daemon {
	t.Helper()
	d := &daemon{t: t, program: program, file: filepath.Join(w.dir, "node.yaml"), url: "https://" + w.api, data: filepath.Join(w.dir, "node")}
	t.Cleanup(d.kill)
	return d
}

func (d *daemon) log() string { return d.file + ".log" }

// start runs it. It is up when ready says so.
func (d *daemon) start() {
	d.t.Helper()
	args := []string{}
	program := d.program
	if program == "" {
		exe, err := os.Executable()
		if err != nil {
			d.t.Fatal(err)
		}
		program = exe
	} else {
		args = []string{"serve", "--config", d.file}
	}
	d.cmd = exec.Command(program, args...)
	d.cmd.Env = append(os.Environ(), daemonFile+"="+d.file)
	log, err := os.OpenFile(d.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	d.cmd.Stderr, d.cmd.Stdout = log, log
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.starts++
	gone := make(chan struct{})
	d.gone = gone
	cmd := d.cmd
	go func() { _ = cmd.Wait(); close(gone) }()
}

// kill ends it with SIGKILL.
func (d *daemon) kill() {
	if d.cmd != nil {
		_ = d.cmd.Process.Kill()
		<-d.gone
		d.cmd = nil
	}
	if d.cl != nil {
		d.cl.Close()
		d.cl = nil
	}
}

// client waits until the node answers.
func (d *daemon) client(limit time.Duration) (*client.Client, error) {
	deadline := time.Now().Add(limit)
	for {
		token, err := os.ReadFile(filepath.Join(d.data, node.TokenFile))
		if err == nil {
			if d.cl == nil {
				d.cl = client.New(d.url, strings.TrimSpace(string(token)), poolOf(d.t, filepath.Join(d.data, node.CAFile)))
			}
			ctx, cancel := context.WithTimeout(d.t.Context(), 3*time.Second)
			_, err = d.cl.Status(ctx)
			cancel()
			if err == nil {
				return d.cl, nil
			}
		}
		select {
		case <-d.gone:
			return nil, errors.New("the node ended by itself:\n" + tail(d.log(), 30))
		default:
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the node does not answer: %w\n%s", err, tail(d.log(), 30))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// eye watches the members of a test by itself, whatever becomes of the node.
func eye(t *testing.T, servers []*mysqltest.Member) *watch.Watcher {
	t.Helper()
	user, password := mysqltest.AdminAccount()
	w := watch.New(func(in topology.Instance) (*mysql.Server, error) {
		return mysql.Open(in.Name, mysql.Login{Address: in.Address, User: user, Password: password})
	}, slog.New(slog.DiscardHandler))
	var all []topology.Instance
	for _, m := range servers {
		all = append(all, topology.Instance{Name: m.Name(), Address: m.Address()})
	}
	w.Watch(topology.Expect{Cluster: "shop"}, all)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}
