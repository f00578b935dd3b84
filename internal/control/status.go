package control

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Status is how the store is, seen from this node.
type Status struct {
	// Quorum says whether changes are possible. A node that was just cut off
	// needs up to two election times to know.
	Quorum bool
	// Leader is the name of the node that orders the changes, "" if there is
	// none. It need not hold any lease.
	Leader string
	Nodes  []Node
	// Full says that this node takes no part, because its disk is full.
	Full bool
	// Bytes on disk, of Quota; 0 if the store is external.
	Bytes, Quota int64
}

// Status asks no other node if the store is embedded, so it is cheap and
// answers during an outage too.
func (c *Control) Status(ctx context.Context) (Status, error) {
	if len(c.cfg.Endpoints) > 0 {
		return c.externalStatus(ctx)
	}
	_, r, done, err := c.begin(ctx)
	if errors.Is(err, ErrFull) {
		return Status{Full: true}, nil
	}
	if err != nil {
		return Status{}, err
	}
	defer done()
	s := Status{Bytes: r.etcd.Server.Backend().Size(), Quota: c.cfg.Quota}
	var members []*etcdserverpb.Member
	for _, m := range r.etcd.Server.Cluster().Members() {
		members = append(members, &etcdserverpb.Member{
			ID: uint64(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, IsLearner: m.IsLearner,
		})
	}
	s.Nodes = nodes(members)
	s.led(uint64(r.etcd.Server.Leader()))
	return s, nil
}

func (c *Control) externalStatus(ctx context.Context) (Status, error) {
	var s Status
	var err error
	if s.Nodes, err = c.Nodes(ctx); err != nil {
		return s, err
	}
	ctx, r, done, err := c.begin(ctx)
	if err != nil {
		return s, err
	}
	defer done()
	var last error
	for _, e := range c.cfg.Endpoints {
		answer, err := r.client.Status(ctx, e)
		if err != nil {
			last = err
			continue
		}
		s.led(answer.Leader)
		return s, nil
	}
	return s, fmt.Errorf("ask %s: %w", c.who(), translate(ctx, last))
}

// led notes which node leads.
func (s *Status) led(id uint64) {
	s.Quorum = id != 0
	for _, n := range s.Nodes {
		if n.ID == id && id != 0 {
			s.Leader = n.Name
		}
	}
}
