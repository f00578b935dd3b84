package group

import (
	"slices"
	"testing"
	"time"
)

// A member catches up while others write. apply and write say what happens in a
// second, given the writers' quota; the result is after how many seconds the
// member is there, and what quotas were set on the way.
func TestWritersAreSlowedDownForAMemberThatDoesNotComeNearer(t *testing.T) {
	t.Parallel()
	limited := func(wish int) func(int) int {
		return func(quota int) int {
			if quota > 0 {
				return min(quota, wish)
			}
			return wish
		}
	}
	for _, c := range []struct {
		name   string
		lacks  int
		write  func(quota int) int
		apply  func(written int) int
		quotas []int
		within int // seconds, 0 for never in five minutes
	}{
		{"it is there before anybody would notice", 8000, limited(1000), func(int) int { return 3500 }, nil, 4},
		{"it needs a while and comes nearer", 20000, limited(1000), func(int) int { return 3500 }, nil, 10},
		{"nobody writes", 100000, limited(0), func(int) int { return 900 }, nil, 112},
		{"hardly anybody writes", 100000, limited(15), func(int) int { return 900 }, nil, 114},
		{
			"members and writers share the processors", 40000, limited(1600), func(written int) int { return 5000 - 2*written },
			[]int{400},
			17,
		},
		{"a quarter is too much still", 20000, limited(1600), func(written int) int { return max(300, 2000-4*written) }, []int{400, 200}, 42},
		{"nothing would help in time: writers keep what they have", 1000000, limited(1600), func(int) int { return 400 }, nil, 0},
		{
			"nothing helps: they get it back after a while", 60000, limited(1600), func(int) int { return 300 },
			[]int{400, 200, 100, 50, 0},
			0,
		},
		{"it is far behind and comes nearer slowly, whatever they do", 300000, limited(200), func(int) int { return 1400 }, nil, 251},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var p catchUp
			at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			lacks, written := c.lacks, 1000000
			var quotas []int
			there := 0
			for s := range 300 {
				if q := p.pace(mark{at, uint64(lacks), uint64(written)}); q != p.quota {
					quotas = append(quotas, q)
					p.now(q, at)
				}
				w := c.write(p.quota)
				at, lacks, written = at.Add(time.Second), lacks+w-c.apply(w), written+w
				if lacks <= 0 {
					there = s + 1
					break
				}
			}
			if !slices.Equal(quotas, c.quotas) || there > c.within || (there == 0) != (c.within == 0) {
				t.Errorf("quotas %v, there after %d s; want %v, within %d s", quotas, there, c.quotas, c.within)
			}
		})
	}
}
