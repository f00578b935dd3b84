package consistency

import (
	"context"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/gtid"
)

// answer is what one member said.
type answer[T any] struct {
	said T
	err  error
}

// each asks all members at once and waits for all. A connection that broke is
// made anew and the question put once more.
func each[T any](ctx context.Context, sessions []*session, ask func(context.Context, *session) (T, error)) []answer[T] {
	out := make([]answer[T], len(sessions))
	var wg sync.WaitGroup
	for i, s := range sessions {
		wg.Go(func() {
			for range 2 {
				if out[i].err = s.ready(ctx); out[i].err == nil {
					out[i].said, out[i].err = ask(ctx, s)
				}
				if !lost(out[i].err) || ctx.Err() != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return out
}

// firstError returns the first error of the answers.
func firstError[T any](answers []answer[T]) error {
	for _, a := range answers {
		if a.err != nil {
			return a.err
		}
	}
	return nil
}

func union(answers []answer[gtid.Set]) gtid.Set {
	var all gtid.Set
	for _, a := range answers {
		all = all.Union(a.said)
	}
	return all
}

// align waits until every member executed what any of them has begun by now.
// It tells whether all did; errant transactions are not waited for.
func (r *run) align(ctx context.Context, limit time.Duration) (bool, error) {
	begun := each(ctx, r.sessions, func(ctx context.Context, s *session) (gtid.Set, error) { return s.begun(ctx) })
	if err := firstError(begun); err != nil {
		return false, err
	}
	goal := union(begun).Subtract(r.errant.all())
	reached := each(ctx, r.sessions, func(ctx context.Context, s *session) (bool, error) { return s.reaches(ctx, goal, limit) })
	for _, a := range reached {
		if a.err != nil || !a.said {
			return false, a.err
		}
	}
	return true, nil
}
