package control

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/state"
)

// trio is the configuration of three nodes that found a store together.
func trio(t testing.TB) []Config {
	t.Helper()
	var peers []Peer
	for _, name := range []string{"a", "b", "c"} {
		peers = append(peers, Peer{Name: name, Address: freeAddress(t)})
	}
	files := testTLS(t)
	var all []Config
	for _, p := range peers {
		all = append(all, Config{Name: p.Name, Dir: t.TempDir(), Peers: peers, TLS: files})
	}
	return all
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// leader waits for one of the processes, from the given lines on, to lead in a
// term after epoch.
func leader(t testing.TB, all []*process, after int64, limit time.Duration) (*process, int64) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		for _, p := range all {
			p.mu.Lock()
			for _, l := range p.lines {
				var epoch int64
				if n, _ := fmt.Sscanf(l, "leads %d", &epoch); n == 1 && epoch > after {
					p.mu.Unlock()
					return p, epoch
				}
			}
			p.mu.Unlock()
		}
	}
	t.Fatalf("nobody leads in a term after %d within %s", after, limit)
	return nil, 0
}

// Three real processes. The one that leads is killed, and another acts within
// five seconds; it is frozen, and when it thaws its term is over; it is cut
// down again and again, and at no moment did two of them trust their terms.
func TestThreeNodesAndALeaderThatDiesOrFreezes(t *testing.T) {
	t.Parallel()
	cfgs := trio(t)
	var all []*process
	for _, cfg := range cfgs {
		all = append(all, spawn(t, cfg))
	}
	var everybody []*process // those that were killed too
	everybody = append(everybody, all...)
	acting, epoch := leader(t, all, 0, 20*time.Second)
	first := epoch

	for round := range 4 {
		i := slices.Index(all, acting)
		others := slices.Concat(all[:i:i], all[i+1:])
		_, from := acting.says(within(t, 5*time.Second), t, "did", acting.said())
		began, fair := time.Now(), mysqltest.StartFair()
		if round%2 == 0 {
			acting.kill()
		} else {
			acting.freeze()
		}
		next, at := leader(t, others, epoch, 15*time.Second)
		took := time.Since(began)
		t.Logf("round %d: another node acted after %s", round, took.Round(time.Millisecond))
		if fair.Of(took) > 5*time.Second {
			t.Errorf("round %d: another node acted only after %s", round, took)
		}
		if round%2 == 0 {
			all[i] = spawn(t, cfgs[i])
			everybody = append(everybody, all[i])
			all[i].says(within(t, 20*time.Second), t, "open", 0)
		} else {
			time.Sleep(rand.N(500 * time.Millisecond))
			acting.thaw()
			acting.says(within(t, 5*time.Second), t, "over", from)
		}
		acting, epoch = next, at
	}

	// What the dead wrote under their terms is refused, asked through a node
	// of this process that takes the place of one of them.
	i := (slices.Index(all, acting) + 1) % 3
	all[i].stop()
	c := open(t, cfgs[i])
	if _, err := c.Put(t.Context(), "late", nil, 0, state.Fence{Lease: "control", Epoch: first}); !errors.Is(err, state.ErrStale) {
		t.Errorf("a change in the first term: %v", err)
	}
	a, _, err := state.NewDoc[acts](c, "acts").Get(t.Context())
	if err != nil || !slices.IsSorted(a.Epochs) || len(a.Epochs) < 5 || a.Count < len(a.Epochs) {
		t.Errorf("what was done: %+v, %v", a, err)
	}
	checkTrust(t, everybody)
}

// checkTrust fails if a node trusted a term after another node had trusted a
// later one.
func checkTrust(t *testing.T, all []*process) {
	t.Helper()
	var moments []trusted
	for _, p := range all {
		p.mu.Lock()
		moments = append(moments, p.trust...)
		p.mu.Unlock()
	}
	slices.SortFunc(moments, func(a, b trusted) int { return int(a.at - b.at) })
	var last trusted
	for _, m := range moments {
		if m.epoch < last.epoch {
			t.Fatalf("%s trusted term %d, %s after %s had trusted term %d",
				m.node, m.epoch, time.Duration(m.at-last.at), last.node, last.epoch)
		}
		last = m
	}
	t.Logf("%d moments of trust, none of two nodes", len(moments))
}

func TestWithoutAMajorityNothingIsSaid(t *testing.T) {
	t.Parallel()
	cfgs := trio(t)
	cfgs[0].CallLimit = 2 * time.Second
	b, c := spawn(t, cfgs[1]), spawn(t, cfgs[2])
	a := open(t, cfgs[0])
	ctx := within(t, 20*time.Second)
	b.says(ctx, t, "open", 0)
	c.says(ctx, t, "open", 0)
	rev, err := a.Put(t.Context(), "doc", []byte("1"), 0, state.Fence{})
	if err != nil {
		t.Fatal(err)
	}

	b.kill()
	c.kill()
	for what, call := range map[string]func() error{
		"get":    func() error { _, err := a.Get(t.Context(), "doc"); return err },
		"list":   func() error { _, err := a.List(t.Context(), ""); return err },
		"put":    func() error { _, err := a.Put(t.Context(), "doc", []byte("2"), rev, state.Fence{}); return err },
		"delete": func() error { return a.Delete(t.Context(), "other", 0, state.Fence{}) },
	} {
		began := time.Now()
		if err := call(); !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
		if took := time.Since(began); took > a.cfg.CallLimit+500*time.Millisecond {
			t.Errorf("%s took %s", what, took)
		}
	}
	began := time.Now()
	s, err := a.Status(t.Context())
	if err != nil || s.Quorum || s.Leader != "" || len(s.Nodes) != 3 {
		t.Errorf("status %+v, %v", s, err)
	}
	if took := time.Since(began); took > 100*time.Millisecond {
		t.Errorf("status took %s", took)
	}

	spawn(t, cfgs[1])
	for end := time.Now().Add(20 * time.Second); ; {
		if _, err := a.Get(t.Context(), "doc"); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("with a majority back the store does not answer")
		}
	}
}

func TestANodeAloneGrowsToThreeAndOneIsReplaced(t *testing.T) {
	t.Parallel()
	all := trio(t)
	for i := range all {
		all[i].Peers = all[i].Peers[:1:1] // who is listed grows with the store
	}
	c := open(t, Config{Name: "a", Dir: all[0].Dir})
	if _, err := c.Put(t.Context(), "doc", []byte("kept"), 0, state.Fence{}); err != nil {
		t.Fatal(err)
	}
	c.Close()

	a := running(t, all[0]) // now it listens for peers
	peers := all[0].Peers
	for i, name := range []string{"b", "c"} {
		p := Peer{Name: name, Address: freeAddress(t)}
		peers = append(slices.Clone(peers), p)
		join(t, a, all[i+1], peers)
	}

	// b is gone for good and another takes its place.
	if err := a.RemovePeer(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	peers = slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool { return p.Name == "b" })
	peers = append(peers, Peer{Name: "d", Address: freeAddress(t)})
	d := all[1]
	d.Name, d.Dir = "d", t.TempDir()
	join(t, a, d, peers)
	if s, err := a.Status(t.Context()); err != nil || len(s.Nodes) != 3 || !s.Quorum {
		t.Errorf("status %+v, %v", s, err)
	}
	if err := a.RemovePeer(t.Context(), "nobody"); err == nil {
		t.Error("an unknown node was removed")
	}
}

// join adds the last of peers to the store of a, starts it, and waits until it
// has a vote and the documents.
func join(t *testing.T, a *Control, cfg Config, peers []Peer) {
	t.Helper()
	newest := peers[len(peers)-1]
	if err := a.AddPeer(t.Context(), newest); err != nil {
		t.Fatal(err)
	}
	cfg.Name, cfg.Peers, cfg.Start = newest.Name, peers, Join
	joined := running(t, cfg)
	if e, err := joined.Get(t.Context(), "doc"); err != nil || string(e.Value) != "kept" {
		t.Fatalf("%s has %+v, %v", newest.Name, e, err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		all, err := a.Nodes(t.Context())
		if err == nil && len(all) == len(peers) && !slices.ContainsFunc(all, func(n Node) bool { return n.Learner }) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s has no vote: %+v, %v", newest.Name, all, err)
		}
	}
}

// running is an open store whose Run runs until the test ends.
func running(t *testing.T, cfg Config) *Control {
	t.Helper()
	c := open(t, cfg)
	done := make(chan error, 1)
	go func() { done <- c.Run(t.Context()) }()
	t.Cleanup(func() { c.Close(); <-done })
	return c
}

func TestAPeerWithoutACertificateIsRefused(t *testing.T) {
	t.Parallel()
	cfgs := trio(t)
	stranger := testTLS(t) // signed by an authority of its own
	cfgs[2].TLS = stranger
	cfgs[2].OpenLimit = 3 * time.Second
	opened := make(chan *Control, 1)
	go func() {
		c, err := Open(t.Context(), cfgs[1], logTo(t))
		if err != nil {
			t.Error(err)
		}
		opened <- c
	}()
	open(t, cfgs[0])
	if b := <-opened; b != nil {
		defer b.Close()
	}
	if _, err := Open(t.Context(), cfgs[2], logTo(t)); err == nil {
		t.Error("a stranger takes part")
	}
}

func TestTheEmbeddedStoreOfThreeIsAStore(t *testing.T) {
	t.Parallel()
	cfgs := trio(t)
	stores := make(chan *Control, 3)
	for _, cfg := range cfgs {
		go func() {
			c, err := Open(t.Context(), cfg, logTo(t))
			if err != nil {
				t.Error(err)
			}
			stores <- c
		}()
	}
	var all []*Control
	for range cfgs {
		if c := <-stores; c != nil {
			t.Cleanup(c.Close)
			all = append(all, c)
		}
	}
	if len(all) < 3 {
		t.FailNow()
	}
	suite(t, all...)
}
