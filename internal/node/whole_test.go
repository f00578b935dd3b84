package node_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/consistency"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/node"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
)

// whole is a cluster of three that heals itself, with a proxy in front.
type whole struct {
	*site
	node  *served
	three []*mysqltest.Member
	rw    string // address of the proxy
}

// newWhole makes one on new servers. edit, if not nil, changes the file of its
// node.
func newWhole(t *testing.T, o node.Options, edit func(*config.File), options ...mysqltest.Option) *whole {
	t.Helper()
	servers := mysqltest.Start(t, 3, options...)
	w := &whole{site: newSite(t, servers), three: servers, rw: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	text := w.text(t, edit)
	w.node = w.serveWith(t, "node", text, o)
	w.form(t)
	return w
}

// form applies the cluster and makes the table that writers write to.
func (w *whole) form(t *testing.T) {
	t.Helper()
	o, err := w.node.Apply(t.Context(), w.wish("m1", "m2", "m3"))
	w.node.done(t, o, err)
	run(t, w.three[0].App(t), "CREATE DATABASE IF NOT EXISTS story",
		// No unique key on id: a write that happened twice must show.
		"CREATE TABLE IF NOT EXISTS story.acked (n BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, id BIGINT NOT NULL, pad CHAR(60) NOT NULL DEFAULT '', KEY (id))")
}

// text is the perdure.yaml of a node with a proxy.
func (w *whole) text(t *testing.T, edit func(*config.File)) string {
	t.Helper()
	var f config.File
	b, err := os.ReadFile(w.file(t, "plain", "m1", "m2", "m3"))
	if err == nil {
		err = yaml.Unmarshal(b, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Node.Data = filepath.Join(w.dir, "node")
	f.Proxy = &config.Proxy{RW: w.rw}
	if edit != nil {
		edit(&f)
	}
	if b, err = yaml.Marshal(f); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// healthy waits until all three are ONLINE, writable, and nothing is wrong.
func (w *whole) healthy(t *testing.T, limit time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	w.node.until(t, limit, "the cluster is whole", func(v *topology.View) bool {
		for _, m := range v.Members {
			if !m.Writable {
				return false
			}
		}
		return allOnline(3)(v)
	})
	return time.Since(began)
}

// audited compares the members row by row and fails the test if they differ.
func audited(t *testing.T, viewer consistency.Viewer, servers []*mysqltest.Member) {
	t.Helper()
	byAddress := map[string]*mysqltest.Member{}
	for _, m := range servers {
		byAddress[m.Address()] = m
	}
	user, password := mysqltest.AdminAccount()
	a := consistency.New(consistency.Config{
		Open: func(in topology.Instance) (*mysql.Server, error) {
			return mysql.Open(in.Name, mysql.Login{Address: byAddress[in.Address].Address(), User: user, Password: password})
		},
		Watch: viewer, Log: slog.New(slog.DiscardHandler),
	})
	began := time.Now()
	r, err := a.Run(t.Context(), consistency.Scope{}, state.Fence{})
	if err != nil {
		t.Errorf("the audit of the members: %v", err)
		return
	}
	for _, d := range r.Differences {
		t.Errorf("the members differ: %s (%v) %s", d.Text, d.Members, d.SQL)
	}
	if len(r.Members) != len(servers) {
		t.Errorf("the audit compared %v", r.Members)
	}
	t.Logf("audit: %d members equal in %d tables, %d rows, %.1f s", len(r.Members), r.Tables, r.Rows, time.Since(began).Seconds())
}

// signals makes faults in the servers of a test.
type signals struct{ servers *[]*mysqltest.Member }

func (s signals) of(member string) (*mysqltest.Member, error) {
	for _, m := range *s.servers {
		if m.Name() == member {
			return m, nil
		}
	}
	return nil, fmt.Errorf("no server %s", member)
}

// Kill implements drill.Faults.
func (s signals) Kill(member string) error {
	m, err := s.of(member)
	if err == nil {
		err = m.Kill(mysqld.ComeBack)
	}
	return err
}

// Freeze implements drill.Faults.
func (s signals) Freeze(member string) error {
	m, err := s.of(member)
	if err == nil {
		err = m.Freeze()
	}
	return err
}

// Thaw implements drill.Faults.
func (s signals) Thaw(member string) error {
	m, err := s.of(member)
	if err == nil {
		err = m.Thaw()
	}
	return err
}

// Stop implements drill.Faults.
func (s signals) Stop(ctx context.Context, member string) error {
	m, err := s.of(member)
	if err == nil {
		err = m.Stop(ctx)
	}
	return err
}

// Start implements drill.Faults.
func (s signals) Start(ctx context.Context, member string) error {
	m, err := s.of(member)
	if err == nil {
		err = m.Start(ctx)
	}
	return err
}
