package queue

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// gate lets transactions begin, or holds them back for one or more reasons.
type gate struct {
	mu      sync.Mutex
	reasons map[string]bool
	inside  int
	changed chan struct{}
}

func newGate() *gate { return &gate{reasons: map[string]bool{}, changed: make(chan struct{})} }

func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		if len(g.reasons) == 0 {
			g.inside++
			g.mu.Unlock()
			return nil
		}
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	g.inside--
	g.announce()
	g.mu.Unlock()
}

func (g *gate) announce() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// hold closes the gate for a reason and returns when nobody is inside.
func (g *gate) hold(ctx context.Context, reason string) error {
	g.mu.Lock()
	g.reasons[reason] = true
	g.announce()
	for g.inside > 0 {
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
		g.mu.Lock()
	}
	g.mu.Unlock()
	return nil
}

// close is hold without waiting, for those who are inside themselves.
func (g *gate) close(reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reasons[reason] = true
	g.announce()
}

func (g *gate) release(reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.reasons, reason)
	g.announce()
}

func (g *gate) why() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.reasons))
}
