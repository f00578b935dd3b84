package group

import (
	"context"
	"iter"
)

// WatchPause yields whether healing is paused, now and whenever that changes,
// until ctx ends.
func (g *Group) WatchPause(ctx context.Context) iter.Seq[Pause] { return g.pause.Watch(ctx) }
