package node

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/control"
	"github.com/perdure/perdure/internal/durable"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/peers"
	"github.com/perdure/perdure/internal/pki"
	"github.com/perdure/perdure/internal/plan"
)

// Files of a node that others have let in, under its data directory.
const (
	peersFile  = "peers.json"
	secretFile = "streams.secret"
	keysFile   = "queue.keys"
)

// local is what a node knows about its cluster's nodes before the control store
// answers.
type local struct {
	Cluster string       `json:"cluster"`
	Name    string       `json:"name"`
	First   bool         `json:"first,omitempty"` // it began the cluster
	Removed bool         `json:"removed,omitempty"`
	Nodes   []peers.Node `json:"nodes"` // this one included
}

// nodes is this node's part in a cluster of nodes.
type nodes struct {
	n       *Node
	managed bool // nodes come and go by command
	book    *peers.Book
	path    string
	files   control.TLS
	me      peers.Node // as this node's file has it
	list    atomic.Pointer[peers.List]
	http    *http.Client

	mu    sync.Mutex
	known local // its Cluster, Name and First do not change
	seen  map[string]sight
}

// sight is how another node was seen last.
type sight struct {
	up    bool
	since time.Time
}

// streamsOf is the address of a node's streams: the port after that for peers.
func streamsOf(f *config.File) (string, error) {
	if f.Node.Streams != "" {
		return f.Node.Streams, nil
	}
	host, port, err := net.SplitHostPort(f.Node.Peer)
	if err != nil {
		return "", fmt.Errorf("node.peer: %w", err)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n >= 65535 {
		return "", fmt.Errorf("node.peer: there is no port after %s; set node.streams", port)
	}
	return net.JoinHostPort(host, strconv.Itoa(n+1)), nil
}

// self is this node's entry as its file has it.
func self(f *config.File) (peers.Node, error) {
	streams, err := streamsOf(f)
	if err != nil {
		return peers.Node{}, err
	}
	api := f.Node.API
	if host, port, err := net.SplitHostPort(api); err == nil {
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
			peer, _, _ := net.SplitHostPort(f.Node.Peer)
			api = net.JoinHostPort(peer, port)
		}
	}
	return peers.Node{Name: f.Node.Name, Address: f.Node.Peer, Streams: streams, API: api}, nil
}

// openNodes finds out to whom this node belongs.
func (n *Node) openNodes(ca *pki.Authority) error {
	f := n.file
	k := &nodes{n: n, path: filepath.Join(f.Node.Data, peersFile), seen: map[string]sight{}}
	n.nodes = k
	k.list.Store(&peers.List{})
	if len(f.Control.Peers) > 0 || len(f.Control.Endpoints) > 0 {
		k.files = control.TLS{CA: f.Control.CA, Cert: f.Control.Cert, Key: f.Control.Key}
		if len(f.Control.Peers) > 1 {
			return k.client()
		}
		return nil
	}
	var err error
	if k.known, err = readLocal(k.path); err != nil {
		return err
	}
	switch {
	case f.Node.Peer == "" && k.known.Name != "":
		// Streams made meanwhile would be strangers to the others'.
		return &config.Error{Text: fmt.Sprintf("this node listens for other nodes (it knows %s) at its node.peer: set it in perdure.yaml", names(k.known.Nodes))}
	case f.Node.Peer == "":
		return nil
	case k.known.Removed:
		return plan.Refuse(fmt.Sprintf("to let it in again: move %s away, give it another node.name, and use a new join token (`perdure node invite`)", f.Node.Data),
			"the node %s was removed from cluster %s", k.known.Name, k.known.Cluster)
	case k.known.Name != "" && k.known.Name != f.Node.Name:
		return &config.Error{Text: fmt.Sprintf("node.name is %s, and the data in %s are those of the node %s: its peers know it by that name", f.Node.Name, f.Node.Data, k.known.Name)}
	}
	k.managed = true
	me, err := self(f)
	if err != nil {
		return err
	}
	if k.known.Name == "" {
		k.known = local{Cluster: f.Cluster, Name: f.Node.Name, First: true}
	}
	if i := slices.IndexFunc(k.known.Nodes, func(o peers.Node) bool { return o.Name == me.Name }); i < 0 {
		k.known.Nodes = append(k.known.Nodes, me)
	} else {
		me.Slot, me.Joined = k.known.Nodes[i].Slot, k.known.Nodes[i].Joined
		k.known.Nodes[i] = me
	}
	k.me = me
	host, _, _ := net.SplitHostPort(me.Address)
	streamsHost, _, _ := net.SplitHostPort(me.Streams)
	k.files.CA = ca.CA()
	if k.files.Cert, k.files.Key, err = ca.Issue("peer", append([]string{host, streamsHost, me.Name}, f.Node.Names...)...); err != nil {
		return err
	}
	if err := k.client(); err != nil {
		return err
	}
	return k.save()
}

func names(all []peers.Node) string {
	var out []string
	for _, n := range all {
		out = append(out, n.Name)
	}
	return strings.Join(out, ", ")
}

func readLocal(path string) (local, error) {
	var l local
	b, err := os.ReadFile(path) //nolint:gosec // in the data directory
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &l)
	}
	if err != nil {
		err = fmt.Errorf("what this node knows of its peers, %s: %w", path, err)
	}
	return l, err
}

func (k *nodes) save() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known.save(k.path)
}

func (l local) save(path string) error {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, b) { //nolint:gosec // in the data directory
		return nil // a node starts on a full disk, too
	}
	return durable.Replace(path, b)
}

// secret is what the streams of all nodes share beside their certificates.
func (k *nodes) secret() (string, error) {
	path := filepath.Join(k.n.file.Node.Data, secretFile)
	b, err := os.ReadFile(path) //nolint:gosec // in the data directory
	if err == nil && len(b) > 0 {
		return string(b), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	s := rand.Text()
	return s, durable.Replace(path, []byte(s))
}

// client prepares to ask other nodes whether they live.
func (k *nodes) client() error {
	mutual, err := mutualTLS(k.files)
	if err != nil {
		return err
	}
	k.http = &http.Client{Timeout: lookLimit, Transport: &http.Transport{TLSClientConfig: mutual, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}}
	return nil
}

// peerList is every node of the cluster, this one included; nil for a node alone.
func (n *Node) peerList() []config.Peer {
	if n.nodes == nil || !n.nodes.managed {
		return n.file.Control.Peers
	}
	var out []config.Peer
	for _, p := range n.nodes.all() {
		out = append(out, config.Peer{Name: p.Name, Address: p.Address})
	}
	return out
}

// all are the managed nodes as far as they are known.
func (k *nodes) all() []peers.Node {
	if l := k.list.Load(); len(l.Nodes) > 0 {
		return l.Nodes
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.known.Nodes)
}

const (
	lookPause = 2 * time.Second
	lookLimit = 1500 * time.Millisecond
)

// look asks the other nodes whether they live, again and again, over one
// connection each. It is for people and for what may not cost the majority; who
// leads is decided without it.
func (k *nodes) look(ctx context.Context) error {
	tick := time.NewTicker(lookPause)
	defer tick.Stop()
	lost := false
	for {
		var all sync.WaitGroup
		for _, p := range k.n.peerList() {
			if p.Name != k.n.file.Node.Name && k.http != nil {
				all.Go(func() { k.note(p.Name, k.answers(ctx, p.Address)) })
			}
		}
		all.Wait()
		lost = k.tellQuorum(ctx, lost)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// tellQuorum makes an event of the loss of the control store, and of its return.
func (k *nodes) tellQuorum(ctx context.Context, lost bool) bool {
	s, err := k.n.control.Status(ctx)
	if ctx.Err() != nil || err != nil || lost == !s.Quorum {
		return lost
	}
	var e event.Event
	switch {
	case s.Quorum:
		e = event.New(event.ControlRegained, "control", "the control store answers the node "+k.n.file.Node.Name+" again")
	case s.Full:
		e = event.New(event.ControlLost, "control", "the disk of the node "+k.n.file.Node.Name+" is full: it takes no part in the control store until there is room; queries run")
	default:
		e = event.New(event.ControlLost, "control", "the control store has no majority of its nodes: nothing heals, no plan goes on, no setting can be changed; queries run")
	}
	k.n.publisher().Publish(e)
	k.n.log.Warn("the control store", "answers", s.Quorum, "disk_full", s.Full)
	return !s.Quorum
}

func (k *nodes) answers(ctx context.Context, address string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/version", nil)
	if err != nil {
		return false
	}
	resp, err := k.http.Do(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (k *nodes) note(name string, up bool) {
	k.mu.Lock()
	was, known := k.seen[name]
	if !known || was.up != up {
		k.seen[name] = sight{up, time.Now().UTC()}
	}
	k.mu.Unlock()
	if !known || was.up == up {
		return
	}
	if _, leads := k.n.lease.Term(); !leads {
		return // one node tells it
	}
	e := event.New(event.NodeSilent, "node/"+name, "the node "+name+" does not answer")
	if up {
		e = event.New(event.NodeBack, "node/"+name, "the node "+name+" answers again")
	}
	k.n.publisher().Publish(e)
}

// alive tells whether a node answered when it was asked last.
func (k *nodes) alive(name string) bool {
	if name == k.n.file.Node.Name {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen[name].up
}

// follow keeps the list, here and in this node's file.
func (k *nodes) follow(ctx context.Context) error {
	if !k.managed {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return k.book.Follow(ctx, func(l peers.List) {
		if len(l.Nodes) == 0 {
			return
		}
		k.list.Store(&l)
		k.mu.Lock()
		defer k.mu.Unlock()
		if slices.Equal(l.Nodes, k.known.Nodes) {
			return
		}
		if me, ok := l.Node(k.known.Name); !ok || me.Leaving && me.Instead != "" {
			return
		}
		k.known.Nodes = slices.Clone(l.Nodes)
		if err := k.known.save(k.path); err != nil {
			k.n.log.Warn("the list of nodes cannot be written down", "err", err)
		}
	})
}

// run runs the control store and says why it ended by itself.
func (k *nodes) run(ctx context.Context) error {
	err := k.n.control.Run(ctx)
	me, _ := k.list.Load().Node(k.known.Name)
	if k.managed && errors.Is(err, control.ErrStopped) && me.Leaving {
		k.mu.Lock()
		k.known.Removed = true
		k.mu.Unlock()
		return errors.Join(peers.ErrRemoved, k.save())
	}
	return err
}

// mutualTLS is with which nodes know each other.
func mutualTLS(files control.TLS) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, fmt.Errorf("the certificate for peers: %w", err)
	}
	pool, err := poolOf(files.CA)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}, nil
}

func keysPath(f *config.File) string {
	keys := ""
	if f.Queue != nil {
		keys = f.Queue.Keys
	}
	return cmp.Or(keys, filepath.Join(f.Node.Data, keysFile))
}
