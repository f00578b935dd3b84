package group

import (
	"testing"

	"github.com/perdure/perdure/internal/topology"
)

func TestTheGuardLetsOneMemberBootstrap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		members []topology.Member
		ok      Accept
		want    string
	}{
		{"new servers: the first in the list", offline("m1", "m2", "m3"), Accept{}, "m1"},
		{"one server alone", offline("m1"), Accept{}, "m1"},
		{
			"the one that executed most",
			[]topology.Member{
				seen("m1", topology.Offline, ours+":1-10", ""),
				seen("m2", topology.Offline, ours+":1-12", ""),
				seen("m3", topology.Offline, ours+":1-11", ""),
			},
			Accept{},
			"m2",
		},
		{
			"the one that received most, though it executed less than others",
			[]topology.Member{
				seen("m1", topology.Offline, ours+":1-10", ""),
				seen("m2", topology.Offline, ours+":1-11", ""),
				seen("m3", topology.Offline, ours+":1-4", ours+":3-15"),
			},
			Accept{},
			"m3",
		},
		{
			"among equals the one with least left to apply",
			[]topology.Member{
				seen("m1", topology.Offline, ours+":1-5", ours+":5-15"),
				seen("m2", topology.Offline, ours+":1-15", ""),
			},
			Accept{},
			"m2",
		},
		{
			"a member in ERROR is in no group and may be the richest",
			[]topology.Member{
				seen("m1", topology.Offline, ours+":1-10", ""),
				seen("m2", topology.Error, ours+":1-20", ""),
			},
			Accept{},
			"m2",
		},
		{
			"a member named as lost is not waited for",
			[]topology.Member{
				seen("m1", topology.Down, "", ""), seen("m2", topology.Offline, ours+":1-3", ""),
				seen("m3", topology.Offline, ours+":1-4", ""),
			},
			Accept{Missing: []string{"m1"}},
			"m3",
		},
		{
			"a member named as lost that answers all the same is asked like the others",
			[]topology.Member{
				seen("m1", topology.Offline, ours+":1-9", ""), seen("m2", topology.Offline, ours+":1-3", ""),
			},
			Accept{Missing: []string{"m1"}},
			"m1",
		},
		{
			"a member whose own transactions were given up does not begin",
			[]topology.Member{
				seen("m1", topology.Offline, ours+":1-10,"+theirs+":1-2", ""),
				seen("m2", topology.Offline, ours+":1-10", ""),
			},
			Accept{CloneOver: []string{"m1"}},
			"m2",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := view(c.members...)
			v.Quorum = topology.NoGroup
			got, err := guard(namesOf(c.members), v, c.ok)
			if err != nil || got != c.want {
				t.Errorf("guard gives %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestTheGuardRefuses(t *testing.T) {
	t.Parallel()
	down, unknown := seen("m2", topology.Down, "", ""), seen("m2", topology.Unknown, "", "")
	for _, c := range []struct {
		name    string
		known   []string
		members []topology.Member
		ok      Accept
		say     []string
	}{
		{"a member that is down", nil, append(offline("m1"), down), Accept{}, []string{"m2", "nothing listens", "may hold transactions"}},
		{"a member that was never heard", nil, append(offline("m1"), unknown), Accept{}, []string{"m2"}},
		{"a member the View does not have", []string{"m1", "m2"}, offline("m1"), Accept{}, []string{"m2"}},
		{"a member that is ONLINE", nil, append(offline("m1"), online("m2")...), Accept{}, []string{"m2 is ONLINE", "second group"}},
		{
			"a member that is ONLINE, whoever was given up", nil, append(offline("m1"), online("m2")...),
			Accept{Missing: []string{"m2"}, CloneOver: []string{"m2"}},
			[]string{"m2 is ONLINE", "second group"},
		},
		{"a member that recovers", nil, append(offline("m1"), seen("m2", topology.Recovering, ours+":1", "")), Accept{}, []string{"m2 is RECOVERING"}},
		{"a member that hangs while its group counts on it", nil, append(offline("m1"), seen("m2", topology.Suspect, "", "")), Accept{}, []string{"m2 is SUSPECT"}},
		{"a member its group cannot reach", nil, append(offline("m1"), seen("m2", topology.Unreachable, "", "")), Accept{}, []string{"m2 is UNREACHABLE"}},
		{"a member that believes to be in a group", nil, append(offline("m1"), seen("m2", topology.Isolated, "", "")), Accept{}, []string{"m2 is ISOLATED"}},
		{"nobody answers, all given up", nil, []topology.Member{down}, Accept{Missing: []string{"m2"}}, []string{"no member answers"}},
		{
			"nobody holds everything: each surplus by name", nil,
			[]topology.Member{
				seen("m1", topology.Offline, ours+":1-10,"+theirs+":7", ""),
				seen("m2", topology.Offline, ours+":1-12", ""),
				seen("m3", topology.Offline, ours+":1-12", ""),
			},
			Accept{},
			[]string{"no member holds everything", "m1 alone has " + theirs + ":7"},
		},
		{
			"two surpluses, received and executed, one transaction by one", nil,
			[]topology.Member{
				seen("m1", topology.Offline, ours+":1-10,"+theirs+":7:9", ""),
				seen("m2", topology.Offline, ours+":1-10", ours+":10-12"),
			},
			Accept{},
			[]string{theirs + ":7, " + theirs + ":9", "m2 alone has " + ours + ":11, " + ours + ":12"},
		},
		{
			"everybody given up", nil,
			[]topology.Member{seen("m1", topology.Offline, ours+":1", ""), seen("m2", topology.Offline, ours+":2", "")},
			Accept{CloneOver: []string{"m1", "m2"}},
			[]string{"no member"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			known := c.known
			if known == nil {
				known = namesOf(c.members)
			}
			got, err := guard(known, view(c.members...), c.ok)
			if got != "" {
				t.Errorf("%s may bootstrap", got)
			}
			refused(t, err, c.say...)
		})
	}
}

// The loss of many transactions is said in one line, not in a million.
func TestManyTransactionsAreNamedAsRanges(t *testing.T) {
	t.Parallel()
	ms := []topology.Member{
		seen("m1", topology.Offline, ours+":1-1000000", ""),
		seen("m2", topology.Offline, theirs+":1-3", ""),
	}
	_, err := guard(namesOf(ms), view(ms...), Accept{})
	refused(t, err, "m1 alone has 1000000 transactions ("+ours+":1-1000000)", theirs+":1, "+theirs+":2, "+theirs+":3")
	if len(err.Error()) > 1000 {
		t.Errorf("the refusal is %d bytes long", len(err.Error()))
	}
}

func TestAGroupThatGoesOnWithoutSomethingIsAnotherGroup(t *testing.T) {
	t.Parallel()
	rich, poor := seen("m1", topology.Offline, ours+":1-10", ""), seen("m2", topology.Offline, ours+":1-9", "")
	errant := seen("m2", topology.Offline, ours+":1-9", ours+":9-11")
	for _, c := range []struct {
		name  string
		other topology.Member
		ok    Accept
		want  bool
	}{
		{"nothing is given up", poor, Accept{}, false},
		{"a member is lost", seen("m2", topology.Down, "", ""), Accept{Missing: []string{"m2"}}, true},
		{"a member named as lost was asked after all", poor, Accept{Missing: []string{"m2"}}, false},
		{"what is given up, others have", poor, Accept{CloneOver: []string{"m2"}}, false},
		{"what is given up, nobody else has", errant, Accept{CloneOver: []string{"m2"}}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := c.ok.loses(view(rich, c.other), "m1"); got != c.want {
				t.Errorf("loses says %v", got)
			}
		})
	}
	c := made("m1", "m2")
	if d := c.fork(); d.Group == c.Group || len(d.Former) != 1 || d.Former[0] != c.Group || len(c.Former) != 0 {
		t.Errorf("%s forks to %s, former %v", c.Group, d.Group, d.Former)
	}
}
