package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/perdure/perdure/internal/pause"
	"github.com/perdure/perdure/internal/proxy"
	"github.com/perdure/perdure/internal/route"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
)

const (
	// outOfTouch is how long a node may not reach the control store before it
	// sends its writes to the one member that runs changes of schema, because it
	// would not hear of any.
	outOfTouch = 2 * time.Second
	// silence is how long a node that does not answer is waited for: by then it
	// is gone or knows that it is out of touch.
	silence = outOfTouch + 2*time.Second
	// funnelPace is how often a node looks whether its own sessions are quiet.
	funnelPace = 10 * time.Millisecond
	funnelLook = time.Second
)

// funnel is where this node's writes go while another node changes the schema.
type funnel struct {
	mu      sync.Mutex
	want    *route.Funnel
	changed chan struct{} // has room for one
}

func newFunnel() *funnel { return &funnel{changed: make(chan struct{}, 1)} }

// obey takes what the document says.
func (f *funnel) obey(want *route.Funnel) {
	f.mu.Lock()
	f.want = want
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *funnel) wanted() *route.Funnel {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.want
}

func (n *Node) heardDoc(node string) state.Doc[route.Heard] {
	return state.NewDoc[route.Heard](n.shared, "heard/"+node)
}

// others are the nodes whose proxies share the members with ours.
func (n *Node) others() (names []string) {
	for _, p := range n.peerList() {
		if p.Name != n.file.Node.Name {
			names = append(names, p.Name)
		}
	}
	return names
}

// Funnel implements proxy.Others.
func (n *Node) Funnel(ctx context.Context, member, lockedOn string) (release func(), err error) {
	release = func() {}
	if others := n.others(); len(others) > 0 || len(n.file.Control.Endpoints) > 0 {
		f := &route.Funnel{Name: uuid.NewString(), Node: n.file.Node.Name, Member: member, LockedOn: lockedOn}
		if err := n.announce(ctx, f); err != nil {
			return nil, fmt.Errorf("other proxies cannot be told: %w", err)
		}
		release = sync.OnceFunc(func() { n.retract(f) })
		if err := n.heard(ctx, f, others); err != nil {
			release()
			return nil, err
		}
	}
	if err := n.quiet(ctx, member); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// announce puts the funnel into the document, once there is no other.
func (n *Node) announce(ctx context.Context, f *route.Funnel) error {
	busy := errors.New("another change of schema runs")
	for {
		_, err := n.wish.Change(ctx, state.Fence{}, func(w *route.Wish) error {
			if w.Funnel != nil && w.Funnel.Node != f.Node {
				return busy
			}
			w.Funnel = f // one of our own is left from a process before this
			return nil
		})
		if !errors.Is(err, busy) {
			return err
		}
		if err := pause.For(ctx, 50*time.Millisecond); err != nil {
			return busy
		}
	}
}

func (n *Node) retract(f *route.Funnel) {
	for i := range 20 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := n.wish.Change(ctx, state.Fence{}, func(w *route.Wish) error {
			if w.Funnel != nil && w.Funnel.Name == f.Name {
				w.Funnel = nil
			}
			return nil
		})
		cancel()
		if err == nil {
			return
		}
		if i == 19 {
			n.log.Warn("the end of a change of schema could not be told; other nodes find out by its lock", "err", err)
		}
		<-time.After(50 * time.Millisecond) // bounded: twenty tries
	}
}

// heard waits for the other nodes' answers, and for silent ones until they know
// that they are out of touch.
func (n *Node) heard(ctx context.Context, f *route.Funnel, others []string) error {
	begin := time.Now()
	for _, node := range others {
		for {
			h, _, err := n.heardDoc(node).Get(ctx)
			if err == nil && h.Funnel == f.Name || time.Since(begin) > silence {
				break
			}
			if err := pause.For(ctx, funnelPace); err != nil {
				return fmt.Errorf("node %s does not answer: %w", node, err)
			}
		}
	}
	if len(others) == 0 { // an external store: who listens is not known
		return pause.For(ctx, silence)
	}
	return nil
}

// quiet waits until no member but one has a transaction open that wrote, twice in
// a row: what was on its way when the funnel began has arrived by then.
func (n *Node) quiet(ctx context.Context, member string) error {
	for _, m := range n.table.Plan().Members {
		if m.Name == member || !m.Counted() {
			continue
		}
		s, err := n.Open(topology.Instance{Name: m.Name, Address: m.Address})
		if err != nil {
			return err
		}
		var last error // the end of ctx in the middle of a question says less
		for still := 0; still < 2; {
			open, err := s.Writers(ctx)
			if err == nil && open == 0 {
				still++
				continue
			}
			still = 0
			switch {
			case err == nil:
				last = fmt.Errorf("member %s has %d open transactions that wrote", m.Name, open)
			case last == nil || ctx.Err() == nil:
				last = err
			}
			if pause.For(ctx, funnelPace) != nil {
				_ = s.Close()
				return last
			}
		}
		_ = s.Close()
	}
	return nil
}

// followFunnel sends this node's writes where another node's change of schema
// needs them, answers once they all go there, and finds out when that node has
// died. A node that cannot hear of changes of schema behaves as if there were
// one all the time.
func (n *Node) followFunnel(ctx context.Context) error {
	if len(n.others()) == 0 && len(n.file.Control.Endpoints) == 0 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	var now *route.Funnel // obeyed
	release := func() {}
	defer func() { release() }()
	answered, free := false, 0
	touch := time.Now()
	look := time.NewTicker(funnelLook)
	defer look.Stop()
	pace := time.NewTicker(funnelPace)
	defer pace.Stop()
	pace.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-n.funnels.changed:
		case <-pace.C:
		case <-look.C:
			one, cancel := context.WithTimeout(ctx, funnelLook)
			w, _, err := n.wish.Get(one)
			cancel()
			if err == nil {
				touch = time.Now()
				n.funnels.obey(w.Funnel)
			}
			if now != nil && now.Node != "" {
				if n.abandoned(ctx, now) {
					free++
				} else {
					free = 0
				}
				if free == 3 {
					n.log.Warn("a change of schema was left by its node", "node", now.Node)
					n.retract(now)
				}
			}
		}
		want := n.funnels.wanted()
		if want != nil && want.Node == n.file.Node.Name {
			want = nil // our own proxy sees to it
		}
		if time.Since(touch) > outOfTouch && want == nil {
			if on := n.table.Plan().Schema; on != "" {
				want = &route.Funnel{Name: "out of touch: " + on, Member: on}
			}
		}
		if !sameFunnel(now, want) {
			release()
			release, now, answered, free = func() {}, nil, false, 0
			if want != nil {
				if r, err := n.table.Funnel(want.Member); err == nil {
					release, now = r, want
				}
			}
		}
		if now != nil && now.Node != "" && !answered && (n.proxy == nil || !n.proxy.WritesElsewhere(now.Member)) {
			answered = n.answer(ctx, now)
		}
		pace.Stop()
		if want != nil && (now == nil || now.Node != "" && !answered) {
			pace.Reset(funnelPace)
		}
	}
}

func sameFunnel(a, b *route.Funnel) bool {
	return a == b || a != nil && b != nil && a.Name == b.Name
}

func (n *Node) answer(ctx context.Context, f *route.Funnel) bool {
	one, cancel := context.WithTimeout(ctx, funnelLook)
	defer cancel()
	_, err := n.heardDoc(n.file.Node.Name).Change(one, state.Fence{}, func(h *route.Heard) error { h.Funnel = f.Name; return nil })
	return err == nil
}

// abandoned tells whether the schema lock of a funnel is free or its member gone.
func (n *Node) abandoned(ctx context.Context, f *route.Funnel) bool {
	m := n.table.Plan().Member(f.LockedOn)
	if m == nil || !m.Counted() {
		return true
	}
	s, err := n.Open(topology.Instance{Name: m.Name, Address: m.Address})
	if err != nil {
		return false
	}
	defer s.Close()
	one, cancel := context.WithTimeout(ctx, funnelLook)
	defer cancel()
	free, err := s.LockFree(one, proxy.SchemaLock)
	return err == nil && free
}

var _ proxy.Others = (*Node)(nil)
