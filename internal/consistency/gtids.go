package consistency

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/pause"
)

// errant holds, for each member, the transactions that it lacks and will not
// get. Nobody waits for those.
type errant map[string]gtid.Set

func (e errant) all() gtid.Set {
	var all gtid.Set
	for _, set := range e {
		all = all.Union(set)
	}
	return all
}

// gtids compares what the members have executed. Transactions that a member
// neither executed nor received are looked for again until GTIDPatience is
// over: whatever is on its way through the group arrives within seconds.
func (r *run) gtids(ctx context.Context) error {
	began := time.Now()
	lacking := errant{}
	for look := 0; ; look++ {
		now, err := r.lacking(ctx)
		if err != nil {
			return err
		}
		for _, s := range r.sessions {
			if look == 0 {
				lacking[s.Name] = now[s.Name]
			} else {
				lacking[s.Name] = lacking[s.Name].Intersect(now[s.Name])
			}
		}
		if lacking.all().IsEmpty() {
			r.errant = nil
			return nil
		}
		if look >= 3 && time.Since(began) >= r.cfg.GTIDPatience {
			break
		}
		if err := pause.For(ctx, min(time.Second, r.cfg.GTIDPatience/4)); err != nil {
			return err
		}
	}
	r.errant = lacking
	r.reportErrant(lacking)
	return nil
}

// lacking reads which of the transactions that some member executed the others
// have neither executed nor received.
func (r *run) lacking(ctx context.Context) (errant, error) {
	executed := func(ctx context.Context, s *session) (gtid.Set, error) { return s.executed(ctx) }
	first := each(ctx, r.sessions, executed)
	if err := firstError(first); err != nil {
		return nil, err
	}
	goal := union(first)
	// What they received is what our watcher saw last, which may be older than
	// goal; a moment is enough for most of what is on its way.
	each(ctx, r.sessions, func(ctx context.Context, s *session) (bool, error) { return s.reaches(ctx, goal, time.Second) })
	then := each(ctx, r.sessions, executed)
	if err := firstError(then); err != nil {
		return nil, err
	}
	view := r.cfg.Watch.View()
	out := errant{}
	for i, s := range r.sessions {
		out[s.Name] = goal.Subtract(then[i].said)
		if m, ok := view.Member(s.Name); ok && m.Report != nil {
			out[s.Name] = out[s.Name].Subtract(m.Report.Received)
		}
	}
	return out, nil
}

// reportErrant reports each set once, with all who lack it.
func (r *run) reportErrant(lacking errant) {
	told := map[string]bool{}
	for _, s := range r.sessions {
		set := lacking[s.Name]
		if set.IsEmpty() || told[flat(set)] {
			continue
		}
		told[flat(set)] = true
		d := Difference{Kind: GTID, Members: map[string]string{}}
		var without, having []string
		for _, o := range r.sessions {
			if lacks := lacking[o.Name].Intersect(set); lacks.IsEmpty() {
				d.Members[o.Name] = "has them"
				having = append(having, o.Name)
			} else {
				d.Members[o.Name] = "lacks " + flat(lacks)
				without = append(without, o.Name)
			}
		}
		switch n := len(r.sessions); {
		case 2*len(having) < n:
			d.Odd = having
		case 2*len(without) < n:
			d.Odd = without
		}
		d.Text = fmt.Sprintf("%s neither executed nor received %s, which %s executed", strings.Join(without, ", "), flat(set), strings.Join(having, ", "))
		d.SQL = fmt.Sprintf("SELECT GTID_SUBTRACT('%s', @@GLOBAL.gtid_executed)", flat(set))
		r.differs(d)
	}
}

func flat(set gtid.Set) string { return strings.ReplaceAll(set.String(), "\n", "") }
