package queue

import (
	"context"
	"time"
)

// trimming removes what every database has, and no one may ask about any more,
// from the log every ten seconds.
func (a *Applier) trimming(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if _, err := a.trimNow(ctx); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "the log was not trimmed", "err", err)
		}
	}
}

// trimNow trims and says from which frame on the log is kept.
func (a *Applier) trimNow(ctx context.Context) (uint64, error) {
	keep := frameOf(a.lowest())
	a.mu.Lock()
	old := uint64(0)
	for i, m := range a.marks {
		if a.now().Sub(m.at) < a.cfg.Keep {
			a.marks = a.marks[max(i-1, 0):]
			break
		}
		old = m.frame
	}
	a.mu.Unlock()
	keep = min(keep, old)
	if a.cfg.Safe != nil {
		safe, err := a.cfg.Safe(ctx)
		if err != nil {
			return 0, err
		}
		keep = min(keep, safe)
	}
	if keep <= 1 {
		return keep, nil
	}
	return keep, a.src.Trim(ctx, keep)
}

// lowest is the sequence up to which everything is applied or set aside.
func (a *Applier) lowest() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.position) == 0 {
		return 0
	}
	low := ^uint64(0)
	for _, p := range a.position {
		low = min(low, p.Load())
	}
	return low
}
