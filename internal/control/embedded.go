package control

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// start runs etcd inside this process. It does not wait for its cluster.
func (c *Control) start() (*engine, error) {
	r := newEngine()
	var err error
	if r.etcd, err = embed.StartEtcd(c.settings(r.ending)); err != nil {
		return nil, fmt.Errorf("start the embedded store in %s: %w", c.cfg.Dir, err)
	}
	r.client = v3client.New(r.etcd.Server)
	return r, nil
}

// settings are ours where they differ from etcd's own. When ending is over, what
// etcd says about its own end is not passed on.
func (c *Control) settings(ending context.Context) *embed.Config {
	e := embed.NewConfig()
	e.Name = c.cfg.Name
	e.Dir = filepath.Join(c.cfg.Dir, "etcd")
	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newZap(ending, c.log))
	e.InitialClusterToken = c.cfg.Cluster
	if c.cfg.Start == Join {
		e.ClusterState = embed.ClusterStateFlagExisting
	}
	e.ForceNewCluster = c.forced
	e.TickMs = uint(c.cfg.Heartbeat.Milliseconds())
	e.ElectionMs = uint(c.cfg.Election.Milliseconds())
	e.UnsafeNoFsync = c.cfg.Sync == ToMemory

	// No client ever comes through a socket, see doc.go.
	e.ListenClientUrls, e.AdvertiseClientUrls = nil, nil
	e.EnableGRPCGateway = false
	c.connect(e)

	// Entries of the raft log stay in memory until a snapshot, and a document
	// may be large: with etcd's 10,000 that could be gigabytes.
	e.SnapshotCount = 1000
	e.SnapshotCatchUpEntries = 200
	e.QuotaBackendBytes = c.cfg.Quota
	// Nobody asks for old states. Every five minutes etcd forgets all but the
	// last thousand changes, which is what a watch may be late by.
	e.AutoCompactionMode = embed.CompactorModeRevision
	e.AutoCompactionRetention = "1000"
	return e
}

// connect sets how peers reach each other; a node alone listens nowhere.
func (c *Control) connect(e *embed.Config) {
	const scheme = "https"
	e.ListenPeerUrls = nil
	if c.cfg.Listen != "" {
		e.ListenPeerUrls = []url.URL{{Scheme: scheme, Host: c.cfg.Listen}}
	}
	e.AdvertisePeerUrls = []url.URL{{Scheme: scheme, Host: c.cfg.address()}}
	e.PeerTLSInfo = transport.TLSInfo{
		CertFile:       c.cfg.TLS.Cert,
		KeyFile:        c.cfg.TLS.Key,
		TrustedCAFile:  c.cfg.TLS.CA,
		ClientCertAuth: true,
	}
	e.TlsMinVersion = "TLS1.3"

	var all []string
	for _, p := range c.cfg.Peers {
		all = append(all, p.Name+"="+peerURL(p.Address))
	}
	if len(all) == 0 {
		all = []string{c.cfg.Name + "=" + peerURL(solitary)}
	}
	e.InitialCluster = strings.Join(all, ",")
}
