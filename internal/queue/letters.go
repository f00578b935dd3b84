package queue

import (
	"context"
	"time"
)

// maxLetters is how far dead letters are counted: enough to see whether there
// are few or many, and never a scan of a large table.
const maxLetters = 10_000

// countLetters keeps the number of dead letters, on the node that applies.
func (s *Service) countLetters(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		n := int64(-1)
		if s.Applier.working() {
			if got, err := s.lookLetters(ctx); err == nil {
				n = got
			}
		}
		s.letters.Store(n)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (s *Service) lookLetters(ctx context.Context) (n int64, err error) {
	t, err := s.route.Writer(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err = t.DB.QueryRowContext(ctx, "SELECT COUNT(*) FROM (SELECT 1 FROM perdure.queue_dead LIMIT ?) AS some", maxLetters).Scan(&n)
	return n, err
}
