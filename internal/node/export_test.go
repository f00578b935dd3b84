package node

import "github.com/perdure/perdure/internal/event"

// Publish tells an event as the parts of a node do.
func (n *Node) Publish(e event.Event) { n.publisher().Publish(e) }
