package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/auditlog"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/control"
	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/peers"
	"github.com/perdure/perdure/internal/pki"
	"github.com/perdure/perdure/internal/plan"
)

// Left is what a node has, and what it can say about the others, when it is to
// go on without them.
type Left struct {
	Cluster string      `json:"cluster"`
	Node    string      `json:"node"`
	Others  []Missing   `json:"others"`
	Control control.Log `json:"control"`
	Streams []jet.Held  `json:"streams"`
}

// Missing is another node as it looks from here.
type Missing struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Answers bool   `json:"answers"`
}

// Names are the names of the others.
func (l Left) Names() (out []string) {
	for _, o := range l.Others {
		out = append(out, o.Name)
	}
	return out
}

// Alone lets the node of a file go on without all others, which are lost for
// good. The node must not run; afterwards it may. lost must name all others: it
// is the consent to lose what only they had. Without it, and whenever something
// speaks against it, nothing is changed, the error says why, and Left is what
// was found. It may be called again after an interruption.
func Alone(ctx context.Context, f *config.File, lost []string, by string, log *slog.Logger) (Left, error) {
	if len(f.Control.Peers)+len(f.Control.Endpoints) > 0 {
		return Left{}, plan.Refuse("see the documentation of that store",
			"where the control store is, is said in perdure.yaml (control): its nodes did not come by command and do not go by command. Nothing was changed.")
	}
	known, err := readLocal(filepath.Join(f.Node.Data, peersFile))
	if err != nil {
		return Left{}, err
	}
	if f.Node.Peer == "" || len(known.Nodes) < 2 {
		return Left{}, plan.Refuse("start it: perdure serve", "the node %s knows of no other node, so it has lost none. Nothing was changed.", f.Node.Name)
	}
	ca, err := pki.Open(filepath.Join(f.Node.Data, filepath.Dir(CAFile)))
	if err != nil {
		return Left{}, err
	}
	n := &Node{file: f, log: log, authority: ca}
	if err := n.openNodes(ca); err != nil {
		return Left{}, err
	}
	k := n.nodes
	store := control.Config{
		Name: k.me.Name, Cluster: f.Cluster, Dir: filepath.Join(f.Node.Data, "control"), TLS: k.files,
		Peers: []control.Peer{{Name: k.me.Name, Address: k.me.Address}},
	}
	left, err := k.left(ctx, store)
	if err != nil {
		return left, err
	}
	if err := left.mayGoOn(lost); err != nil {
		return left, err
	}
	if err := k.goOnAlone(ctx, store, left, by); err != nil {
		return left, &plan.HintedError{Err: err, Hint: "run the same command again: it goes on where it was"}
	}
	return left, nil
}

// left looks at this node's files and for the others.
func (k *nodes) left(ctx context.Context, store control.Config) (Left, error) {
	l := Left{Cluster: k.known.Cluster, Node: k.me.Name}
	var err error
	if l.Control, err = control.ReadLog(store, k.n.log); err != nil {
		return l, &plan.HintedError{Err: err, Hint: "the node must not run while it is told to go on alone: stop it first"}
	}
	for _, o := range k.known.Nodes {
		if o.Name == k.me.Name {
			continue
		}
		answers := k.answers(ctx, o.Address)
		if !answers && o.API != "" {
			_, err := pinned(ctx, o.API, pki.Fingerprint(k.n.authority.Certificate()))
			answers = err == nil
		}
		l.Others = append(l.Others, Missing{Name: o.Name, Address: o.Address, Answers: answers})
	}
	if k.external() {
		return l, nil
	}
	streams, err := k.aloneStreams()
	if err == nil {
		l.Streams, err = jet.Holds(ctx, streams, quietly(k.n.log))
	}
	return l, err
}

// mayGoOn says what speaks against going on alone.
func (l Left) mayGoOn(lost []string) error {
	var answer []string
	for _, o := range l.Others {
		if o.Answers {
			answer = append(answer, o.Name)
		}
	}
	names := l.Names()
	slices.Sort(names)
	lost = slices.Compact(slices.Sorted(slices.Values(lost)))
	switch {
	case len(answer) > 0:
		return plan.Refuse("start this node again and bring the others back, or replace one that is gone (`perdure node replace`)",
			"%s can be reached: what runs is not lost, and two clusters would act on one group. Nothing was changed.", strings.Join(answer, " and "))
	case len(lost) == 0:
		return plan.Refuse("if the disks of all others are gone for good: perdure node alone --accept-loss-of "+strings.Join(names, ","),
			"going on alone loses what only the others had. Nothing was changed.")
	case !slices.Equal(lost, names):
		return plan.Refuse("name all others: --accept-loss-of "+strings.Join(names, ","),
			"the other nodes are %s, not %s. Nothing was changed.", strings.Join(names, " and "), strings.Join(lost, " and "))
	}
	return nil
}

// aloneLimit is long enough for a log of many gigabytes to be read.
const aloneLimit = 5 * time.Minute

// goOnAlone takes all others out: of the streams, the control store, the list. What
// this node knows of itself comes last: with it, it is the first of a cluster.
func (k *nodes) goOnAlone(ctx context.Context, store control.Config, l Left, by string) error {
	ctx, cancel := context.WithTimeout(ctx, aloneLimit)
	defer cancel()
	// The streams first: they may refuse, because this node has no copy of one.
	if !k.external() {
		streams, err := k.aloneStreams()
		if err != nil {
			return err
		}
		if err := jet.Alone(ctx, streams, l.Names(), quietly(k.n.log)); err != nil {
			return err
		}
	}
	c, err := control.Alone(ctx, store, quietly(k.n.log))
	if err != nil {
		return err
	}
	err = peers.New(c).Only(ctx, l.Node)
	if err == nil {
		err = auditlog.New(c).Add(ctx, auditlog.Entry{
			At: time.Now(), Who: by, From: l.Node, Did: "node alone", On: strings.Join(l.Names(), " "),
			Result: fmt.Sprintf("given up for good, with what only they had; the log had %d changes, %d of them known to be accepted", l.Control.Newest, l.Control.Accepted),
		})
	}
	c.Close()
	if err != nil {
		return err
	}
	k.known.First, k.known.Nodes = true, slices.DeleteFunc(k.known.Nodes, func(o peers.Node) bool { return o.Name != l.Node })
	return k.save()
}

// external tells whether the streams are somebody else's: then they are not lost.
func (k *nodes) external() bool { return len(k.n.file.Streams.URLs) > 0 }

// aloneStreams is how the streams of this node are opened while nobody else may
// come: with certificates that live as long as this process.
func (k *nodes) aloneStreams() (jet.Config, error) {
	secret, err := k.secret()
	if err != nil {
		return jet.Config{}, err
	}
	dir, err := os.MkdirTemp(k.n.file.Node.Data, "alone-") // an image has no other place to write to
	if err != nil {
		return jet.Config{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ca, err := pki.Open(dir)
	if err != nil {
		return jet.Config{}, err
	}
	cert, key, err := ca.Issue("peer", "127.0.0.1")
	if err != nil {
		return jet.Config{}, err
	}
	mutual, err := mutualTLS(control.TLS{CA: ca.CA(), Cert: cert, Key: key})
	if err != nil {
		return jet.Config{}, err
	}
	return jet.Config{
		Name: k.me.Name, Dir: filepath.Join(k.n.file.Node.Data, "streams"),
		Cluster: &jet.Cluster{Name: k.known.Cluster, Secret: secret, TLS: mutual},
	}, nil
}

// quietly leaves out what the stores warn of while they lose their others.
func quietly(log *slog.Logger) *slog.Logger {
	return slog.New(errorsOnly{log.Handler()})
}

type errorsOnly struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h errorsOnly) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError && h.Handler.Enabled(ctx, l)
}

// WithAttrs implements slog.Handler.
func (h errorsOnly) WithAttrs(a []slog.Attr) slog.Handler { return errorsOnly{h.Handler.WithAttrs(a)} }

// WithGroup implements slog.Handler.
func (h errorsOnly) WithGroup(name string) slog.Handler { return errorsOnly{h.Handler.WithGroup(name)} }
