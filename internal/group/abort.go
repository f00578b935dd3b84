package group

import (
	"context"
	"sync"

	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/state"
)

// Abort asks for a running plan to be taken back. It is refused where that is
// not possible any more. The plan is taken back by the node that carries it
// out; watch it like any other.
func (g *Group) Abort(ctx context.Context, id, by string) (plan.Plan, error) {
	p, err := g.Plan(ctx, id)
	if err != nil {
		return p, err
	}
	if err := p.Abortable(); err != nil {
		return p, err
	}
	_, err = g.current.Change(ctx, state.Fence{}, func(c *current) error {
		if c.Plan != id {
			return plan.Refuse("`perdure op list`", "%s is not the operation that runs now. Nothing was changed.", id)
		}
		c.Abort = by
		return nil
	})
	return p, err
}

// aborted tells who wants the plan taken back, once somebody does.
func (g *Group) aborted(ctx context.Context, id string) (by <-chan string, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	said := make(chan string, 1)
	var done sync.WaitGroup
	done.Go(func() {
		for c := range g.current.Watch(ctx) {
			if c.Plan == id && c.Abort != "" {
				said <- c.Abort
				return
			}
		}
	})
	return said, func() { cancel(); done.Wait() }
}
