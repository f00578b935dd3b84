package node_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
)

// The node is killed with SIGKILL after every write of its journal, and in the
// middle of every step, of every plan that mends or restarts. Whoever starts it
// again goes on or takes back, never both: each plan ends as it would have.
func TestPlansThatMendConvergeThoughTheirNodeIsKilledAtEveryWrite(t *testing.T) {
	if os.Getenv("PERDURE_SOAK") == "" {
		t.Skip("set PERDURE_SOAK: it takes a quarter of an hour")
	}
	t.Parallel()
	servers := mysqltest.Start(t, 3)
	s := newSite(t, servers)
	s.group.ExpelTimeout = new(0)
	began := time.Now()
	file := s.file(t, "node", "m1", "m2", "m3")
	s.upgrades(t, file)
	k := &killed{t: t, file: file, marks: filepath.Join(s.dir, "marks"), dir: filepath.Join(s.dir, "node")}
	undisturbed := func(ask func(context.Context, *client.Client) (api.Operation, error)) { k.ask(s, ask, -1) }
	undisturbed(func(ctx context.Context, c *client.Client) (api.Operation, error) {
		return c.Apply(ctx, s.wish("m1", "m2", "m3"))
	})
	table(t, servers[0])
	member := func(verb string) func(context.Context, *client.Client) (api.Operation, error) {
		return func(ctx context.Context, c *client.Client) (api.Operation, error) {
			return c.Member(ctx, verb, "m3", api.Ask{})
		}
	}
	group := func(verb string, a api.Ask) func(context.Context, *client.Client) (api.Operation, error) {
		return func(ctx context.Context, c *client.Client) (api.Operation, error) { return c.Group(ctx, verb, a) }
	}
	m3 := s.servers["m3"]

	// A member that fell out.
	run(t, m3.Root(t), "stop group_replication")
	k.ask(s, member("rejoin"), 12)
	k.agree(s, servers)

	// One with transactions of its own.
	run(t, m3.Root(t), "stop group_replication", "set global read_only = off", "insert into story.rows_written values (-1)", "set global super_read_only = on")
	o := k.ask(s, member("rebuild"), 12)
	says(t, note(o, "salvage", "m3"), "1 transactions that only it has are saved in ")
	k.agree(s, servers)
	if n := one(t, m3.Root(t), "select count(*) from story.rows_written where id < 0"); n != "0" {
		t.Error("the given-up row is still there")
	}

	// The whole group stopped and started.
	k.ask(s, group("stop", api.Ask{}), 8)
	k.ask(s, group("start", api.Ask{}), 12)
	k.agree(s, servers)

	// All dead, and nobody holds everything.
	name := one(t, m3.Root(t), "select @@group_replication_group_name")
	killAll(t, servers)
	for i, m := range servers {
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		run(t, m.Root(t), "set global super_read_only = off")
		c := session(t, m, fmt.Sprintf("set gtid_next = '%s:%d'", name, 900_000_000+i), fmt.Sprintf("insert into story.rows_written values (%d)", 900_000_000+i),
			"set gtid_next = automatic", "set global super_read_only = on")
		_ = c.Close()
	}
	o = k.ask(s, group("start", api.Ask{}), 15)
	says(t, note(o, "merge", "m1"), "m")
	k.agree(s, servers)
	for _, m := range servers {
		if n := one(t, m.Root(t), "select count(*) from story.rows_written where id >= 900000000"); n != "3" {
			t.Errorf("%s has %s of 3 rows that were on one member each", m.Name(), n)
		}
	}

	// The majority is gone.
	killAll(t, servers[1:])
	sees(t, servers[0], time.Minute, "UNREACHABLE", 2)
	k.ask(s, group("force", api.Ask{AcceptLoss: []string{"m2", "m3"}}), 2)
	for _, m := range servers[1:] {
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []string{"m2", "m3"} {
		undisturbed(func(ctx context.Context, c *client.Client) (api.Operation, error) {
			return c.Member(ctx, "rejoin", n, api.Ask{})
		})
	}
	k.agree(s, servers)

	// Every member restarted, then upgraded, one after the other.
	pids := func() (out []int) {
		for _, m := range servers {
			out = append(out, m.PID())
		}
		return out
	}
	for verb, ask := range map[string]func(context.Context, *client.Client) (api.Operation, error){
		"restart": group("restart", api.Ask{}),
		"upgrade": func(ctx context.Context, c *client.Client) (api.Operation, error) {
			return c.Upgrade(ctx, api.Upgrade{})
		},
	} {
		before := pids()
		k.ask(s, ask, 40)
		for i, pid := range pids() {
			if pid == before[i] {
				t.Errorf("%s: the server of %s was not restarted", verb, servers[i].Name())
			}
		}
		k.agree(s, servers)
	}
	t.Logf("%d kills, %.0f s", k.kills, time.Since(began).Seconds())
}

// upgrades adds a command to the file that has this process restart a server,
// as a service manager would.
func (s *site) upgrades(t *testing.T, file string) {
	t.Helper()
	wants := filepath.Join(s.dir, "wants")
	script := filepath.Join(s.dir, "restart.sh")
	text := "#!/bin/sh\n: > \"" + wants + "-$1\"\nwhile [ -e \"" + wants + "-$1\" ]; do sleep 0.1; done\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(f, "\nservice:\n  restart: [%q, \"{name}\"]\n", script); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			for name, m := range s.servers {
				if _, err := os.Stat(wants + "-" + name); err != nil {
					continue
				}
				if err := m.Restart(context.Background()); err != nil && !errors.Is(err, mysqld.ErrDown) {
					t.Errorf("restart %s: %v", name, err)
				}
				_ = os.Remove(wants + "-" + name)
			}
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
}

// ask asks for a change, and asks again whenever the node was killed before it
// was accepted, until it is done. The node must die at least so many times; with
// less than none it is not killed.
func (k *killed) ask(s *site, ask func(context.Context, *client.Client) (api.Operation, error), atLeast int) api.Operation {
	k.t.Helper()
	marks := k.marks
	if atLeast < 0 {
		k.marks = "" // cannot be written: nothing is fresh
		defer func() { k.marks = marks }()
	}
	began, before := time.Now(), k.kills
	for k.kills-before < 150 {
		child := k.start()
		o, err := k.through(s, ask, child, began)
		if err == nil {
			child.stop()
			if o.State != "done" {
				k.t.Fatalf("%s: %s: %s\n%s", o.Title, o.State, o.Error, story(o))
			}
			if k.kills-before < atLeast {
				k.t.Errorf("%s: killed only %d times\n%s", o.Title, k.kills-before, tail(marks, 200))
			}
			for _, st := range o.Steps {
				if st.State != "done" {
					k.t.Errorf("%s %s is %s in a plan that is done", st.Name, st.Member, st.State)
				}
			}
			k.t.Logf("killed %d times in %.0f s: %s", k.kills-before, time.Since(began).Seconds(), o.Title)
			return o
		}
		if sig := child.wait(); sig != syscall.SIGKILL {
			k.t.Fatalf("the node was not killed but: %v, %v\n%s", sig, err, child.tail())
		}
		k.kills++
	}
	k.t.Fatal("it does not converge:\n" + tail(marks, 50))
	return api.Operation{}
}

// through asks a node, unless the change was accepted by one of its earlier
// lives. An error means that the node is gone.
func (k *killed) through(s *site, ask func(context.Context, *client.Client) (api.Operation, error), c *child, began time.Time) (api.Operation, error) {
	cl, err := c.client(s)
	if err != nil {
		return api.Operation{}, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(k.t.Context(), 3*time.Minute)
	defer cancel()
	stop := context.AfterFunc(c.gone, cancel)
	defer stop()
	ops, err := cl.Operations(ctx, 1)
	if err != nil {
		return api.Operation{}, err
	}
	if len(ops) > 0 && !ops[0].Created.Before(began.Truncate(time.Millisecond)) {
		return cl.Wait(ctx, ops[0], func(api.Operation) {})
	}
	o, err := ask(ctx, cl)
	if p, ok := errors.AsType[*client.Problem](err); ok {
		k.t.Fatalf("it was refused: %v", p)
	}
	if err != nil {
		return o, err
	}
	return cl.Wait(ctx, o, func(api.Operation) {})
}

// agree checks that the servers are one group, equal, and that nothing of a
// repair is left on them.
func (k *killed) agree(s *site, servers []*mysqltest.Member) {
	k.t.Helper()
	sameEverywhere(k.t, servers, nil)
	for _, m := range servers {
		if got := one(k.t, m.Root(k.t), `select concat_ws(' ', @@group_replication_bootstrap_group, @@group_replication_force_members = '', @@offline_mode, @@super_read_only,
			(select count(*) from performance_schema.replication_connection_configuration where channel_name = 'perdure_fetch'))`); got != "0 1 0 0 0" {
			k.t.Errorf("%s is left with %s", m.Name(), got)
		}
	}
	if marks, err := os.ReadFile(k.marks); err == nil && strings.Contains(string(marks), " undoing ") {
		k.t.Error("a plan was taken back that should have gone on")
	}
}
