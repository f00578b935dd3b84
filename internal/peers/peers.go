package peers

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/state"
)

// Most is how many nodes a cluster may have: five can lose two, and more only
// make every change slower.
const Most = 5

// Node is one node of a cluster.
type Node struct {
	Name    string    `json:"name"`
	Address string    `json:"address"` // host:port for the control stores of the others
	Streams string    `json:"streams"` // host:port for their streams
	API     string    `json:"api"`     // host:port of its API
	Slot    int       `json:"slot"`    // a small number no other node has
	Joined  time.Time `json:"joined"`
	// Leaving says that it goes, or is gone, and is taken out.
	Leaving bool `json:"leaving,omitempty"`
	// Instead is the node that comes in its place, if there is one: it takes over
	// what this one held before this one is forgotten.
	Instead string `json:"instead,omitempty"`
}

// List is the document.
type List struct {
	Cluster string `json:"cluster"`
	Nodes   []Node `json:"nodes"`
	// Former are names that are not given again: stores remember them.
	Former []string `json:"former,omitempty"`
}

// Key is where the document lies.
const Key = "nodes"

// Node returns the entry of that name.
func (l List) Node(name string) (Node, bool) {
	i := slices.IndexFunc(l.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return l.Nodes[i], true
}

// Staying are the nodes that are not leaving.
func (l List) Staying() []Node {
	return slices.DeleteFunc(slices.Clone(l.Nodes), func(n Node) bool { return n.Leaving })
}

// Names are the names of all nodes.
func (l List) Names() []string {
	var out []string
	for _, n := range l.Nodes {
		out = append(out, n.Name)
	}
	return out
}

// slot is the smallest number nobody has.
func (l List) slot() int {
	for s := 0; ; s++ {
		if !slices.ContainsFunc(l.Nodes, func(n Node) bool { return n.Slot == s }) {
			return s
		}
	}
}

// Book keeps the list and the invitations.
type Book struct {
	list    state.Doc[List]
	invited state.Doc[invitations]
}

// New returns the book kept in store.
func New(store state.Store) *Book {
	return &Book{state.NewDoc[List](store, Key), state.NewDoc[invitations](store, "invitations")}
}

// List reads the list.
func (b *Book) List(ctx context.Context) (List, error) {
	l, _, err := b.list.Get(ctx)
	return l, err
}

// Follow calls each with the list, now and whenever it changes, until ctx ends.
func (b *Book) Follow(ctx context.Context, each func(List)) error {
	for l := range b.list.Watch(ctx) {
		each(l)
	}
	return context.Cause(ctx)
}

// ErrRemoved says that a node is not on the list any more.
var ErrRemoved = errors.New("this node is not one of the cluster's nodes any more: it was removed")

// Announce puts what a node knows of itself onto the list. The first node makes
// the list; any other has to be on it.
func (b *Book) Announce(ctx context.Context, cluster string, self Node, first bool) error {
	_, err := b.list.Change(ctx, state.Fence{}, func(l *List) error {
		if len(l.Nodes) == 0 && first {
			self.Joined = time.Now().UTC().Truncate(time.Second)
			l.Cluster, l.Nodes = cluster, []Node{self}
			return nil
		}
		i := slices.IndexFunc(l.Nodes, func(n Node) bool { return n.Name == self.Name })
		if i < 0 {
			return ErrRemoved
		}
		n := &l.Nodes[i]
		if n.Address == self.Address && n.Streams == self.Streams && n.API == self.API {
			return errSame
		}
		n.Address, n.Streams, n.API = self.Address, self.Streams, self.API
		return nil
	})
	if errors.Is(err, errSame) {
		return nil
	}
	return err
}

var errSame = errors.New("nothing changes")

// Leave marks a node as leaving. alive tells which nodes answer; what would cost
// the majority is refused.
func (b *Book) Leave(ctx context.Context, name string, alive func(string) bool) error {
	_, err := b.list.Change(ctx, state.Fence{}, func(l *List) error {
		if err := mayLeave(*l, name, alive); err != nil {
			return err
		}
		for i := range l.Nodes {
			if l.Nodes[i].Name == name {
				l.Nodes[i].Leaving = true
			}
		}
		return nil
	})
	return err
}

func mayLeave(l List, name string, alive func(string) bool) error {
	n, ok := l.Node(name)
	switch {
	case len(l.Nodes) == 0:
		return plan.Refuse("run the command again", "the node has begun a moment ago and is not on the list of nodes yet. Nothing was changed.")
	case !ok:
		return plan.Refuse("`perdure node list` lists them", "there is no node %s; the nodes are %s. Nothing was changed.", name, strings.Join(l.Names(), ", "))
	case n.Leaving:
		return nil // asked for before
	case len(l.Staying()) == 1:
		return plan.Refuse("stop it if the cluster shall not be watched any more", "%s is the only node. Nothing was changed.", name)
	}
	var left, silent []string
	for _, o := range l.Staying() {
		if o.Name == name {
			continue
		}
		left = append(left, o.Name)
		if !alive(o.Name) {
			silent = append(silent, o.Name)
		}
	}
	if answer := len(left) - len(silent); answer < len(left)/2+1 {
		return plan.Refuse("bring "+strings.Join(silent, " and ")+" back first, or take out a node that does not answer",
			"without %s there would be %s, of whom %s does not answer: %d of %d is no majority, and nothing could be changed any more. Nothing was changed.",
			name, strings.Join(left, " and "), strings.Join(silent, " and "), answer, len(left))
	}
	return nil
}

// Forget takes a node that left off the list, under the fence of the lease.
func (b *Book) Forget(ctx context.Context, name string, fence state.Fence) error {
	_, err := b.list.Change(ctx, fence, func(l *List) error {
		n := len(l.Nodes)
		l.Nodes = slices.DeleteFunc(l.Nodes, func(n Node) bool { return n.Name == name })
		if len(l.Nodes) == n {
			return errSame
		}
		l.Former = append(l.Former, name)
		return nil
	})
	if errors.Is(err, errSame) {
		return nil
	}
	return err
}

// Only leaves one node on the list: all others are lost for good.
func (b *Book) Only(ctx context.Context, name string) error {
	_, err := b.list.Change(ctx, state.Fence{}, func(l *List) error {
		self, ok := l.Node(name)
		if !ok {
			return ErrRemoved
		}
		for _, n := range l.Nodes {
			if n.Name != name {
				l.Former = append(l.Former, n.Name)
			}
		}
		self.Leaving, self.Instead = false, ""
		l.Nodes = []Node{self}
		return nil
	})
	return err
}

// Stay takes a mark of leaving back.
func (b *Book) Stay(ctx context.Context, name string) error {
	_, err := b.list.Change(ctx, state.Fence{}, func(l *List) error {
		for i := range l.Nodes {
			if l.Nodes[i].Name == name {
				l.Nodes[i].Leaving, l.Nodes[i].Instead = false, ""
			}
		}
		return nil
	})
	return err
}

// admit puts a node onto the list, or says why not. pending tells whether a node
// that is on the list has not started yet.
func admit(l *List, n Node, instead string, pending func(string) bool) error {
	nothing := " Nothing was changed."
	if old, ok := l.Node(n.Name); ok {
		if old.Address == n.Address && pending(n.Name) && !old.Leaving {
			return errSame // his first answer was lost
		}
		return plan.Refuse("set another node.name in its perdure.yaml", "the name %s is taken by the node at %s.%s", n.Name, old.Address, nothing)
	}
	if slices.Contains(l.Former, n.Name) {
		return plan.Refuse("set another node.name in its perdure.yaml", "the name %s was that of a node that was removed, and the stores of the others may remember it.%s", n.Name, nothing)
	}
	for _, o := range l.Nodes {
		if o.Address == n.Address || o.Streams == n.Streams {
			return plan.Refuse("set another node.peer in its perdure.yaml", "the address %s is taken by the node %s.%s", n.Address, o.Name, nothing)
		}
		if pending(o.Name) && !o.Leaving {
			return plan.Refuse("start "+o.Name+" (`perdure serve`), or take it out again (`perdure node remove "+o.Name+"`)", "%s was let in and has not started yet, and nodes come one at a time.%s", o.Name, nothing)
		}
	}
	if len(l.Staying()) >= Most && instead == "" {
		return plan.Refuse("`perdure node replace` brings a new node in another's place", "there are %d nodes, and more would make every change slower without being safer.%s", Most, nothing)
	}
	n.Slot, n.Joined = l.slot(), time.Now().UTC().Truncate(time.Second)
	l.Nodes = append(l.Nodes, n)
	if instead != "" {
		for i := range l.Nodes {
			if l.Nodes[i].Name == instead {
				l.Nodes[i].Leaving, l.Nodes[i].Instead = true, n.Name
			}
		}
	}
	return nil
}

// Admitted is what became of an application.
type Admitted struct {
	List List
	Self Node
	// Instead is the node whose place it takes, "" if none.
	Instead string
}

// Admit lets a node in who shows the secret of an invitation.
func (b *Book) Admit(ctx context.Context, secret string, n Node, pending func(string) bool, now time.Time) (Admitted, error) {
	inv, fresh, err := b.use(ctx, secret, n.Name, now)
	if err != nil {
		return Admitted{}, err
	}
	l, err := b.list.Change(ctx, state.Fence{}, func(l *List) error { return admit(l, n, inv.Instead, pending) })
	if errors.Is(err, errSame) {
		l, err = b.List(ctx)
	}
	if err != nil {
		if _, refused := errors.AsType[*plan.RefusedError](err); refused && fresh {
			err = errors.Join(err, b.giveBack(ctx, inv.ID))
		}
		return Admitted{}, err
	}
	self, _ := l.Node(n.Name)
	return Admitted{List: l, Self: self, Instead: inv.Instead}, nil
}

func wrongInvitation(format string, args ...any) error {
	return plan.Refuse("ask for another one on a node of the cluster: `perdure node invite`", format+" Nothing was changed.", args...)
}
