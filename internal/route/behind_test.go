package route

import (
	"testing"
	"time"

	"github.com/perdure/perdure/internal/topology"
)

func TestAMemberFarBehindTakesNoClientsUntilItCaughtUp(t *testing.T) {
	t.Parallel()
	table := New()
	set := func(lag map[string]time.Duration, queue int64) string {
		v := view(1, "m1:wr", "m2:wr", "m3:wr")
		for i := range v.Members {
			m := &v.Members[i]
			m.Report = &topology.Report{Lag: lag[m.Name]}
			if m.Name == "m2" {
				m.Report.Queue = queue
			}
		}
		table.SetView(v)
		readers := ""
		for _, m := range table.Plan().Members {
			if m.Serves(Read) {
				readers += m.Name + " "
			}
		}
		return "r " + readers + "w " + writers(table.Plan())
	}
	for _, c := range []struct {
		name  string
		lag   time.Duration // of m3
		queue int64         // of m2
		want  string
	}{
		{"nobody is behind", 0, 0, "r m1 m2 m3 w m1 m2 m3"},
		{"below the limit", 9 * time.Second, 0, "r m1 m2 m3 w m1 m2 m3"},
		{"m3 lags", 11 * time.Second, 0, "r m1 m2 w m1 m2"},
		{"still more than half of it", 6 * time.Second, 0, "r m1 m2 w m1 m2"},
		{"m3 has caught up", 4 * time.Second, 0, "r m1 m2 m3 w m1 m2 m3"},
		{"m2 slows the group down", 0, 30_000, "r m1 m3 w m1 m3"},
		{"m2 is better", 0, 20_000, "r m1 m3 w m1 m3"},
		{"m2 is well", 0, 100, "r m1 m2 m3 w m1 m2 m3"},
	} {
		if got := set(map[string]time.Duration{"m3": c.lag}, c.queue); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	all := map[string]time.Duration{"m1": time.Minute, "m2": time.Minute, "m3": time.Minute}
	if got := set(all, 0); got != "r m1 m2 m3 w m1 m2 m3" {
		t.Errorf("all are behind: %q", got)
	}
}
