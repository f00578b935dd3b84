package node_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/node"
)

// The node is killed with SIGKILL after every write of its journal, and in the
// middle of every step, while a cluster is made, grows by a copy, grows by
// replay, and shrinks. Whoever starts it again and asks for the same gets the
// same cluster: one group, no errant transaction, no acknowledged row lost.
func TestApplyConvergesThoughItsNodeIsKilledAtEveryWrite(t *testing.T) {
	t.Parallel()
	servers := mysqltest.Start(t, 4)
	s := newSite(t, servers)
	file, marks := s.file(t, "node", "m1", "m2"), filepath.Join(s.dir, "marks")
	began := time.Now()
	k := &killed{t: t, file: file, marks: marks, dir: filepath.Join(s.dir, "node")}

	k.apply(s, s.wish("m1", "m2"), 20)
	sameEverywhere(t, s.members("m1", "m2"), nil)
	table(t, servers[0])
	w := startWriters(t, servers, 50*time.Millisecond)

	add := s.wish("m1", "m2", "m3")
	add.Method = "clone"
	o := k.apply(s, add, 20)
	says(t, note(o, "provision", "m3"), "cloned", "MB/s")
	sameEverywhere(t, s.members("m1", "m2", "m3"), w.acked())

	add = s.wish("m1", "m2", "m3", "m4")
	add.Method = "incremental"
	o = k.apply(s, add, 20)
	says(t, note(o, "provision", "m4"), "replays")
	sameEverywhere(t, servers, w.acked())

	remove := s.wish("m1", "m2", "m3")
	remove.Remove = []string{"m4"}
	k.apply(s, remove, 20)
	w.stop()
	sameEverywhere(t, s.members("m1", "m2", "m3"), w.acked())

	if got := one(t, servers[3].Root(t), "select concat(@@super_read_only, ' ', count(*)) from performance_schema.replication_group_members where member_state <> 'OFFLINE'"); got != "1 0" {
		t.Errorf("the removed member is not outside and read-only: %s", got)
	}
	if n := one(t, servers[0].Root(t), "select count(*) from mysql.user where user like 'perdure_recovery%'"); n != "3" {
		t.Errorf("%s recovery accounts for 3 members", n)
	}
	for _, m := range servers {
		if on := one(t, m.Root(t), "select @@group_replication_bootstrap_group"); on != "0" {
			t.Errorf("%s would make a second group at its next START GROUP_REPLICATION", m.Name())
		}
	}
	t.Logf("%d kills, %d rows acknowledged meanwhile, %.0f s", k.kills, len(w.acked()), time.Since(began).Seconds())
}

// killed runs nodes that die, and counts.
type killed struct {
	t                *testing.T
	file, marks, dir string
	kills            int
}

// apply asks for a cluster, and asks again whenever the node was killed, until
// the change is done, and returns it. The node must die at least so many times.
func (k *killed) apply(s *site, want api.Apply, atLeast int) api.Operation {
	k.t.Helper()
	before := k.kills
	for k.kills-before < 120 {
		child := k.start()
		o, err := k.follow(s, want, child)
		if err == nil {
			child.stop()
			if o.State != "done" {
				k.t.Fatalf("%s: %s: %s\n%s", o.Title, o.State, o.Error, story(o))
			}
			if k.kills-before < atLeast {
				k.t.Errorf("%s: killed only %d times\n%s", o.Title, k.kills-before, tail(k.marks, 200))
			}
			k.t.Logf("killed %d times: %s", k.kills-before, o.Title)
			return o
		}
		if sig := child.wait(); sig != syscall.SIGKILL {
			k.t.Fatalf("the node was not killed but: %v, %v\n%s", sig, err, child.tail())
		}
		k.kills++
	}
	k.t.Fatal("it does not converge:\n" + tail(k.marks, 50))
	return api.Operation{}
}

// follow applies through a node and waits for the end. An error means that the
// node is gone.
func (k *killed) follow(s *site, want api.Apply, c *child) (api.Operation, error) {
	cl, err := c.client(s)
	if err != nil {
		return api.Operation{}, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(k.t.Context(), 3*time.Minute)
	defer cancel()
	stop := context.AfterFunc(c.gone, cancel)
	defer stop()
	o, err := cl.Apply(ctx, want)
	if p, ok := errors.AsType[*client.Problem](err); ok {
		ops, _ := cl.Operations(ctx, 1)
		k.t.Fatalf("apply: %v; the newest operation is %s: %s\n%s", p, ops[0].State, ops[0].Error, story(ops[0]))
	}
	if err != nil {
		return o, err
	}
	if o, err = cl.Wait(ctx, o, func(api.Operation) {}); err != nil || o.ID != "" {
		return o, err
	}
	// It ended with the node's last life: there is nothing left to do.
	ops, err := cl.Operations(ctx, 1)
	if err != nil {
		return o, err
	}
	return ops[0], nil
}

// child is a node in a process of its own.
type child struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  string
	dir  string
	gone context.Context
}

func (k *killed) start() *child {
	k.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		k.t.Fatal(err)
	}
	c := &child{t: k.t, cmd: exec.Command(exe), log: k.file + ".log", dir: k.dir}
	c.cmd.Env = append(os.Environ(), childFile+"="+k.file, childMarks+"="+k.marks)
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	c.cmd.Stderr = log
	if err := c.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	gone, cancel := context.WithCancel(context.Background())
	c.gone = gone
	go func() { _ = c.cmd.Wait(); cancel() }()
	k.t.Cleanup(c.stop)
	return c
}

func (c *child) stop() {
	_ = c.cmd.Process.Kill()
	<-c.gone.Done()
}

// wait waits for the end and returns the signal that made it.
func (c *child) wait() syscall.Signal {
	select {
	case <-c.gone.Done():
	case <-time.After(10 * time.Second):
		c.t.Fatalf("the node answers no more and lives\n%s", c.tail())
	}
	return c.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal()
}

func (c *child) tail() string { return tail(c.log, 40) }

// client waits until the node answers.
func (c *child) client(s *site) (*client.Client, error) {
	limit := time.After(30 * time.Second)
	for {
		token, err := os.ReadFile(filepath.Join(c.dir, node.TokenFile))
		if err == nil {
			cl := client.New("https://"+s.api, strings.TrimSpace(string(token)), poolOf(c.t, filepath.Join(c.dir, node.CAFile)))
			if _, err = cl.Operations(c.t.Context(), 1); err == nil {
				return cl, nil
			}
			cl.Close()
		}
		select {
		case <-c.gone.Done():
			return nil, errors.New("the node is gone")
		case <-limit:
			c.t.Fatalf("the node does not answer: %v\n%s", err, c.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
