// Package node puts the parts of a node together. It is the only package that
// knows all of them; tests and the playground build the same Node that
// `perdure serve` runs.
package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/api/server"
	"github.com/perdure/perdure/internal/auditlog"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/consistency"
	"github.com/perdure/perdure/internal/control"
	"github.com/perdure/perdure/internal/drill"
	"github.com/perdure/perdure/internal/group"
	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/lease"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/outcome"
	"github.com/perdure/perdure/internal/pki"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/proxy"
	"github.com/perdure/perdure/internal/queue"
	"github.com/perdure/perdure/internal/route"
	"github.com/perdure/perdure/internal/run"
	"github.com/perdure/perdure/internal/schedule"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
	"github.com/perdure/perdure/internal/watch"
)

// Options are what the file does not say.
type Options struct {
	Version string
	Log     *slog.Logger
	// Heal lets the node mend the group by itself. Without it, it only does what
	// people ask for.
	Heal bool
	// Faults, if set, marks the cluster as drillable: it hits the servers.
	Faults drill.Faults
	// Written, if set, is called after every write of a plan's journal.
	Written func(plan.Plan)
}

// Node is one running Perdure.
type Node struct {
	file    *config.File
	log     *slog.Logger
	nodes   *nodes
	control *control.Control
	store   *control.Memory // the control store, for what this node has to know
	lease   *lease.Keeper
	watch   *watch.Watcher
	group   *group.Group
	table   *route.Table
	wish    state.Doc[route.Wish]
	proxy   *proxy.Proxy    // nil where the file asks for none
	finder  *outcome.Finder // nil where commits have no marks
	gate    gate
	funnels *funnel
	shared  state.Store    // the control store, as routing uses it
	streams *jet.Server    // nil where nothing needs it
	queue   *queue.Service // nil where the file asks for none
	writes  *jet.LateLog   // the queue's log
	targets *targets
	notice  notice
	drift   atomic.Int64 // settings that differ between members
	access  *access.List
	audit   *auditlog.Log

	consistency *consistency.Audits // nil where the file has no account for it
	schedules   *schedule.Scheduler

	api    *server.Server
	listen net.Listener
	cert   tls.Certificate
	token  string
	pool   *x509.CertPool
	login  mysql.Login // without address

	authority   *pki.Authority
	fingerprint string
}

// Files of a node under its data directory, for those who call its API.
const (
	TokenFile = "token"
	CAFile    = "tls/ca.crt"
)

// New opens everything that can fail: directories, secrets, listeners, the
// control store. What it returns is ready to Run, or an error says why not.
func New(ctx context.Context, f *config.File, o Options) (n *Node, err error) {
	n = &Node{file: f, log: o.Log.With("node", f.Node.Name)}
	made := n
	defer func() {
		if err != nil {
			made.close()
		}
	}()
	if err := os.MkdirAll(f.Node.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if err := n.logins(); err != nil {
		return nil, err
	}
	if err := n.openAPI(ctx); err != nil {
		return nil, err
	}
	if err := n.openNodes(n.authority); err != nil {
		return nil, err
	}
	if err := n.openControl(ctx); err != nil {
		return nil, err
	}
	n.lease, err = lease.New(n.control, lease.Config{Holder: f.Node.Name, Reclaim: len(f.Control.Endpoints) == 0}, n.log.With("part", "lease"))
	if err != nil {
		return nil, err
	}
	n.access, n.audit = access.New(n.store, n.token), auditlog.New(n.control)
	n.watch = watch.New(n.Open, n.log.With("part", "watch"))
	n.group = group.New(group.Config{
		Node: f.Node.Name, Store: n.store, Lease: n.lease, Watch: n.watch, Open: n.Open,
		Log: n.log.With("part", "group"), Written: n.written(o.Written), Heal: o.Heal,
		Gate: n, Handover: n.handover(), Tell: n.publisher(),
		Salvage: filepath.Join(f.Node.Data, "salvage"), Binlog: n.binlogTool,
	})
	if err := n.openProxy(); err != nil {
		return nil, err
	}
	if err := n.openStreams(ctx); err != nil {
		return nil, err
	}
	if err := n.openQueue(ctx); err != nil {
		return nil, err
	}
	if err := n.openConsistency(); err != nil {
		return nil, err
	}
	if err := n.openSchedules(); err != nil {
		return nil, err
	}
	metrics := prometheus.NewRegistry()
	if err := n.openNotice(metrics, o.Version); err != nil {
		return nil, err
	}
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), n.watch)
	if n.proxy != nil {
		metrics.MustRegister(n.proxy)
	}
	if n.queue != nil {
		metrics.MustRegister(n.queue)
	}
	if n.consistency != nil {
		metrics.MustRegister(n.consistency)
	}
	n.api = server.New(server.Config{
		Version: o.Version, Node: f.Node.Name, Access: n.access, Audit: n.audit, Group: n.group, Watch: n.watch, Open: n.Open,
		Proxy: n.proxy, Route: n.table, Wish: n.wish, Obey: n.obey, Queue: n.queue, Drills: n.drills(o.Faults),
		Consistency: n.consistency, Schedules: n.schedules,
		Nodes: n.nodes, Known: n.lastCluster,
		Events: n.notice.events, Alarms: n.notice.alarms, Rules: n.notice.rules, Hooks: n.notice.hooks,
		Metrics: metrics, Traced: n.notice.trace.Handler, Log: n.log.With("part", "api"),
	})
	metrics.MustRegister(n.api)
	return n, nil
}

// Open connects to a server with the node's account.
func (n *Node) Open(in topology.Instance) (*mysql.Server, error) {
	l := n.login
	l.Address = in.Address
	return mysql.Open(in.Name, l)
}

// logins reads the account of the members.
func (n *Node) logins() error {
	password, err := n.file.Secret(n.file.MySQL.Password)
	if err != nil {
		return err
	}
	n.login = mysql.Login{User: n.file.MySQL.User, Password: password}
	if n.file.MySQL.CA == "" {
		return nil
	}
	pem, err := os.ReadFile(n.file.MySQL.CA)
	if err != nil {
		return fmt.Errorf("read mysql.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("mysql.ca: %s holds no certificate", n.file.MySQL.CA)
	}
	n.login.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return nil
}

// openAPI makes the API's certificate and token and takes its address.
func (n *Node) openAPI(ctx context.Context) error {
	dir := filepath.Join(n.file.Node.Data, filepath.Dir(CAFile))
	ca, err := pki.Open(dir)
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(n.file.Node.API)
	if err != nil {
		return fmt.Errorf("node.api: %w", err)
	}
	n.authority, n.fingerprint = ca, ca.Fingerprint()
	names := append([]string{"localhost", "127.0.0.1", "::1", n.file.Node.Name}, n.file.Node.Names...)
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		names = append(names, host)
	}
	cert, key, err := ca.Issue("api", names...)
	if err != nil {
		return err
	}
	if n.cert, err = tls.LoadX509KeyPair(cert, key); err != nil {
		return err
	}
	// A new node knows the cluster by its authority, which comes with the rest.
	n.cert.Certificate = append(n.cert.Certificate, ca.Certificate())
	n.pool = ca.Pool()
	if n.token, err = token(filepath.Join(n.file.Node.Data, TokenFile)); err != nil {
		return err
	}
	var lc net.ListenConfig
	if n.listen, err = lc.Listen(ctx, "tcp", n.file.Node.API); err != nil {
		return fmt.Errorf("listen for the API (node.api): %w", err)
	}
	return nil
}

// token reads the administrator's token, and makes it at the first start.
func token(path string) (string, error) {
	b, err := os.ReadFile(path) //nolint:gosec // in the data directory
	if err == nil && len(b) > 0 {
		return string(b), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails: see crypto/rand
	t := hex.EncodeToString(raw)
	if err := os.WriteFile(path+".new", []byte(t), 0o600); err != nil {
		return "", err
	}
	return t, os.Rename(path+".new", path)
}

// written puts the end of every plan into the audit log.
func (n *Node) written(also func(plan.Plan)) func(plan.Plan) {
	return func(p plan.Plan) {
		if p.State.Over() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			result := string(p.State)
			if p.Error != "" {
				result += ": " + p.Error
			}
			if err := n.audit.Add(ctx, auditlog.Entry{At: time.Now(), Who: p.Actor, From: n.file.Node.Name, Did: "plan " + p.Kind, On: p.ID + ": " + p.Title, Result: result}); err != nil {
				n.log.Error("the end of a plan is not in the audit log", "plan", p.ID, "err", err)
			}
		}
		n.notice.plans.Written(p)
		n.notice.trace.Change(p)
		if also != nil {
			also(p)
		}
	}
}

// binlogTool finds mysqlbinlog on this machine.
func (n *Node) binlogTool() (string, error) {
	b, err := mysqld.Find(n.file.MySQL.Server)
	if err != nil {
		return exec.LookPath("mysqlbinlog")
	}
	return b.Tool("mysqlbinlog")
}

func (n *Node) openControl(ctx context.Context) error {
	c := n.file.Control
	cfg := control.Config{
		Name: n.file.Node.Name, Cluster: n.file.Cluster, Endpoints: c.Endpoints, Username: c.User,
		TLS: n.nodes.files,
	}
	if len(c.Endpoints) == 0 {
		cfg.Dir = filepath.Join(n.file.Node.Data, "control")
	} else {
		cfg.Prefix = "/perdure/" + n.file.Cluster + "/"
	}
	for _, p := range n.peerList() {
		cfg.Peers = append(cfg.Peers, control.Peer{Name: p.Name, Address: p.Address})
	}
	if n.nodes.managed && !n.nodes.known.First {
		cfg.Start = control.Join
	}
	if c.Password != "" {
		var err error
		if cfg.Password, err = n.file.Secret(c.Password); err != nil {
			return err
		}
	}
	return n.beginControl(ctx, cfg)
}

// API is the URL, the token and the authority with which to call the node.
func (n *Node) API() (url, token string, ca *x509.CertPool) {
	return "https://" + n.listen.Addr().String(), n.token, n.pool
}

// Proxy is the node's proxy, nil if it runs none.
func (n *Node) Proxy() *proxy.Proxy { return n.proxy }

// Watch is the node's watcher.
func (n *Node) Watch() *watch.Watcher { return n.watch }

// Group is the node's group.
func (n *Node) Group() *group.Group { return n.group }

// Run runs the node until ctx ends, then stops its parts in reverse.
func (n *Node) Run(ctx context.Context) error {
	defer n.close()
	n.log.Info("node runs", "api", n.listen.Addr().String(), "cluster", n.file.Cluster)
	// What stands on something comes after it, and stops before it: clients
	// leave first, and what tells of things stops after what they happen to.
	parts := []run.Part{
		{Name: "control", Run: n.nodes.run},
		{Name: "access", Run: n.access.Run},
		{Name: "watch", Run: n.watch.Run},
		{Name: "lease", Run: n.lease.Run},
		{Name: "peers", Run: n.nodes.follow},
		{Name: "look", Run: n.nodes.look},
	}
	parts = append(parts, n.noticing()...)
	parts = append(parts,
		run.Part{Name: "group", Run: n.group.Run},
		run.Part{Name: "nodes", Run: n.nodes.tend},
	)
	parts = append(parts, n.keeping()...)
	parts = append(parts,
		run.Part{Name: "api", Run: func(ctx context.Context) error { return n.api.Serve(ctx, n.listen, n.cert) }},
	)
	parts = append(parts, n.routing()...)
	return run.Parts(ctx, append(parts, n.queueing()...)...)
}

func (n *Node) close() {
	if n.listen != nil {
		_ = n.listen.Close()
	}
	if n.targets != nil {
		n.targets.close()
	}
	if n.streams != nil {
		n.streams.Close()
	}
	if n.control != nil {
		n.control.Close()
	}
}
