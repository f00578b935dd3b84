package node_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/node"
)

// Nodes come, one is lost for good and replaced, one leaves, and everything that
// must not happen is refused with a sentence. There are no servers: what is
// shown is the nodes' own affair.
func TestANodeIsReplacedAndWhatMustNotBeIsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts four nodes")
	}
	t.Parallel()
	h := newThree(t, nil)
	for i, name := range []string{"m1", "m2", "m3"} {
		h.spec[name] = api.Member{Name: name, Address: fmt.Sprintf("127.0.0.1:%d", 20001+i), GroupAddress: fmt.Sprintf("127.0.0.1:%d", 21001+i)}
	}
	one := h.add()
	h.run(one)
	h.up(one)
	h.eventually(20*time.Second, "it acts", func() error { _, err := h.acting(nil); return err })
	_, err := one.RemoveNode(t.Context(), "node1")
	refused(t, err, "is the only node")
	_, err = one.RemoveNode(t.Context(), "nobody")
	refused(t, err, "no node nobody")

	two, three := h.add(), h.add()
	short, err := one.InviteNode(t.Context(), api.Invite{Lasts: "1ms"})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond) // a second is the finest an end can be
	refusedJoin(t, h, two, short.Token, "expired at")
	h.join(two, "")
	used, err := one.InviteNode(t.Context(), api.Invite{})
	if err != nil {
		t.Fatal(err)
	}
	joinFile(t, h, three, used.Token)
	four := h.add()
	refusedJoin(t, h, four, used.Token, "was used already, by the node node3")
	fresh, err := one.InviteNode(t.Context(), api.Invite{})
	if err != nil {
		t.Fatal(err)
	}
	refusedJoin(t, h, four, fresh.Token, "node3 was let in and has not started yet")
	h.run(three)
	h.up(three)
	h.nodesWhole(40 * time.Second)

	_, err = one.InviteNode(t.Context(), api.Invite{Instead: "node2"})
	refused(t, err, "node2 answers")
	three.kill()
	h.eventually(10*time.Second, "it is missed", func() error {
		all, err := one.Nodes(t.Context())
		if err == nil && !slices.ContainsFunc(all.Nodes, func(n api.Node) bool { return n.Name == "node3" && n.State == "silent" }) {
			err = fmt.Errorf("%+v", all)
		}
		return err
	})
	_, err = one.RemoveNode(t.Context(), "node2")
	refused(t, err, "is no majority")
	h.join(four, "node3")
	h.eventually(60*time.Second, "node4 stands in its place", func() error {
		all, err := one.Nodes(t.Context())
		if err == nil && (len(all.Nodes) != 3 || all.Level != "ok") {
			err = fmt.Errorf("%+v", all)
		}
		return err
	})

	// The acting node takes itself out, another goes on.
	acting := h.actor()
	if _, err := acting.RemoveNode(t.Context(), acting.name); err != nil {
		t.Fatal(err)
	}
	<-acting.gone
	acting.kill()
	h.eventually(60*time.Second, "two are left", func() error {
		all, err := h.any().Nodes(t.Context())
		if err == nil && (len(all.Nodes) != 2 || !all.Quorum) {
			err = fmt.Errorf("%+v", all)
		}
		return err
	})
}

func joinFile(t *testing.T, h *three, s *serving, token string) {
	t.Helper()
	f, err := config.Load(s.file)
	if err != nil {
		t.Fatal(err)
	}
	h.eventually(20*time.Second, s.name+" is let in", func() error {
		_, err := node.Join(t.Context(), f, token)
		return err
	})
	if _, err := node.Join(t.Context(), f, token); err != nil {
		t.Errorf("asked again before it has started: %v", err)
	}
}

func refusedJoin(t *testing.T, h *three, s *serving, token string, want ...string) {
	t.Helper()
	f, err := config.Load(s.file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = node.Join(t.Context(), f, token)
	refused(t, err, want...)
}
