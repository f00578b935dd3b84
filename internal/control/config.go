package control

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// Config says where the control store is. Either Dir is set, and the store
// runs inside this process, or Endpoints.
type Config struct {
	// Dir holds the files of the embedded store. It is created for its owner
	// alone.
	Dir string
	// Name is this node's name among its peers. Default "node1".
	Name string
	// Peers are all nodes of the embedded store, this one included. Empty: this
	// node is alone. Once the store has begun the list of its nodes is kept in
	// the store, and only this node's own address is still read from here.
	Peers []Peer
	// Listen is the address and port for peers. The host must be an IP address
	// or localhost. Default: the address of this node in Peers.
	Listen string
	// Start says what a node without files does. Default Found.
	Start Start
	// Cluster keeps nodes of different stores apart even if their addresses are
	// mixed up. Default "perdure".
	Cluster string

	// Endpoints are host:port of an etcd that the operator runs.
	Endpoints []string
	// Username and Password log in there, if it asks.
	Username, Password string

	// TLS is used between peers, where it is required, or towards Endpoints.
	TLS TLS

	// Prefix stands before every key. Default "/perdure/". Two clusters that
	// share an external etcd need different ones.
	Prefix string
	// CallLimit bounds every call. Default 5 s: long enough to sit out an
	// election, short enough that whoever waits is told.
	CallLimit time.Duration
	// OpenLimit bounds Open, which waits for a quorum. Default 30 s.
	OpenLimit time.Duration

	// Heartbeat is how often a leader tells its peers that it lives. Default
	// 200 ms: twice as often costs every node at rest a fifth of its processor
	// time. For a node alone it is the unit of Election, 100 ms.
	Heartbeat time.Duration
	// Election is how long peers wait without a heartbeat before they elect
	// another leader. Default five times Heartbeat, which is the least: 1 s. A node
	// alone waits too before it leads itself, so there it is 500 ms.
	Election time.Duration
	// Quota is how many bytes the embedded store may take on disk. Default
	// 256 MiB; documents are plans and settings, not data.
	Quota int64
	// Reserve is how many bytes of disk are kept for the embedded store where
	// they can be, and given up when the disk is nearly full. Default 64 MiB, -1
	// for none: then a full disk ends the process.
	Reserve int64
	// Sync is when a change counts as written. Default ToDisk.
	Sync Sync
}

// Peer is one node of an embedded store.
type Peer struct {
	Name    string
	Address string // host:port that the other nodes reach
}

// TLS names files in PEM form. The certificate is shown to the other side and
// the other side's must be signed by CA; the host part of every address must
// be among the names of its certificate.
type TLS struct{ CA, Cert, Key string }

// Start says how a node without files begins.
type Start string

const (
	// Found begins a new store together with all Peers.
	Found Start = "found"
	// Join enters a running store, to which this node was added by AddPeer.
	// Peers must be exactly the nodes of that store, this one included.
	Join Start = "join"
)

// Sync says when a change counts as written.
type Sync int

const (
	// ToDisk waits for the disk.
	ToDisk Sync = iota
	// ToMemory trusts the kernel. It loses acknowledged changes when the
	// machine stops: for tests only.
	ToMemory
)

// solitary is the address of a node without peers. It listens nowhere; etcd
// only wants a name for it.
const solitary = "localhost:0"

func (c Config) withDefaults() Config {
	c.Name = cmp.Or(c.Name, "node1")
	c.Start = cmp.Or(c.Start, Found)
	c.Cluster = cmp.Or(c.Cluster, "perdure")
	c.Prefix = cmp.Or(c.Prefix, "/perdure/")
	c.CallLimit = cmp.Or(c.CallLimit, 5*time.Second)
	c.OpenLimit = cmp.Or(c.OpenLimit, 30*time.Second)
	if c.Heartbeat == 0 {
		c.Heartbeat = 200 * time.Millisecond
		if len(c.Peers) == 0 {
			c.Heartbeat = 100 * time.Millisecond
		}
	}
	c.Election = cmp.Or(c.Election, 5*c.Heartbeat)
	c.Quota = cmp.Or(c.Quota, 256<<20)
	c.Reserve = cmp.Or(c.Reserve, 64<<20)
	if c.Listen == "" {
		if i := c.self(); i >= 0 {
			c.Listen = c.Peers[i].Address
		}
	}
	return c
}

func (c Config) self() int {
	return slices.IndexFunc(c.Peers, func(p Peer) bool { return p.Name == c.Name })
}

// address is how others reach this node.
func (c Config) address() string {
	if i := c.self(); i >= 0 {
		return c.Peers[i].Address
	}
	return solitary
}

// check reports every mistake at once. It expects the defaults in place.
func (c Config) check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	switch {
	case c.Dir == "" && len(c.Endpoints) == 0:
		wrong("neither a directory for the embedded store nor endpoints of an external one are named")
	case c.Dir != "" && len(c.Endpoints) > 0:
		wrong("both a directory for an embedded store and endpoints of an external one are named")
	}
	if n := len(c.Endpoints); n > 0 && len(c.Peers) > 0 {
		wrong("peers belong to an embedded store, but %d endpoints of an external one are named", n)
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		wrong("a TLS certificate and its key come together")
	}
	if c.Election < 5*c.Heartbeat {
		wrong("election %s must be at least five times heartbeat %s", c.Election, c.Heartbeat)
	}
	if c.Start != Found && c.Start != Join {
		wrong("start %q is neither %q nor %q", c.Start, Found, Join)
	}
	errs = append(errs, c.checkPeers()...)
	return errors.Join(errs...)
}

func (c Config) checkPeers() (errs []error) {
	if len(c.Peers) == 0 {
		if c.Start == Join {
			return []error{errors.New("a node that joins needs the names and addresses of its peers")}
		}
		return nil
	}
	names, addresses := map[string]bool{}, map[string]bool{}
	for _, p := range c.Peers {
		if _, _, err := net.SplitHostPort(p.Address); err != nil || p.Name == "" {
			errs = append(errs, fmt.Errorf("peer %q at %q needs a name and host:port", p.Name, p.Address))
		}
		if names[p.Name] || addresses[p.Address] {
			errs = append(errs, fmt.Errorf("peer %q at %q is listed twice", p.Name, p.Address))
		}
		names[p.Name], addresses[p.Address] = true, true
	}
	if c.self() < 0 {
		errs = append(errs, fmt.Errorf("this node, %q, is not among the peers", c.Name))
	}
	if c.TLS.CA == "" || c.TLS.Cert == "" {
		errs = append(errs, errors.New("nodes with peers need a TLS certificate, its key and the authority that signed the peers' certificates"))
	}
	return errs
}
