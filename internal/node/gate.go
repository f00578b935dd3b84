package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/route"
	"github.com/perdure/perdure/internal/state"
)

// gate is the hold this node obeys.
type gate struct {
	mu      sync.Mutex
	name    string
	release func()
	timer   *time.Timer
}

// obey holds while there is a name, and for no longer than route.HoldMost.
func (g *gate) obey(table *route.Table, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if name == g.name {
		return
	}
	if g.release != nil {
		g.timer.Stop()
		g.release()
		g.release = nil
	}
	g.name = name
	if name == "" {
		return
	}
	release := sync.OnceFunc(table.Hold())
	g.release, g.timer = release, time.AfterFunc(route.HoldMost, release)
}

const (
	quietLimit = 2 * time.Second        // for transactions that run when a hold begins
	hearing    = 200 * time.Millisecond // for other nodes to hear of it
)

// Hold implements group.Gate. What still runs after quietLimit goes on running:
// a hold shortens the time in which writes meet a change, it does not cut them.
func (n *Node) Hold(ctx context.Context) (release func(), err error) {
	name := uuid.NewString()
	w, err := n.wish.Change(ctx, state.Fence{}, func(w *route.Wish) error { w.Hold = name; return nil })
	if err != nil {
		return nil, err
	}
	n.obey(w)
	release = sync.OnceFunc(func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), quietLimit)
		defer cancel()
		w, err := n.wish.Change(after, state.Fence{}, func(w *route.Wish) error {
			if w.Hold == name {
				w.Hold = ""
			}
			return nil
		})
		if err != nil {
			n.log.Warn("a hold ends by itself", "err", err)
			return
		}
		n.obey(w)
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	heard := len(n.peerList()) < 2 && len(n.file.Control.Endpoints) == 0
	for (!heard && time.Since(begin) < hearing) || (n.running(begin) > 0 && time.Since(begin) < quietLimit) {
		select {
		case <-ctx.Done():
			release()
			return nil, context.Cause(ctx)
		case <-tick.C:
		}
	}
	return release, nil
}

// running counts the sessions of this node's proxy that were in the middle of
// something when the hold began and still are. Who began later waits.
func (n *Node) running(held time.Time) int {
	if n.proxy == nil {
		return 0
	}
	count := 0
	for _, s := range n.proxy.Sessions() {
		if s.State == "transaction" || (s.State == "busy" && s.For > time.Since(held)) {
			count++
		}
	}
	return count
}

// Drain implements group.Gate.
func (n *Node) Drain(ctx context.Context, member string) error {
	w, err := n.wish.Change(ctx, state.Fence{}, func(w *route.Wish) error {
		if !slices.Contains(w.Drains, member) {
			w.Drains = append(w.Drains, member)
		}
		return nil
	})
	if err != nil {
		return err
	}
	n.obey(w)
	if n.proxy == nil {
		return nil
	}
	// Longer than the proxy lets a transaction keep a drained member.
	limit := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n.proxy.Drained(member) > 0 {
		if time.Now().After(limit) {
			return fmt.Errorf("%d sessions do not leave %s: see `perdure proxy sessions`", n.proxy.Drained(member), member)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// Undrain implements group.Gate.
func (n *Node) Undrain(ctx context.Context, member string) error {
	w, err := n.wish.Change(ctx, state.Fence{}, func(w *route.Wish) error {
		w.Drains = slices.DeleteFunc(w.Drains, func(d string) bool { return d == member })
		return nil
	})
	if err == nil {
		n.obey(w)
	}
	return err
}

// handover runs the configured command for a member, or is nil without one.
// There is no shell between: what stands in the file is what is run.
func (n *Node) handover() func(context.Context, api.Member) error {
	words := n.file.Service.Restart
	if len(words) == 0 {
		return nil
	}
	return func(ctx context.Context, m api.Member) error {
		host, _, err := net.SplitHostPort(m.Address)
		if err != nil {
			return err
		}
		fill := strings.NewReplacer("{name}", m.Name, "{host}", host, "{address}", m.Address)
		args := make([]string, len(words))
		for i, w := range words {
			args[i] = fill.Replace(w)
		}
		cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // the operator's own command
		cmd.Env = append(os.Environ(), "PERDURE_MEMBER="+m.Name, "PERDURE_ADDRESS="+m.Address)
		cmd.WaitDelay = 5 * time.Second
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, tail(out))
		}
		return nil
	}
}

// tail is the end of what a command printed.
func tail(out []byte) string {
	const most = 500
	s := strings.TrimSpace(string(out))
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return s
}
