package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/auditlog"
	"github.com/perdure/perdure/internal/client"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/control"
	"github.com/perdure/perdure/internal/durable"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/peers"
	"github.com/perdure/perdure/internal/pki"
	"github.com/perdure/perdure/internal/plan"
)

// List implements server.Nodes. It asks no other node.
func (k *nodes) List(ctx context.Context) api.Nodes {
	me := k.n.file.Node.Name
	out := api.Nodes{Node: me, Managed: k.managed, Nodes: []api.Node{}}
	s, err := k.n.control.Status(ctx)
	out.Quorum = err == nil && s.Quorum
	acts := k.n.lease.Leader().Holder
	_, mine := k.n.lease.Term()
	if time.Since(k.n.lease.Leader().Seen) > 10*time.Second || acts == me && !mine {
		acts = "" // it is not known, or not any more
	}
	var entries []peers.Node
	if k.managed {
		entries = k.all()
	} else {
		for _, p := range k.n.file.Control.Peers {
			entries = append(entries, peers.Node{Name: p.Name, Address: p.Address})
		}
	}
	if len(entries) == 0 {
		entries = []peers.Node{{Name: me, API: k.n.file.Node.API}}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range entries {
		seen := k.seen[e.Name]
		n := api.Node{Name: e.Name, Address: e.Address, Streams: e.Streams, API: e.API, State: "silent", Since: seen.since, Acts: acts == e.Name}
		if seen.up || e.Name == me {
			n.State = "up"
		}
		i := slices.IndexFunc(s.Nodes, func(c control.Node) bool { return c.Name == e.Name || c.Name == "" && c.Address == e.Address })
		switch {
		case e.Leaving:
			n.State = "leaving"
		case i >= 0:
			if n.Votes = !s.Nodes[i].Learner && s.Nodes[i].Name != ""; !n.Votes {
				n.State = "joining"
			}
		case len(s.Nodes) > 0 && k.managed:
			n.State = "joining"
		default: // an external store keeps no list of ours
			n.Votes = len(k.n.file.Control.Endpoints) == 0
		}
		out.Nodes = append(out.Nodes, n)
	}
	out.Level, out.Summary = sumUp(out)
	return out
}

// sumUp says in one sentence what the nodes can still lose and what to do next.
func sumUp(l api.Nodes) (level, sentence string) {
	var silent []string
	voters, up := 0, 0
	for _, n := range l.Nodes {
		if n.State == "silent" {
			silent = append(silent, n.Name)
		}
		if n.Votes {
			voters++
			if n.State == "up" || n.State == "leaving" {
				up++
			}
		}
	}
	spare := up - (voters/2 + 1)
	switch {
	case !l.Quorum && len(silent) > 0:
		return "down", fmt.Sprintf("The nodes have no majority, %s not answering: nothing heals and no plan or setting can be changed; queries run. Start %s again.", isAre(silent), strings.Join(silent, " and "))
	case !l.Quorum:
		return "down", "The control store does not answer: nothing heals and no plan or setting can be changed; queries run."
	case len(l.Nodes) == 1:
		return "ok", "There is one node: while it is down nothing heals. Three would survive the loss of one (`perdure node invite`)."
	case len(silent) > 0 && spare <= 0:
		return "degraded", fmt.Sprintf("The nodes cannot lose another one, %s not answering. Start %s again, or replace it (`perdure node replace %s`).", isAre(silent), strings.Join(silent, " and "), silent[0])
	case len(silent) > 0:
		return "degraded", fmt.Sprintf("The nodes can lose %d more, %s not answering.", spare, isAre(silent))
	case voters < 3:
		return "degraded", fmt.Sprintf("There are %d nodes that count, and a majority needs all of them. Let another one in: `perdure node invite`.", voters)
	}
	return "ok", fmt.Sprintf("The nodes can lose %d of %d and go on; nothing to do.", spare, voters)
}

func isAre(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names, " and ") + " are"
}

// mine refuses what only managed nodes can do.
func (k *nodes) mine() error {
	switch {
	case k.managed:
		return nil
	case len(k.n.file.Control.Endpoints) > 0:
		return plan.Refuse("see the documentation of that store", "the control store is external, its nodes are its operator's. Nothing was changed.")
	case len(k.n.file.Control.Peers) > 0:
		return plan.Refuse("change control.peers and streams.peers on every node", "the nodes of this cluster are listed in perdure.yaml (control.peers). Nothing was changed.")
	}
	return plan.Refuse("set node.peer in its perdure.yaml to the host:port where other nodes reach it, and start it again", "the node %s is alone and listens for no other. Nothing was changed.", k.n.file.Node.Name)
}

// longestInvitation bounds how long a join token may work: its secret opens the
// whole cluster.
const longestInvitation = 7 * 24 * time.Hour

// Invite implements server.Nodes.
func (k *nodes) Invite(ctx context.Context, by string, in api.Invite) (api.Invitation, error) {
	if err := k.mine(); err != nil {
		return api.Invitation{}, err
	}
	lasts := peers.Lasts
	if in.Lasts != "" {
		var err error
		if lasts, err = time.ParseDuration(in.Lasts); err != nil || lasts <= 0 || lasts > longestInvitation {
			return api.Invitation{}, plan.Refuse("give a time such as 1h", "a join token works for up to %s, not %q. Nothing was changed.", longestInvitation, in.Lasts)
		}
	}
	me, err := self(k.n.file)
	if err != nil {
		return api.Invitation{}, err
	}
	if isLoopback(me.API) && !isLoopback(me.Address) {
		return api.Invitation{}, plan.Refuse("set node.api to an address that the new node reaches, and start this node again", "the API of %s listens on %s only, where no other host can come. Nothing was changed.", me.Name, me.API)
	}
	secret, expires, err := k.book.Invite(ctx, by, in.Instead, lasts, k.alive)
	if err != nil {
		return api.Invitation{}, err
	}
	t := peers.Token{Cluster: k.known.Cluster, CA: k.n.fingerprint, Secret: secret, APIs: []string{me.API}}
	for _, o := range k.all() {
		if o.Name != me.Name && k.alive(o.Name) && o.API != "" && (isLoopback(me.Address) || !isLoopback(o.API)) {
			t.APIs = append(t.APIs, o.API)
		}
	}
	return api.Invitation{Token: t.String(), Expires: expires, Instead: in.Instead}, nil
}

func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Admit implements server.Nodes.
func (k *nodes) Admit(ctx context.Context, in api.Join) (api.Joined, error) {
	if err := k.mine(); err != nil {
		return api.Joined{}, err
	}
	if in.Cluster != k.known.Cluster {
		return api.Joined{}, plan.Refuse("set cluster in its perdure.yaml", "this is cluster %s, and the new node's perdure.yaml says %s. Nothing was changed.", k.known.Cluster, in.Cluster)
	}
	for _, a := range []string{in.Address, in.Streams} {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return api.Joined{}, plan.Refuse("set node.peer in its perdure.yaml", "%q is not host:port. Nothing was changed.", a)
		}
	}
	before, err := k.n.control.Nodes(ctx)
	if err != nil {
		return api.Joined{}, err
	}
	pending := func(name string) bool {
		n, _ := k.list.Load().Node(name)
		i := slices.IndexFunc(before, func(c control.Node) bool { return c.Name == name || c.Name == "" && c.Address == n.Address })
		return i < 0 || before[i].Name == "" || before[i].Learner
	}
	a, err := k.book.Admit(ctx, in.Secret, peers.Node{Name: in.Name, Address: in.Address, Streams: in.Streams, API: in.API}, pending, time.Now())
	if err != nil {
		return api.Joined{}, errors.Join(err, k.auditJoin(ctx, in, err))
	}
	if err := k.bring(ctx, a, before); err != nil {
		return api.Joined{}, &plan.HintedError{Err: fmt.Errorf("let %s in: %w", in.Name, err), Hint: "run `perdure node join` again with the same token: it goes on where it was"}
	}
	out, err := k.joined(ctx, a)
	if err != nil {
		return api.Joined{}, err
	}
	k.n.publisher().Publish(event.New(event.NodeJoined, "node/"+in.Name, "the node "+in.Name+" at "+in.Address+" was let in"))
	return out, k.auditJoin(ctx, in, nil)
}

func (k *nodes) auditJoin(ctx context.Context, in api.Join, err error) error {
	result := "let in"
	if err != nil {
		result = "refused: " + err.Error()
	}
	return k.n.audit.Add(ctx, auditlog.Entry{At: time.Now(), Who: "join token", From: in.Address, Did: "node join", On: in.Name, Result: result})
}

// bring puts an admitted node into the control store. It may be called again.
func (k *nodes) bring(ctx context.Context, a peers.Admitted, before []control.Node) error {
	if a.Instead != "" && slices.ContainsFunc(before, func(c control.Node) bool { return c.Name == a.Instead }) {
		if err := k.n.control.RemovePeer(ctx, a.Instead); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(before, func(c control.Node) bool { return c.Address == a.Self.Address }) {
		return nil
	}
	return k.n.control.AddPeer(ctx, control.Peer{Name: a.Self.Name, Address: a.Self.Address})
}

// joined is what the new node needs.
func (k *nodes) joined(ctx context.Context, a peers.Admitted) (api.Joined, error) {
	out := api.Joined{Cluster: k.known.Cluster, Slot: a.Self.Slot}
	now, err := k.n.control.Nodes(ctx)
	if err != nil {
		return out, err
	}
	for _, n := range a.List.Nodes {
		if slices.ContainsFunc(now, func(c control.Node) bool { return c.Address == n.Address }) {
			out.Nodes = append(out.Nodes, api.Node{Name: n.Name, Address: n.Address, Streams: n.Streams, API: n.API})
		}
	}
	ca, key, err := k.n.authority.Files()
	if err != nil {
		return out, err
	}
	out.CA, out.CAKey = string(ca), string(key)
	if out.Secret, err = k.secret(); err != nil {
		return out, err
	}
	if k.n.file.Queue != nil && k.n.file.Queue.Keys == "" {
		keys, err := os.ReadFile(keysPath(k.n.file))
		if err != nil {
			return out, err
		}
		out.Keys = string(keys)
	}
	return out, nil
}

// Remove implements server.Nodes.
func (k *nodes) Remove(ctx context.Context, name string) error {
	if err := k.mine(); err != nil {
		return err
	}
	return k.book.Leave(ctx, name, k.alive)
}

// Join lets the node of a file into a cluster, with a join token. The node must
// not run; afterwards it may. Called again it asks again, until the node has
// started; then it does nothing.
func Join(ctx context.Context, f *config.File, token string) (already bool, err error) {
	if f.Node.Peer == "" {
		return false, &config.Error{Text: "node.peer is missing in perdure.yaml: the host:port where the other nodes reach this one"}
	}
	if len(f.Control.Peers)+len(f.Control.Endpoints) > 0 {
		return false, &config.Error{Text: "perdure.yaml says where the control store is (control): a node that joins by command needs nothing there"}
	}
	path := filepath.Join(f.Node.Data, peersFile)
	known, err := readLocal(path)
	if err != nil {
		return false, err
	}
	t, err := peers.ParseToken(token)
	if err != nil {
		return false, &config.Error{Text: err.Error()}
	}
	if _, err := os.Stat(filepath.Join(f.Node.Data, "control")); err == nil || known.Name != "" {
		ours := known.Name == f.Node.Name && known.Cluster == t.Cluster && !known.First && !known.Removed
		if ours && err == nil {
			return true, nil
		}
		if !ours {
			return false, plan.Refuse(fmt.Sprintf("if nothing of that is needed, move %s away and run this again", f.Node.Data),
				"this node has run by itself, or in another cluster: %s holds what it kept. Nothing was changed.", f.Node.Data)
		}
		// It was let in and has not started: the others may have changed since.
	}
	if t.Cluster != f.Cluster {
		return false, plan.Refuse("set cluster in perdure.yaml, or use another token", "the join token is for cluster %s, and perdure.yaml says %s. Nothing was changed.", t.Cluster, f.Cluster)
	}
	me, err := self(f)
	if err != nil {
		return false, err
	}
	got, err := knock(ctx, t, api.Join{Secret: t.Secret, Cluster: f.Cluster, Name: me.Name, Address: me.Address, Streams: me.Streams, API: me.API})
	if err != nil {
		return false, err
	}
	return false, settleIn(f, path, me, got)
}

// knock asks the nodes of a token, one after the other.
func knock(ctx context.Context, t peers.Token, in api.Join) (api.Joined, error) {
	var failed []error
	for _, address := range t.APIs {
		pool, err := pinned(ctx, address, t.CA)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		c := client.New("https://"+address, "", pool)
		got, err := c.JoinNode(ctx, in)
		c.Close()
		if _, unreachable := errors.AsType[*client.UnreachableError](err); !unreachable {
			return got, err
		}
		failed = append(failed, err)
	}
	return api.Joined{}, &plan.HintedError{Err: errors.Join(failed...), Hint: "check that this host reaches one of those addresses"}
}

// pinned asks a server for its authority, and trusts it only if it has that
// fingerprint.
func pinned(ctx context.Context, address, fingerprint string) (*x509.CertPool, error) {
	d := tls.Dialer{
		NetDialer: &net.Dialer{Timeout: 5 * time.Second},
		Config:    &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, //nolint:gosec // nothing is said before the fingerprint was compared
	}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	for _, c := range conn.(*tls.Conn).ConnectionState().PeerCertificates {
		if c.IsCA && pki.Fingerprint(c.Raw) == fingerprint {
			pool := x509.NewCertPool()
			pool.AddCert(c)
			return pool, nil
		}
	}
	return nil, plan.Refuse("make sure that the address leads to a node of that cluster, and nobody stands between", "who answers at %s is not the cluster that the join token is for: it has another authority. Nothing was sent.", address)
}

// settleIn writes what a node needs to begin. The list of nodes comes last: with
// it the node has joined.
func settleIn(f *config.File, path string, me peers.Node, got api.Joined) error {
	if err := os.MkdirAll(f.Node.Data, 0o700); err != nil {
		return err
	}
	if err := pki.Install(filepath.Join(f.Node.Data, filepath.Dir(CAFile)), []byte(got.CA), []byte(got.CAKey)); err != nil {
		return err
	}
	if err := durable.Replace(filepath.Join(f.Node.Data, secretFile), []byte(got.Secret)); err != nil {
		return err
	}
	if got.Keys != "" && (f.Queue == nil || f.Queue.Keys == "") {
		if err := durable.Replace(filepath.Join(f.Node.Data, keysFile), []byte(got.Keys)); err != nil {
			return err
		}
	}
	return knownBy(got, me).save(path)
}

func knownBy(got api.Joined, me peers.Node) local {
	l := local{Cluster: got.Cluster, Name: me.Name}
	for _, n := range got.Nodes {
		o := peers.Node{Name: n.Name, Address: n.Address, Streams: n.Streams, API: n.API}
		if n.Name == me.Name {
			o.Slot = got.Slot
		}
		l.Nodes = append(l.Nodes, o)
	}
	return l
}
