package node

import (
	"context"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/group"
	"github.com/perdure/perdure/internal/state"
)

// Publish tells an event as the parts of a node do.
func (n *Node) Publish(e event.Event) { n.publisher().Publish(e) }

// GivenUp edits what is known of the members without which the group was forced to
// go on.
func (n *Node) GivenUp(ctx context.Context, edit func(*group.Known)) error {
	_, err := state.NewDoc[group.Cluster](n.group.Store, "cluster").Change(ctx, state.Fence{}, func(c *group.Cluster) error {
		for i := range c.Members {
			edit(&c.Members[i])
		}
		return nil
	})
	return err
}
