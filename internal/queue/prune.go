package queue

import (
	"context"
	"database/sql"
	"time"
)

const pruneAtOnce = 1000

// pruning forgets old ids once a minute, on the node that applies: the rows are
// deleted by the same member that writes them.
func (s *Service) pruning(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		if !s.Applier.working() {
			continue
		}
		if _, err := s.prune(ctx); err != nil && ctx.Err() == nil {
			s.logger.WarnContext(ctx, "the ledger was not pruned", "err", err)
		}
	}
}

// prune deletes ledger rows of ids so old that no retry of them is taken any
// more, if the log no longer holds their writes either. It goes in small
// batches from the old end, so no transaction is large and no range is locked
// long.
func (s *Service) prune(ctx context.Context) (int64, error) {
	st, err := s.log.State(ctx)
	if err != nil {
		return 0, err
	}
	t, err := s.route.Writer(ctx)
	if err != nil {
		return 0, err
	}
	// An hour more than the window: clocks of nodes differ.
	limit := idBefore(time.Now().Add(-s.window - time.Hour))
	var total int64
	for {
		n, err := pruneSome(ctx, t.DB, limit, st)
		total += n
		if err != nil || n < pruneAtOnce {
			return total, err
		}
		select {
		case <-ctx.Done():
			return total, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func pruneSome(ctx context.Context, db *sql.DB, limit ID, st LogState) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	res, err := db.ExecContext(ctx, `DELETE FROM perdure.queue_ledger WHERE id < ? AND outcome <> ? AND (stream <> ? OR seq < ?)
		ORDER BY id LIMIT ?`, limit[:], ledgerDead, st.Generation, writeSeq(st.First, 0), pruneAtOnce)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (a *Applier) working() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running
}
