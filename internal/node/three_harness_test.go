package node_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/node"
)

// three are the nodes of a cluster, each in a process of its own, next to a real
// group. Nodes are let in by join tokens, as people do it.
type three struct {
	*site
	t     *testing.T
	nodes []*serving
	edit  func(i int, f *config.File)
	inNet func(i int) []string // what a node's command is run with, nil on loopback
	host  func(i int) string   // where node i is
}

// serving is one node.
type serving struct {
	*client.Client
	name, file, data, url, rw string
	cmd                       *exec.Cmd
	gone                      chan struct{}
}

func newThree(t *testing.T, servers []*mysqltest.Member) *three {
	t.Helper()
	return &three{site: newSite(t, servers), t: t, host: func(int) string { return "127.0.0.1" }}
}

// add writes the perdure.yaml of another node. It does not run yet.
func (h *three) add() *serving {
	t := h.t
	t.Helper()
	i := len(h.nodes) + 1
	user, password := mysqltest.AdminAccount()
	secret := filepath.Join(h.dir, "mysql.password")
	if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func() string { return fmt.Sprintf("%s:%d", h.host(i), freePort(t)) }
	s := &serving{name: fmt.Sprintf("node%d", i), rw: at()}
	s.data, s.file = filepath.Join(h.dir, s.name), filepath.Join(h.dir, s.name+".yaml")
	f := config.File{
		Version: 1, Cluster: "shop",
		Node:    config.Node{Name: s.name, Data: s.data, API: at(), Peer: at(), Streams: at()},
		MySQL:   config.MySQL{User: user, Password: "file:" + secret},
		Members: h.wish("m1", "m2", "m3").Spec.Members, Group: h.group,
		Proxy: &config.Proxy{RW: s.rw},
	}
	if h.edit != nil {
		h.edit(i, &f)
	}
	s.url = "https://" + f.Node.API
	b, err := yaml.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	h.nodes = append(h.nodes, s)
	t.Cleanup(func() { s.kill() })
	return s
}

// run starts a node's process.
func (h *three) run(s *serving) {
	h.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	args := []string{exe}
	if h.inNet != nil {
		for i, o := range h.nodes {
			if o == s {
				args = append(h.inNet(i+1), exe)
			}
		}
	}
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Env = append(os.Environ(), daemonFile+"="+s.file)
	log, err := os.OpenFile(s.file+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	gone := make(chan struct{})
	s.gone = gone
	cmd := s.cmd
	go func() { _ = cmd.Wait(); close(gone) }()
}

// kill ends a node's process without a word.
func (s *serving) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	<-s.gone
	if s.Client != nil {
		s.Close()
		s.Client = nil
	}
	s.cmd = nil
}

func (s *serving) runs() bool { return s.cmd != nil }

// up waits until a node answers.
func (h *three) up(s *serving) {
	h.t.Helper()
	h.eventually(90*time.Second, s.name+" answers", func() error {
		if s.Client == nil {
			token, err := os.ReadFile(filepath.Join(s.data, node.TokenFile))
			if err != nil {
				return err
			}
			if _, err := os.Stat(filepath.Join(s.data, node.CAFile)); err != nil {
				return err
			}
			s.Client = client.New(s.url, strings.TrimSpace(string(token)), poolOf(h.t, filepath.Join(s.data, node.CAFile)))
		}
		_, err := s.Nodes(h.t.Context())
		if err != nil {
			s.Close()
			s.Client = nil
		}
		return err
	})
}

// eventually waits for a condition, with a limit.
func (h *three) eventually(limit time.Duration, what string, ok func() error) time.Duration {
	h.t.Helper()
	began := time.Now()
	for {
		err := ok()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > limit {
			for _, s := range h.nodes {
				h.t.Logf("%s:\n%s", s.name, tail(s.file+".log", 25))
			}
			h.t.Fatalf("not within %s: %s: %v", limit, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// begin runs the first node, lets two others in, and makes the group.
func (h *three) begin() {
	h.t.Helper()
	first := h.add()
	h.run(first)
	h.up(first)
	formed := make(chan error, 1)
	go func() {
		o, err := first.Apply(h.t.Context(), h.wish("m1", "m2", "m3"))
		if err == nil {
			o, err = first.Wait(h.t.Context(), o, func(api.Operation) {})
		}
		if err == nil && o.State != "done" {
			err = errors.New(o.Error)
		}
		formed <- err
	}()
	h.join(h.add(), "")
	h.join(h.add(), "")
	if err := <-formed; err != nil {
		h.t.Fatal(err)
	}
}

// join lets a node in through the first that runs, and waits until it counts.
func (h *three) join(s *serving, instead string) {
	h.t.Helper()
	began := time.Now()
	i, err := h.any().InviteNode(h.t.Context(), api.Invite{Instead: instead})
	if err != nil {
		h.t.Fatal(err)
	}
	f, err := config.Load(s.file)
	if err != nil {
		h.t.Fatal(err)
	}
	h.eventually(90*time.Second, s.name+" is let in", func() error {
		_, err := node.Join(h.t.Context(), f, i.Token)
		return err
	})
	h.run(s)
	h.up(s)
	h.eventually(90*time.Second, s.name+" counts", func() error { return h.counts(s.name) })
	h.t.Logf("%s joined in %.1f s", s.name, time.Since(began).Seconds())
}

func (h *three) counts(name string) error {
	all, err := h.any().Nodes(h.t.Context())
	if err != nil {
		return err
	}
	for _, n := range all.Nodes {
		if n.Name == name && n.Votes && n.State == "up" {
			return nil
		}
	}
	return fmt.Errorf("%+v", all)
}

// any is a node that runs.
func (h *three) any() *serving {
	for _, s := range h.nodes {
		if s.runs() && s.Client != nil {
			return s
		}
	}
	h.t.Fatal("no node runs")
	return nil
}

// acting is the node that acts, as one that runs and is not without sees it.
func (h *three) acting(without *serving) (*serving, error) {
	for _, s := range h.nodes {
		if !s.runs() || s == without || s.Client == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(h.t.Context(), time.Second)
		all, err := s.Nodes(ctx)
		cancel()
		if err != nil {
			continue
		}
		for _, n := range all.Nodes {
			for _, o := range h.nodes {
				if n.Acts && o.name == n.Name && o != without {
					return o, nil
				}
			}
		}
	}
	return nil, errors.New("nobody acts")
}

// actor waits for the node that acts. Asked once, a node on a loaded machine may
// take longer than acting gives it.
func (h *three) actor() *serving {
	h.t.Helper()
	var found *serving
	h.eventually(20*time.Second, "a node acts", func() (err error) { found, err = h.acting(nil); return err })
	return found
}

// whole waits until every node that runs says that all is as it should be.
func (h *three) whole(limit time.Duration) time.Duration {
	h.t.Helper()
	return h.eventually(limit, "all is whole", func() error {
		for _, s := range h.nodes {
			if !s.runs() {
				continue
			}
			ctx, cancel := context.WithTimeout(h.t.Context(), 2*time.Second)
			st, err := s.Status(ctx)
			cancel()
			if err != nil {
				return err
			}
			if st.Level != "ok" || st.Control != "" || st.Nodes == nil || st.Nodes.Level != "ok" {
				return fmt.Errorf("%s: %s, %s; %s; %+v", s.name, st.Level, st.Summary, st.Control, st.Nodes)
			}
		}
		return nil
	})
}
