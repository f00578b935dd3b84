package group

import (
	"fmt"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/topology"
)

// Nobody holds everything: who begins, and what it fetches from whom before.
func TestWhoBeginsWhereNobodyHoldsEverything(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		members []topology.Member
		ok      Accept
		edit    func(*Cluster)
		want    string // seed: from set; …
		refuses string
	}{
		{
			name: "one holds everything: nothing is fetched",
			members: []topology.Member{
				seen("m1", topology.Offline, ours+":1-10", ""), seen("m2", topology.Offline, ours+":1-12", ""), seen("m3", topology.Offline, ours+":1-11", ""),
			},
			want: "m2:",
		},
		{
			name: "two were killed in the same instant: the one that lacks least fetches from the other",
			members: []topology.Member{
				seen("m1", topology.Offline, ours+":1-10:12-13", ""), seen("m2", topology.Offline, ours+":1-11", ""), seen("m3", topology.Offline, ours+":1-10", ""),
			},
			want: "m1: m2 " + ours + ":11",
		},
		{
			name: "three, each with one of its own",
			members: []topology.Member{
				seen("m1", topology.Offline, ours+":1-10:20", ""), seen("m2", topology.Offline, ours+":1-10:30", ""), seen("m3", topology.Offline, ours+":1-10:40", ""),
			},
			want: "m1: m2 " + ours + ":30; m3 " + ours + ":40",
		},
		{
			name: "what was only received comes with the member that received it",
			members: []topology.Member{
				seen("m1", topology.Offline, ours+":1-10:12", ""), seen("m2", topology.Offline, ours+":1-10", ours+":11"),
			},
			want: "m2: m1 " + ours + ":12",
		},
		{
			name: "what each only received can be fetched from nobody",
			members: []topology.Member{
				seen("m1", topology.Offline, ours+":1-10", ours+":12"), seen("m2", topology.Offline, ours+":1-10", ours+":11"),
			},
			refuses: "no member holds everything",
		},
		{
			name: "a transaction that the group did not number is for a human",
			members: []topology.Member{
				seen("m1", topology.Offline, ours+":1-12", ""), seen("m2", topology.Offline, ours+":1-10,"+theirs+":1", ""),
			},
			refuses: "m2 alone has " + theirs + ":1",
		},
		{
			name: "so is one that begins with transactions of its own",
			members: []topology.Member{
				seen("m1", topology.Offline, ours+":1-10:12,"+theirs+":1-5", ""), seen("m2", topology.Offline, ours+":1-11", ""),
			},
			refuses: "m1 alone has",
		},
		{
			name: "what all have of former days is no difference",
			members: []topology.Member{
				seen("m1", topology.Offline, ours+":1-10:12,"+theirs+":1-5", ""), seen("m2", topology.Offline, ours+":1-11,"+theirs+":1-5", ""),
			},
			want: "m1: m2 " + ours + ":11",
		},
		{
			name: "a member that was given up has numbers that were used twice",
			members: []topology.Member{
				seen("m1", topology.Offline, ours+":1-10:12", ""), seen("m2", topology.Offline, ours+":1-11", ""),
			},
			edit:    func(k *Cluster) { *k = k.with("m2", func(m *Known) { m.GivenUp = ours + ":1-10" }) },
			refuses: "no member holds everything",
		},
		{
			name: "a member of another group is not fetched from",
			members: []topology.Member{
				seen("m1", topology.Offline, ours+":1-10:12", ""), seen("m2", topology.Offline, ours+":1-11", ""),
			},
			edit:    func(k *Cluster) { k.Group = theirs },
			refuses: "no member holds everything",
		},
		{
			name: "a living group is never started beside, whatever could be merged",
			members: []topology.Member{
				seen("m1", topology.Offline, ours+":1-10:12", ""), seen("m2", topology.Offline, ours+":1-11", ""), seen("m3", topology.Online, ours+":1-10", ""),
			},
			refuses: "the group is not gone",
		},
		{
			name: "nor while somebody does not answer",
			members: []topology.Member{
				seen("m1", topology.Offline, ours+":1-10:12", ""), seen("m2", topology.Offline, ours+":1-11", ""), seen("m3", topology.Down, "", ""),
			},
			refuses: "not every known member answers",
		},
		{
			name: "what a human gave up is not fetched",
			members: []topology.Member{
				seen("m1", topology.Offline, ours+":1-10:12", ""), seen("m2", topology.Offline, ours+":1-11", ""), seen("m3", topology.Offline, ours+":1-12:14", ""),
			},
			ok: Accept{CloneOver: []string{"m3"}}, want: "m1: m2 " + ours + ":11",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := Cluster{Name: "c", Group: ours, Spec: withDefaults(api.Group{})}
			for i, m := range c.members {
				k = k.add(api.Member{Name: m.Name, Address: m.Name + ":3306"})
				if m.Report != nil {
					c.members[i].Report.GroupName = ours
				}
			}
			if c.edit != nil {
				c.edit(&k)
			}
			v := view(c.members...)
			v.Quorum = topology.NoGroup
			seed, before, err := choose(k, v, c.ok)
			var said []string
			for _, f := range before {
				said = append(said, fmt.Sprintf("%s %s", f.from, f.set))
			}
			got := strings.TrimSpace(seed + ": " + strings.Join(said, "; "))
			switch {
			case c.refuses != "" && (err == nil || !strings.Contains(err.Error(), c.refuses)):
				t.Errorf("got %q, %v; it is to be refused: %s", got, err, c.refuses)
			case c.refuses == "" && (err != nil || got != c.want):
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}
