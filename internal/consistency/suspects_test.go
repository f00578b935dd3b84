package consistency

import (
	"slices"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/gtid"
)

// What rows wait for is not kept, so an audit that is interrupted goes on where the
// oldest of them was found, and counts no row twice.
func TestAnInterruptedAuditGoesOnAtItsOldestSuspect(t *testing.T) {
	t.Parallel()
	s := &scan{run: &run{}, to: key{"900"}, counted: 900}
	s.report.Rows = 5900 // 5000 of other tables
	s.settle()
	if !slices.Equal(s.at.Key, key{"900"}) || s.at.Ahead != 0 {
		t.Errorf("nothing waits: %+v", s.at)
	}
	old := &sighting{from: key{"300"}, rows: 300}
	s.waiting = []*suspect{{key: key{"310"}, sighting: old}, {key: key{"700"}, sighting: &sighting{from: key{"600"}, rows: 600}}}
	s.settle()
	if !slices.Equal(s.at.Key, key{"300"}) || s.at.Ahead != 600 {
		t.Errorf("two wait: %+v", s.at)
	}
	s.back()
	if s.report.Rows != 5300 || s.at.Ahead != 0 {
		t.Errorf("%d rows count when it goes on, and %d are ahead", s.report.Rows, s.at.Ahead)
	}
	s.waiting = nil
	s.settle()
	if !slices.Equal(s.at.Key, key{"900"}) {
		t.Errorf("nothing waits any more: %+v", s.at)
	}
}

// A row is on its way until every member has executed what any had begun when it
// was found.
func TestARowMayBeOnItsWayUntilAllHaveExecutedWhatHadBegun(t *testing.T) {
	t.Parallel()
	const source = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:"
	s := &scan{run: &run{errant: errant{"m1": gtid.MustParse(source + "90")}}}
	first := &sighting{at: time.Now(), goal: gtid.MustParse(source + "1-10")}
	second := &sighting{at: time.Now(), goal: gtid.MustParse(source + "1-12:90")}
	s.waiting = []*suspect{{sighting: first}, {sighting: first}, {sighting: second}}
	for _, c := range []struct {
		name          string
		executed      []string
		first, second bool
	}{
		{"one is behind both", []string{"1-9", "1-12:90"}, false, false},
		{"one is behind the second", []string{"1-12:90", "1-11"}, true, false},
		{"all are past both, but for what will not come", []string{"1-12:90", "1-12"}, true, true},
		{"what was reached stays so", []string{"1-5", "1-5"}, true, true},
	} {
		var sets []gtid.Set
		for _, e := range c.executed {
			sets = append(sets, gtid.MustParse(source+e))
		}
		s.pass(sets)
		if first.reached != c.first || second.reached != c.second {
			t.Errorf("%s: %v and %v", c.name, first.reached, second.reached)
		}
	}
}
