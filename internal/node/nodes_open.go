package node

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/perdure/perdure/internal/control"
	"github.com/perdure/perdure/internal/group"
	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/peers"
	"github.com/perdure/perdure/internal/route"
)

// waitForOthers is how long a node that begins waits for a majority of the
// others before it serves without: longer than an election takes.
const waitForOthers = 3 * time.Second

// beginControl starts the control store. A node alone waits until it answers.
// One of several, and one whose disk is full, goes on without: it watches the members it remembers and its
// proxy serves; what needs the store comes when the others do.
func (n *Node) beginControl(ctx context.Context, cfg control.Config) (err error) {
	log := n.log.With("part", "control")
	if n.control, err = control.Begin(cfg, log); err != nil {
		return err
	}
	if n.store, err = control.Remember(n.control, filepath.Join(n.file.Node.Data, "memory"), remembered, log); err != nil {
		return err
	}
	n.nodes.book = peers.New(n.store)
	alone := len(cfg.Peers) < 2 && len(cfg.Endpoints) == 0
	wait, cancel := context.WithCancel(ctx)
	if !alone {
		wait, cancel = context.WithTimeout(ctx, waitForOthers)
	}
	defer cancel()
	if err := n.control.Ready(wait); err != nil {
		if ctx.Err() != nil || errors.Is(err, control.ErrStopped) || alone && !errors.Is(err, control.ErrFull) {
			return err
		}
		log.Warn("this node begins without the control store: it serves queries by what it remembers, and heals nothing", "err", err)
	}
	return nil
}

// remembered are the documents a node needs to serve queries, and what of them.
var remembered = map[string]func([]byte) []byte{
	"cluster": nil,
	"tokens":  nil,
	peers.Key: nil,
	// A hold or a change of schema of long ago must not stop anybody.
	"route": func(b []byte) []byte {
		var w route.Wish
		if json.Unmarshal(b, &w) != nil {
			return b
		}
		w.Hold, w.Funnel = "", nil
		out, err := json.Marshal(w)
		if err != nil {
			return b
		}
		return out
	},
}

// lastCluster is the cluster as this node saw it last.
func (n *Node) lastCluster() (c group.Cluster) {
	if b := n.store.Known("cluster"); b != nil {
		_ = json.Unmarshal(b, &c) // else there is none
	}
	return c
}

// links is how this node's streams reach the others'.
func (k *nodes) links() (*jet.Cluster, error) {
	secret, err := k.secret()
	if err != nil {
		return nil, err
	}
	mutual, err := mutualTLS(k.files)
	if err != nil {
		return nil, err
	}
	c := &jet.Cluster{Name: k.known.Cluster, Secret: secret, TLS: mutual, Found: len(k.known.Nodes) == 1}
	for _, p := range k.known.Nodes {
		c.Peers = append(c.Peers, p.Streams)
		if p.Name == k.known.Name {
			c.Listen = p.Streams
		}
	}
	return c, nil
}

// slot is a small number that no other node has.
func (k *nodes) slot() uint8 {
	for _, p := range k.known.Nodes {
		if p.Name == k.known.Name {
			return uint8(p.Slot) //nolint:gosec // at most a dozen nodes
		}
	}
	return 0
}

func poolOf(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file) //nolint:gosec // ours, or named by the configuration
	if err != nil {
		return nil, fmt.Errorf("the authority of peers: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}
