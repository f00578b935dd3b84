package advise

import (
	"context"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysql"
)

// again is how often sessions are asked what they remember: they keep ten
// statements.
const again = 250 * time.Millisecond

// Gather watches the members for a while and says what to do. A member that
// cannot be asked is in the answer with the reason.
func Gather(ctx context.Context, servers []*mysql.Server, length time.Duration) api.Advice {
	began := time.Now()
	out := api.Advice{Members: make([]api.AdviceMember, len(servers)), Largest: []api.Transaction{}}
	lost := make([][]Lost, len(servers))
	var all sync.WaitGroup
	for i, s := range servers {
		all.Go(func() { out.Members[i], lost[i] = watch(ctx, s, length) })
	}
	all.Wait()
	out.Seconds = time.Since(began).Seconds()
	var seen []Lost
	for _, l := range lost {
		seen = append(seen, l...)
	}
	out.Tables = Tally(seen)
	for i, s := range servers {
		if out.Members[i].Error != "" {
			continue
		}
		largest, read, err := Largest(ctx, s)
		if err != nil {
			out.Members[i].Error = err.Error()
			continue
		}
		if out.Read = read; largest != nil {
			out.Largest = largest
		}
		break
	}
	out.Findings = Decide(out)
	if out.Findings == nil {
		out.Findings = []api.AdviceFinding{}
	}
	return out
}

// watch looks at one member at the beginning and at the end, and at its
// sessions in between.
func watch(ctx context.Context, s *mysql.Server, length time.Duration) (api.AdviceMember, []Lost) {
	first, err := Look(ctx, s)
	if err != nil {
		return api.AdviceMember{Name: s.Name(), Error: err.Error()}, nil
	}
	var lost []Lost
	tick := time.NewTicker(again)
	defer tick.Stop()
	for end := time.Now().Add(length); ; {
		more, err := LostNow(ctx, s)
		if err != nil {
			first.Error = err.Error()
			return first, lost
		}
		lost = append(lost, more...)
		if len(lost) > 10_000 {
			lost = lost[len(lost)-10_000:]
		}
		if !time.Now().Before(end) {
			break
		}
		select {
		case <-ctx.Done():
			first.Error = context.Cause(ctx).Error()
			return first, lost
		case <-tick.C:
		}
	}
	last, err := Look(ctx, s)
	if err != nil {
		first.Error = err.Error()
		return first, lost
	}
	last.NewConflicts = max(0, last.Conflicts-first.Conflicts)
	return last, lost
}
