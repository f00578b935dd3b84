package group

import (
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/topology"
)

func TestTheFirstSentenceSaysWhatCanBeLostAndWhatToDo(t *testing.T) {
	t.Parallel()
	three := made("m1", "m2", "m3")
	with := func(v *topology.View, edit func(*topology.View)) *topology.View { edit(v); return v }
	stopped := made("m1")
	stopped.Stopped = true
	out := made("m1", "m2", "m3").with("m3", func(k *Known) { k.Stopped = true })
	for _, c := range []struct {
		name    string
		cluster Cluster
		view    *topology.View
		level   string
		say     []string
	}{
		{"nothing yet", Cluster{}, view(), Down, []string{"no cluster yet", "perdure apply"}},
		{"all is well", three, view(online("m1", "m2", "m3")...), OK, []string{"can lose one member", "nothing to do"}},
		{"five", made("m1", "m2", "m3", "m4", "m5"), view(online("m1", "m2", "m3", "m4", "m5")...), OK, []string{"can lose 2 members"}},
		{"two members", made("m1", "m2"), view(online("m1", "m2")...), OK, []string{"cannot lose another member"}},
		{"stopped by a human", stopped, view(offline("m1")...), Down, []string{"is stopped", "perdure group start"}},
		{"outage", three, view(offline("m1", "m2", "m3")...), Down, []string{"No member of cluster shop is in a group", "perdure group start"}},
		{
			"majority lost", three,
			with(view(append(online("m1"), seen("m2", topology.Unreachable, "", ""), seen("m3", topology.Unreachable, "", ""))...),
				func(v *topology.View) { v.Quorum = topology.LostQuorum }),
			Down,
			[]string{"lost its majority", "m2 is UNREACHABLE"},
		},
		{
			"this node sees too little", three,
			with(view(append(online("m1"), seen("m2", topology.Suspect, "", ""), seen("m3", topology.Suspect, "", ""))...),
				func(v *topology.View) { v.Quorum = topology.Unsure }),
			Down,
			[]string{"Too few members answer"},
		},
		{
			"two groups", three,
			with(view(online("m1", "m2", "m3")...), func(v *topology.View) {
				v.Problems = []topology.Problem{{Kind: topology.TwoGroups, Members: []string{"m3"}, Text: "two groups with the name x"}}
			}),
			Down,
			[]string{"Two groups with one name", "STOP GROUP_REPLICATION"},
		},
		{"a member is out", three, view(append(online("m1", "m2"), seen("m3", topology.Offline, "", ""))...), Degraded, []string{"m3 is OFFLINE", "perdure member rejoin m3"}},
		{"a member is down", three, view(append(online("m1", "m2"), seen("m3", topology.Down, "", ""))...), Degraded, []string{"m3 is DOWN", "Start or wake mysqld on m3"}},
		{"a member hangs", three, view(append(online("m1", "m2"), seen("m3", topology.Suspect, "", ""))...), Degraded, []string{"cannot lose another", "m3 is SUSPECT"}},
		{"a member was stopped", out, view(append(online("m1", "m2"), seen("m3", topology.Offline, "", ""))...), Degraded, []string{"m3 is stopped", "perdure member start m3"}},
		{
			"nobody writes", three,
			with(view(online("m1", "m2", "m3")...), func(v *topology.View) {
				for i := range v.Members {
					v.Members[i].Writable = false
				}
			}),
			Down,
			[]string{"no member accepts writes"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			level, sentence := Summary(c.cluster, c.view, "")
			if level != c.level {
				t.Errorf("level %s, want %s", level, c.level)
			}
			for _, s := range c.say {
				if !strings.Contains(sentence, s) {
					t.Errorf("it does not say %q: %s", s, sentence)
				}
			}
		})
	}
	if _, s := Summary(three, view(online("m1", "m2", "m3")...), "add m4"); !strings.Contains(s, "Running now: add m4.") {
		t.Error("it does not say what runs:", s)
	}
}
