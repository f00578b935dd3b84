package node_test

import (
	"context"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/node"
	"github.com/perdure/perdure/internal/topology"
)

// site is a set of real servers and the file that describes a cluster of them.
type site struct {
	dir     string
	api     string
	group   api.Group
	servers map[string]*mysqltest.Member
	spec    map[string]api.Member
}

// newSite takes servers that are in no group yet.
func newSite(t *testing.T, servers []*mysqltest.Member) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), servers: map[string]*mysqltest.Member{}, spec: map[string]api.Member{}}
	s.api = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	for _, m := range servers {
		s.servers[m.Name()] = m
		s.spec[m.Name()] = api.Member{Name: m.Name(), Address: m.Address(), GroupAddress: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	}
	s.group.CompleteHistory = true
	return s
}

func freePort(t *testing.T) int {
	t.Helper()
	p, err := mysqld.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *site) members(names ...string) []*mysqltest.Member {
	var out []*mysqltest.Member
	for _, n := range names {
		out = append(out, s.servers[n])
	}
	return out
}

// wish is the cluster with those members.
func (s *site) wish(names ...string) api.Apply {
	a := api.Apply{Spec: api.Spec{Cluster: "shop", Group: s.group}}
	for _, n := range names {
		a.Spec.Members = append(a.Spec.Members, s.spec[n])
	}
	return a
}

// file writes a perdure.yaml for a node that keeps its data in a directory of
// that name: another name is another node, that knows nothing.
func (s *site) file(t *testing.T, data string, names ...string) string {
	t.Helper()
	user, password := mysqltest.AdminAccount()
	secret := filepath.Join(s.dir, "mysql.password")
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	f := config.File{
		Version: 1, Cluster: "shop",
		Node:    config.Node{Name: "node1", Data: filepath.Join(s.dir, data), API: s.api},
		MySQL:   config.MySQL{User: user, Password: "file:" + secret},
		Members: s.wish(names...).Spec.Members, Group: s.group,
	}
	b, err := yaml.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, data+".yaml")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// served is a node that runs in this process.
type served struct {
	*node.Node
	*client.Client
	stop func()
}

// serve runs a node until the test ends or stop is called.
func (s *site) serve(t *testing.T, data string, names ...string) *served {
	t.Helper()
	b, err := os.ReadFile(s.file(t, data, names...))
	if err != nil {
		t.Fatal(err)
	}
	return s.serveFile(t, data, string(b))
}

// serveFile runs a node with a file of that content.
func (s *site) serveFile(t *testing.T, data, text string) *served {
	t.Helper()
	return s.serveWith(t, data, text, node.Options{})
}

// serveWith runs a node with a file of that content, and options of the test's.
func (s *site) serveWith(t *testing.T, data, text string, o node.Options) *served {
	t.Helper()
	path := filepath.Join(s.dir, data+".yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	logPath := filepath.Join(s.dir, data+".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	o.Version, o.Log = "test", slog.New(slog.NewTextHandler(log, nil))
	n, err := node.New(t.Context(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	var stopped atomic.Bool
	url, token, ca := n.API()
	cl := client.New(url, token, ca)
	stop := func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the node ended with: %v", err)
		}
		cl.Close()
		_ = log.Close()
		if t.Failed() {
			t.Logf("the node's log:\n%s", tail(logPath, 60))
		}
	}
	t.Cleanup(stop)
	return &served{n, cl, stop}
}

func tail(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// done follows a change to its end and fails the test if it did not succeed.
func (n *served) done(t *testing.T, o api.Operation, err error) api.Operation {
	t.Helper()
	began := time.Now()
	if o, err = n.end(t, o, err); err != nil || o.State != "done" {
		t.Fatalf("%s: %v, state %s: %s\n%s", o.Title, err, o.State, o.Error, story(o))
	}
	t.Logf("%s: %.1f s", o.Title, time.Since(began).Seconds())
	return o
}

// end follows a change to its end.
func (n *served) end(t *testing.T, o api.Operation, err error) (api.Operation, error) {
	t.Helper()
	if err != nil {
		return o, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	return n.Wait(ctx, o, func(api.Operation) {})
}

// refused checks that a change was refused by a safety rule that says all of
// want, and returns the whole text.
func refused(t *testing.T, err error, want ...string) string {
	t.Helper()
	p, ok := errors.AsType[*client.Problem](err)
	if !ok || !p.Refused {
		t.Fatalf("it was not refused: %v", err)
	}
	says(t, p.Detail, want...)
	if p.Hint == "" {
		t.Errorf("it does not say what to do next: %s", p.Detail)
	}
	t.Logf("%s\nnext: %s", p.Detail, p.Hint)
	return p.Detail
}

func says(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("it does not say %q: %s", w, text)
		}
	}
}

// story is an operation step by step.
func story(o api.Operation) string {
	var b strings.Builder
	for _, s := range o.Steps {
		fmt.Fprintf(&b, "%s %s: %s (%.1f s) %s\n", s.Name, s.Member, s.State, s.End.Sub(s.Begin).Seconds(), s.Note)
	}
	return b.String()
}

// note is what an operation's step says about a member.
func note(o api.Operation, step, member string) string {
	for _, s := range o.Steps {
		if s.Name == step && s.Member == member {
			return s.Note
		}
	}
	return ""
}

// until waits for a View, with a limit.
func (n *served) until(t *testing.T, limit time.Duration, what string, ok func(*topology.View) bool) *topology.View {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	v, err := n.Node.Watch().Until(ctx, ok)
	if err != nil {
		t.Fatalf("after %s not yet: %s; members: %s; problems: %v", limit, what, states(v), v.Problems)
	}
	return v
}

func is(name string, s topology.State) func(*topology.View) bool {
	return func(v *topology.View) bool {
		m, _ := v.Member(name)
		return m.State == s
	}
}

func allOnline(count int) func(*topology.View) bool {
	return func(v *topology.View) bool {
		return len(v.In(topology.Online)) == count && v.Quorum == topology.HasQuorum && len(v.Problems) == 0
	}
}

func states(v *topology.View) string {
	var out []string
	for _, m := range v.Members {
		out = append(out, fmt.Sprintf("%s %s (%s)", m.Name, m.State, m.Why))
	}
	return strings.Join(out, ", ")
}

// summary is the first sentence of status.
func (n *served) summary(t *testing.T) (level, sentence string) {
	t.Helper()
	s, err := n.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Level, s.Summary
}

// run executes statements and fails the test at the first that fails.
func run(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		_, err := db.ExecContext(ctx, s)
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// one reads one value as text.
func one(t *testing.T, db *sql.DB, query string, args ...any) string {
	t.Helper()
	var v sql.NullString
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second) // longer than sameEverywhere lets a server wait
	defer cancel()
	if err := db.QueryRowContext(ctx, query, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v.String
}

// sameEverywhere checks, with each server's own word, that the members are one
// group, hold the same transactions and lack none of the rows.
func sameEverywhere(t *testing.T, members []*mysqltest.Member, acked []int64) {
	t.Helper()
	var all gtid.Set
	views := map[string]bool{}
	for _, m := range members {
		db := m.Root(t)
		all = all.Union(gtid.MustParse(one(t, db, "select @@gtid_executed")))
		views[one(t, db, "select view_id from performance_schema.replication_group_member_stats where member_id = @@server_uuid")] = true
		if n := one(t, db, "select count(*) from performance_schema.replication_group_members where member_state = 'ONLINE'"); n != fmt.Sprint(len(members)) {
			t.Errorf("%s sees %s members ONLINE, not %d", m.Name(), n, len(members))
		}
	}
	if len(views) != 1 {
		t.Errorf("the members are not one group: %v", views)
	}
	for _, m := range members {
		db := m.Root(t)
		if timedOut := one(t, db, "select wait_for_executed_gtid_set(?, 60)", all.String()); timedOut != "0" {
			t.Errorf("%s lacks %s", m.Name(), all.Subtract(gtid.MustParse(one(t, db, "select @@gtid_executed"))))
		}
		if len(acked) == 0 {
			continue
		}
		lost := 0
		have := rowsOf(t, db)
		for _, id := range acked {
			if !have[id] {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("%s lost %d of %d acknowledged rows", m.Name(), lost, len(acked))
		}
	}
}

func rowsOf(t *testing.T, db *sql.DB) map[int64]bool {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "select id from story.rows_written")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	have := map[int64]bool{}
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		have[id] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return have
}

func poolOf(t *testing.T, path string) *x509.CertPool {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b)
	return pool
}
