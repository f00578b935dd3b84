package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Node is one node of the store as the store itself lists it.
type Node struct {
	ID      uint64
	Name    string // "" until it has started for the first time
	Address string // for its peers; "" for a node that is alone
	// Learner receives the documents but has no vote yet. Run promotes it when
	// it has caught up.
	Learner bool
}

// Nodes lists the nodes of the store.
func (c *Control) Nodes(ctx context.Context) ([]Node, error) {
	ctx, r, done, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	list, err := r.client.MemberList(ctx)
	if err != nil {
		return nil, translate(ctx, err)
	}
	return nodes(list.Members), nil
}

// AddPeer lets a node join, which then starts with Config.Start Join. It has no
// vote until it has caught up, so that a node that never comes costs no quorum.
// One node joins at a time.
func (c *Control) AddPeer(ctx context.Context, p Peer) error {
	if err := c.embeddedOnly(); err != nil {
		return err
	}
	return c.reconfigure(ctx, "add peer "+p.Name+" at "+p.Address, func(ctx context.Context, r *engine) error {
		_, err := r.client.MemberAddAsLearner(ctx, []string{peerURL(p.Address)})
		return err
	})
}

// RemovePeer takes a node out for good: its files are of no use afterwards. It
// may be dead. A node that never started has no name and is named by address.
func (c *Control) RemovePeer(ctx context.Context, name string) error {
	if err := c.embeddedOnly(); err != nil {
		return err
	}
	all, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(n Node) bool { return name != "" && (n.Name == name || n.Address == name) })
	if i < 0 {
		return fmt.Errorf("remove peer %s: there is no such node", name)
	}
	return c.reconfigure(ctx, "remove peer "+name, func(ctx context.Context, r *engine) error {
		_, err := r.client.MemberRemove(ctx, all[i].ID)
		return err
	})
}

// moved tells the store this node's address if the configuration has a new
// one: it was alone until now, or has changed its host.
func (c *Control) moved(ctx context.Context) error {
	r := c.current()
	if r == nil {
		return unavailable(ErrFull)
	}
	all, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	id, address := uint64(r.etcd.Server.MemberID()), c.cfg.address()
	if address == solitary {
		address = ""
	}
	i := slices.IndexFunc(all, func(n Node) bool { return n.ID == id })
	if i < 0 || all[i].Address == address {
		return nil
	}
	return c.reconfigure(ctx, "move this node to "+address, func(ctx context.Context, r *engine) error {
		_, err := r.client.MemberUpdate(ctx, id, []string{peerURL(c.cfg.address())})
		return err
	})
}

func (c *Control) embeddedOnly() error {
	if len(c.cfg.Endpoints) > 0 {
		return fmt.Errorf("the nodes of the external store %s are its operator's", c.who())
	}
	return nil
}

// reconfigure makes one change to the list of nodes. etcd refuses while a node
// is down or has been up for less than five seconds; we ask again for as long
// as Config.OpenLimit.
func (c *Control) reconfigure(ctx context.Context, what string, do func(context.Context, *engine) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.OpenLimit)
	defer cancel()
	for {
		err := c.once(ctx, do)
		if err == nil {
			c.log.InfoContext(ctx, what)
			return nil
		}
		if !errors.Is(err, errUnsettled) {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (c *Control) once(ctx context.Context, do func(context.Context, *engine) error) error {
	ctx, r, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	err = do(ctx, r)
	if unsettled(err) {
		return errUnsettled
	}
	return translate(ctx, err)
}

func nodes(members []*etcdserverpb.Member) []Node {
	out := make([]Node, 0, len(members))
	for _, m := range members {
		n := Node{ID: m.ID, Name: m.Name, Learner: m.IsLearner}
		if len(m.PeerURLs) > 0 && m.PeerURLs[0] != peerURL(solitary) {
			_, n.Address, _ = strings.Cut(m.PeerURLs[0], "://")
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b Node) int { return strings.Compare(a.Name+a.Address, b.Name+b.Address) })
	return out
}

func peerURL(address string) string { return "https://" + address }
