package jet

import (
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
)

// MaxPayload is the largest message the embedded server takes. It is above the
// largest frame of the write queue (4 MiB and its header) and at the limit the
// server itself warns about.
const MaxPayload = 8 << 20

// Config says how this node reaches JetStream. The zero value with a Dir is a
// single embedded server that no socket leads to.
type Config struct {
	// Name of this node; unique in a cluster, stable over restarts.
	Name string
	// Dir holds the store of the embedded server (mode 0700).
	Dir string
	// MaxStore is the disk the embedded server may fill in all, in bytes.
	// Default 64 GiB. The sum of the streams' MaxBytes must fit in it.
	MaxStore int64
	// Reserve is the free space on Dir's file system under which appends are
	// refused. JetStream switches itself off when a write meets a full disk, so
	// we stop before. Default 256 MiB.
	Reserve int64
	// Cluster makes the embedded server one of three (or five).
	Cluster *Cluster
	// External uses somebody else's servers; nothing is embedded then.
	External *External

	beside bool // start a companion: no other server comes
}

// Cluster is the link between the embedded servers of several nodes.
type Cluster struct {
	Name   string   // the same on every node
	Listen string   // host:port of this node
	Peers  []string // host:port of all nodes, this one may be among them
	// Found says that this node is the first: it needs no other to begin, and
	// takes the streams it had alone with it. Nodes that come later find it by
	// their Peers. Without it, as many nodes as there are Peers begin together.
	Found  bool
	Secret string      // shared by all nodes; asked for beside the certificate
	TLS    *tls.Config // certificate of this node and the CA; must verify both ways
}

// External is a JetStream that this process does not run.
type External struct {
	URLs        []string
	Credentials string // path of a .creds file; empty: none
	TLS         *tls.Config
}

// Check reports every mistake at once, by the names the user typed.
func (c Config) Check() error {
	var errs []error
	if c.External != nil {
		if len(c.External.URLs) == 0 {
			errs = append(errs, errors.New("external.urls: at least one server is needed"))
		}
		if c.Cluster != nil {
			errs = append(errs, errors.New("cluster and external exclude each other"))
		}
		return errors.Join(errs...)
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("dir: a directory for the log is needed"))
	} else if !filepath.IsAbs(c.Dir) {
		errs = append(errs, fmt.Errorf("dir: %q is not absolute", c.Dir))
	}
	if k := c.Cluster; k != nil {
		if c.Name == "" {
			errs = append(errs, errors.New("name: a clustered node needs one that stays"))
		}
		if k.Name == "" {
			errs = append(errs, errors.New("cluster.name: missing"))
		}
		if k.TLS == nil {
			errs = append(errs, errors.New("cluster.tls: links between nodes are always encrypted"))
		}
		if len(k.Peers) == 0 {
			errs = append(errs, errors.New("cluster.peers: missing"))
		}
	}
	return errors.Join(errs...)
}
