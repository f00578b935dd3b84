// Package pause is waiting that can be called off.
package pause

import (
	"context"
	"time"
)

// For waits for d. It returns the cause if ctx ends before that.
func For(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
