package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/pki"
	"github.com/perdure/perdure/internal/proxy"
	"github.com/perdure/perdure/internal/route"
	"github.com/perdure/perdure/internal/run"
	"github.com/perdure/perdure/internal/state"
)

// openProxy opens the proxy's listeners, if the file asks for a proxy.
func (n *Node) openProxy() error {
	n.table = route.New()
	n.funnels, n.shared = newFunnel(), n.control
	n.wish = state.NewDoc[route.Wish](n.store, "route")
	c := n.file.Proxy
	if c == nil {
		return nil
	}
	cfg := proxy.Config{
		Route: n.table, Log: n.log.With("part", "proxy"), Doubt: n.watch, Others: n,
		RequireTLS: c.RequireTLS, MemberTLS: n.login.TLS,
		MaxClients: c.MaxClients, MaxPerMember: c.MaxPerMember, MaxWaiting: c.MaxWaiting, MaxReplay: c.MaxReplay, ConnRate: c.ConnRate,
		HoldLimit: time.Duration(c.HoldLimit), DrainLimit: time.Duration(c.DrainLimit), OutcomeLimit: time.Duration(c.OutcomeLimit), IdleTimeout: time.Duration(c.IdleTimeout),
		QueryTimeout: time.Duration(c.QueryTimeout), SlowQuery: time.Duration(c.SlowQuery), LeaveDelay: time.Duration(c.LeaveDelay),
		Slot: n.slot(),
	}
	if !c.NoMarks {
		n.openOutcomes()
		cfg.Outcomes = outcomes{n.finder}
	}
	if cfg.MemberTLS == nil {
		// As for the node itself: encrypted, and not verified without mysql.ca.
		cfg.MemberTLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // documented at mysql.ca
	}
	for _, l := range []struct {
		mode    proxy.Mode
		address string
	}{{proxy.ReadWrite, c.RW}, {proxy.ReadOnly, c.RO}, {proxy.Split, c.Split}} {
		if l.address != "" {
			cfg.Listeners = append(cfg.Listeners, proxy.Listener{Mode: l.mode, Pooling: proxy.Pooling(c.Pooling), Address: l.address})
		}
	}
	for _, network := range c.Networks {
		prefix, err := netip.ParsePrefix(network)
		if err != nil {
			return err
		}
		cfg.ProxyNetworks = append(cfg.ProxyNetworks, prefix)
	}
	cert, err := n.clientCert(c)
	if err != nil {
		return err
	}
	cfg.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if policy, err := route.ParsePolicy(cmp.Or(c.Writers, "spread")); err == nil {
		if err := n.table.SetWriters(policy); err != nil {
			return err
		}
	}
	n.proxy, err = proxy.New(cfg)
	return err
}

// clientCert is what the proxy shows to clients: the operator's, or one of the
// node's own authority.
func (n *Node) clientCert(c *config.Proxy) (tls.Certificate, error) {
	if c.Cert != "" {
		cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			err = fmt.Errorf("proxy.cert: %w", err)
		}
		return cert, err
	}
	ca, err := pki.Open(filepath.Join(n.file.Node.Data, filepath.Dir(CAFile)))
	if err != nil {
		return tls.Certificate{}, err
	}
	cert, key, err := ca.Issue("proxy", append([]string{"localhost", "127.0.0.1", "::1", n.file.Node.Name}, n.file.Node.Names...)...)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.LoadX509KeyPair(cert, key)
}

// slot keeps the session ids of several nodes apart.
func (n *Node) slot() uint8 {
	if n.nodes.managed {
		return n.nodes.slot()
	}
	i := slices.IndexFunc(n.file.Control.Peers, func(p config.Peer) bool { return p.Name == n.file.Node.Name })
	return uint8(max(i, 0)) //nolint:gosec // at most five peers
}

// followView hands every View to the routing table. Where a member is, and
// whether it may be used, comes at once; how far behind it is, once a second.
func (n *Node) followView(ctx context.Context) error {
	changes, end := n.watch.Changes()
	defer end()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		n.table.SetView(*n.watch.View())
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		case <-tick.C:
		}
	}
}

// followWish obeys what operators asked for: the writer policy and the drains,
// the same on every node.
func (n *Node) followWish(ctx context.Context) error {
	for w := range n.wish.Watch(ctx) {
		n.obey(w)
	}
	return context.Cause(ctx)
}

func (n *Node) obey(w route.Wish) {
	n.gate.obey(n.table, w.Hold)
	n.funnels.obey(w.Funnel)
	if w.Writers != "" {
		if policy, err := route.ParsePolicy(w.Writers); err != nil {
			n.log.Warn("the writer policy cannot be read", "policy", w.Writers, "err", err)
		} else if err := n.table.SetWriters(policy); err != nil {
			n.log.Warn("the writer policy was not taken", "policy", w.Writers, "err", err)
		}
	}
	for _, m := range n.table.Drains() {
		if !slices.Contains(w.Drains, m) {
			n.table.Undrain(m)
		}
	}
	for _, m := range w.Drains {
		if err := n.table.Drain(m); err != nil && !errors.Is(err, route.ErrNoMember) {
			n.log.Warn("a member could not be drained", "member", m, "err", err)
		}
	}
}

// routing are the parts that clients' connections stand on.
func (n *Node) routing() []run.Part {
	parts := []run.Part{{Name: "view", Run: n.followView}, {Name: "route", Run: n.followWish}, {Name: "funnel", Run: n.followFunnel}, {Name: "hush", Run: n.followHush}}
	if n.finder != nil {
		parts = append(parts, run.Part{Name: "outcome", Run: n.finder.Run})
	}
	if n.proxy != nil {
		parts = append(parts, run.Part{Name: "proxy", Run: n.serveProxy})
	}
	return parts
}
