package control

import (
	"fmt"
	"sync"
	"testing"

	"github.com/perdure/perdure/internal/state"
)

// Two of three nodes are lost for good. The third goes on alone with all that
// was acknowledged, and two new ones join it.
func TestANodeGoesOnAloneAfterTheMajorityWasLost(t *testing.T) {
	t.Parallel()
	cfgs := trio(t)
	var all [3]*Control
	var opened sync.WaitGroup
	for i, cfg := range cfgs {
		opened.Go(func() { all[i] = open(t, cfg) })
	}
	opened.Wait()
	const n = 50
	for i := range n {
		if _, err := all[i%3].Put(t.Context(), fmt.Sprintf("n/%d", i), []byte("x"), 0, state.Fence{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := all[0].Put(t.Context(), "doc", []byte("kept"), 0, state.Fence{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		c.Close()
	}
	left := cfgs[2]
	left.Peers = left.Peers[2:]
	l, err := ReadLog(left, logTo(t))
	t.Logf("%+v, %v", l, err)
	if err != nil || l.Newest < n || l.Accepted > l.Newest || l.At.IsZero() {
		t.Errorf("its log has %+v, %v", l, err)
	}
	for range 2 { // it may be done again
		c, err := Alone(t.Context(), left, logTo(t))
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Status(t.Context())
		if err != nil || !s.Quorum || len(s.Nodes) != 1 || s.Nodes[0].Name != left.Name {
			t.Errorf("%+v, %v", s, err)
		}
		c.Close()
	}
	c := running(t, left)
	docs, err := c.List(t.Context(), "n/")
	if err != nil || len(docs) != n {
		t.Errorf("%d documents of %d are left: %v", len(docs), n, err)
	}
	// Two new ones.
	peers := left.Peers
	for _, name := range []string{"d", "e"} {
		cfg := Config{Name: name, Dir: t.TempDir(), TLS: left.TLS, Start: Join}
		peers = append(peers, Peer{Name: name, Address: freeAddress(t)})
		join(t, c, cfg, peers)
	}
	s, err := c.Status(t.Context())
	if err != nil || len(s.Nodes) != 3 {
		t.Errorf("%+v, %v", s, err)
	}
}
