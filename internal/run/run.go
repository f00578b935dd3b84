// Package run runs the parts of a process: each is one blocking function, they
// start in order and stop in reverse, and the first that ends by itself ends
// all.
package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Part is one thing a process does. Run blocks until ctx ends or it cannot go
// on, and has waited for its own goroutines when it returns.
type Part struct {
	Name string
	Run  func(ctx context.Context) error
}

// errStop is the cause with which parts are told to stop.
var errStop = errors.New("told to stop")

// Parts runs all parts until ctx ends or one of them returns. Then it stops
// them one by one, the last one first, each having ended before the next is
// told. The error names the part that ended by itself; it is nil if ctx ended
// and every part stopped cleanly.
func Parts(ctx context.Context, parts ...Part) error {
	type end struct {
		at  int
		err error
	}
	ended := make(chan end, len(parts))
	done := make([]chan struct{}, len(parts))
	stop := make([]context.CancelCauseFunc, len(parts))
	for i, p := range parts {
		// A part outlives ctx until it is its turn to stop.
		pctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
		stop[i], done[i] = cancel, make(chan struct{})
		go func() {
			defer close(done[i])
			ended <- end{i, p.Run(pctx)}
		}()
	}
	var first error
	select {
	case <-ctx.Done():
	case e := <-ended:
		first = fmt.Errorf("%s ended: %w", parts[e.at].Name, orUnasked(e.err))
	}
	for i := range slices.Backward(parts) {
		stop[i](errStop)
		<-done[i]
	}
	close(ended)
	all := []error{first}
	for e := range ended {
		if e.err != nil && !errors.Is(e.err, errStop) && !errors.Is(e.err, context.Canceled) {
			all = append(all, fmt.Errorf("%s: %w", parts[e.at].Name, e.err))
		}
	}
	return errors.Join(all...)
}

func orUnasked(err error) error {
	if err == nil {
		return errors.New("nobody asked it to")
	}
	return err
}
