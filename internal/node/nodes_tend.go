package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/auditlog"
	"github.com/perdure/perdure/internal/control"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/pause"
	"github.com/perdure/perdure/internal/peers"
	"github.com/perdure/perdure/internal/state"
)

const (
	tendPause = 2 * time.Second
	// copyPause is how often copies are looked at while nothing changes.
	copyPause = 30 * time.Second
	tendLimit = 10 * time.Second
)

// tend does what the list of nodes says, on the node that holds the lease: it
// takes nodes out that are leaving, and keeps as many copies of every stream as
// there are nodes, at most three. It looks before each step.
func (k *nodes) tend(ctx context.Context) error {
	if !k.managed {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if err := k.announce(ctx); err != nil {
		return err
	}
	for {
		held, term, err := k.n.lease.Hold(ctx)
		if err != nil {
			return err
		}
		t := tending{nodes: k, fence: term.Fence()}
		for held.Err() == nil {
			t.step(held)
			select {
			case <-held.Done():
			case <-time.After(tendPause):
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// announce puts this node onto the list, or its new address.
func (k *nodes) announce(ctx context.Context) error {
	for {
		if l, err := k.book.List(ctx); err == nil && len(l.Nodes) == 0 && k.known.First {
			if s, err := k.n.control.Status(ctx); err == nil && len(s.Nodes) > 1 {
				k.n.log.Error("the control store has several nodes and they were listed by hand: nodes cannot come and go by command; take node.peer out of perdure.yaml and list them again")
				<-ctx.Done()
				return context.Cause(ctx)
			}
		}
		err := k.book.Announce(ctx, k.known.Cluster, k.me, k.known.First)
		if err == nil || errors.Is(err, peers.ErrRemoved) {
			return err
		}
		if err := pause.For(ctx, time.Second); err != nil {
			return err
		}
	}
}

// tending is one term of it.
type tending struct {
	*nodes
	fence  state.Fence
	copies int       // that every stream had when it was looked at last
	looked time.Time // when that was
	said   string    // the last complaint
}

func (t *tending) step(ctx context.Context) {
	l, err := t.book.List(ctx)
	if err != nil || len(l.Nodes) == 0 {
		return
	}
	s, err := t.n.control.Status(ctx)
	if err != nil || !s.Quorum {
		return
	}
	err = t.keepCopies(ctx, l, s)
	for _, n := range l.Nodes {
		if n.Leaving {
			err = errors.Join(err, t.takeOut(ctx, l, n, s))
		}
	}
	if err != nil && ctx.Err() == nil && err.Error() != t.said {
		t.said = err.Error()
		t.n.log.Warn("the nodes are not as they should be yet", "err", err)
	}
}

// voters are the nodes that stay and count for the majority.
func voters(l peers.List, s control.Status) (out []peers.Node) {
	for _, n := range l.Staying() {
		if slices.ContainsFunc(s.Nodes, func(c control.Node) bool { return c.Name == n.Name && !c.Learner }) {
			out = append(out, n)
		}
	}
	return out
}

func (t *tending) keepCopies(ctx context.Context, l peers.List, s control.Status) error {
	want := min(len(voters(l, s)), 3)
	if want == 0 || t.copies == want && time.Since(t.looked) < copyPause {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, tendLimit)
	defer cancel()
	whole, err := t.n.streams.Copies(ctx, want)
	if whole && err == nil {
		if t.copies != want {
			t.n.log.Info("every stream has its copies", "copies", want)
		}
		t.copies, t.looked = want, time.Now()
	} else {
		t.copies = 0
	}
	return err
}

// takeOut takes a leaving node out: of the streams first, so that what it holds
// is copied while everything still works, of the control store, off the list.
func (t *tending) takeOut(ctx context.Context, l peers.List, n peers.Node, s control.Status) error {
	ctx, cancel := context.WithTimeout(ctx, tendLimit)
	defer cancel()
	if _, coming := l.Node(n.Instead); coming && !t.linked(n.Instead) {
		return nil // it takes over what this one held
	}
	if t.copies == 0 && t.alive(n.Name) {
		return nil // it may hold the only copy
	}
	if err := t.n.streams.Unlink(ctx, n.Name); err != nil {
		return err
	}
	i := slices.IndexFunc(s.Nodes, func(c control.Node) bool { return c.Name == n.Name || c.Name == "" && c.Address == n.Address })
	if i >= 0 {
		if err := t.n.control.RemovePeer(ctx, s.Nodes[i].Address); err != nil {
			return err
		}
	}
	if err := t.book.Forget(ctx, n.Name, t.fence); err != nil {
		return err
	}
	t.n.log.Info("a node was taken out", "peer", n.Name, "instead", n.Instead)
	t.n.publisher().Publish(event.New(event.NodeRemoved, "node/"+n.Name, "the node "+n.Name+" was taken out of the cluster"))
	return t.n.audit.Add(ctx, auditlog.Entry{At: time.Now(), Who: "nodes", From: t.n.file.Node.Name, Did: "node removed", On: n.Name, Result: "done"})
}

// linked tells whether a node's streams take part.
func (t *tending) linked(name string) bool {
	for _, p := range t.n.streams.Linked() {
		if p.Name == name && p.Answers {
			return true
		}
	}
	return false
}
