package group

import (
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/check"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/topology"
)

func TestApplyDecidesWhatToDo(t *testing.T) {
	t.Parallel()
	single := specOfNames("m1", "m2")
	single.Group.Mode = topology.SinglePrimary
	formerly := offline("m1", "m2")
	for i := range formerly {
		formerly[i].Report.GroupName = group1
	}
	stopped := made("m1", "m2")
	stopped.Stopped = true
	const settle = "configure m1, configure m2, "
	for _, c := range []struct {
		name        string
		a           ask
		kind, steps string
	}{
		{
			"new servers become a cluster",
			ask{spec: specOfNames("m1", "m2"), view: view(offline("m1", "m2")...)},
			"create", "record, " + settle + "bootstrap m1, account m1, provision m2, account m2, join m2, verify",
		},
		{
			"servers of a former group start it again, without a second name",
			ask{spec: specOfNames("m1", "m2"), view: view(formerly...), seeds: map[string]string{"m1": "m1:33061,m2:33061"}},
			"start", "record, " + settle + "bootstrap m1, account m1, provision m2, account m2, join m2, verify",
		},
		{
			"a server that was given up before there was a cluster",
			ask{spec: specOfNames("m1", "m2"), accept: Accept{Missing: []string{"m1"}}, view: view(seen("m1", topology.Down, "", ""), offline("m2")[0])},
			"create", "record, configure m2, bootstrap m2, account m2, verify",
		},
		{
			"a group that runs is adopted",
			ask{spec: specOfNames("m1", "m2"), view: view(online("m1", "m2")...)},
			"adopt", "record, " + settle + "verify",
		},
		{
			"nothing to do",
			ask{spec: specOfNames("m1", "m2"), cluster: made("m1", "m2"), view: view(online("m1", "m2")...)},
			"apply", "",
		},
		{
			"one more member",
			ask{spec: specOfNames("m1", "m2", "m3"), cluster: made("m1", "m2"), view: view(append(online("m1", "m2"), offline("m3")...)...)},
			"apply", "record, " + settle + "configure m3, provision m3, account m3, join m3, verify",
		},
		{
			"one member less",
			ask{spec: specOfNames("m1", "m2"), cluster: made("m1", "m2", "m3"), remove: []string{"m3"}, view: view(online("m1", "m2", "m3")...)},
			"apply", "record, " + settle + "drain m3, leave m3, drop m3, undrain m3, record, " + settle + "verify",
		},
		{
			"a member that is down can be removed",
			ask{
				spec: specOfNames("m1", "m2"), cluster: made("m1", "m2", "m3"), remove: []string{"m3"},
				view: view(append(online("m1", "m2"), seen("m3", topology.Down, "", ""))...),
			},
			"apply", "record, " + settle + "drain m3, leave m3, drop m3, undrain m3, record, " + settle + "verify",
		},
		{
			"another mode",
			ask{spec: single, cluster: made("m1", "m2"), view: view(online("m1", "m2")...)},
			"apply", "record, " + settle + "mode, verify",
		},
		{
			"a stopped cluster takes what a running one cannot",
			ask{
				spec:    api.Spec{Cluster: "shop", Group: api.Group{SSLMode: "VERIFY_CA"}, Members: specOfNames("m1", "m2").Members},
				cluster: stopped, view: view(offline("m1", "m2")...),
			},
			"apply", "record, configure m1, configure m2",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := decideApply(c.a)
			if err != nil {
				t.Fatal(err)
			}
			if p.Kind != c.kind || steps(p) != c.steps {
				t.Errorf("%s: %s\nwant %s: %s", p.Kind, steps(p), c.kind, c.steps)
			}
			if nothing := len(p.Steps) == 0; nothing != p.State.Over() || nothing != (p.ID == "") {
				t.Errorf("%d steps, state %s, id %q", len(p.Steps), p.State, p.ID)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	withProblem := func(kind, text string, ms ...topology.Member) *topology.View {
		v := view(ms...)
		v.Problems = []topology.Problem{{Kind: kind, Text: text}}
		return v
	}
	group := func(g api.Group, names ...string) api.Spec {
		s := specOfNames(names...)
		s.Group = g
		return s
	}
	lost := view(online("m1", "m2", "m3")...)
	lost.Quorum = topology.LostQuorum
	mixed := offline("m1", "m2")
	mixed[0].Report.GroupName, mixed[1].Report.GroupName = group1, group2
	former := offline("m1", "m2")
	former[0].Report.GroupName = group1
	other := specOfNames("m1", "m2")
	other.Cluster = "bank"
	moved := specOfNames("m1", "m2")
	moved.Members[1].Address = "elsewhere:3306"
	stopped := made("m1", "m2")
	stopped.Stopped = true
	for _, c := range []struct {
		name string
		a    ask
		say  []string
	}{
		{
			"set-up again after m1 was killed and restarted outside its group",
			ask{spec: specOfNames("m1", "m2", "m3"), cluster: made("m1", "m2", "m3"), view: view(append(offline("m1"), online("m2", "m3")...)...)},
			[]string{"the group lives on m2, m3", "m1 is OFFLINE"},
		},
		{
			"the same without a control store",
			ask{spec: specOfNames("m1", "m2", "m3"), view: view(append(offline("m1"), online("m2", "m3")...)...)},
			[]string{group1, "lives on m2, m3", "m1 is OFFLINE", "second group"},
		},
		{
			"without a control store, a server that never joined listed first",
			ask{spec: specOfNames("m9", "m2", "m3"), view: view(append(offline("m9"), online("m2", "m3")...)...)},
			[]string{"lives on m2, m3", "m9 is OFFLINE"},
		},
		{
			"without a control store, the others do not answer",
			ask{spec: specOfNames("m1", "m2"), view: view(append(offline("m1"), seen("m2", topology.Down, "", ""))...)},
			[]string{"m2"},
		},
		{
			"a former group whose servers remember somebody the file does not name",
			ask{spec: specOfNames("m1", "m2"), view: view(former...), seeds: map[string]string{"m1": "m1:33061, m3:33061"}},
			[]string{"m3:33061", "does not name"},
		},
		{"servers of different groups", ask{spec: specOfNames("m1", "m2"), view: view(mixed...)}, []string{group1 + ": m1", group2 + ": m2"}},
		{
			"two groups with one name",
			ask{spec: specOfNames("m1", "m2"), cluster: made("m1", "m2"), view: withProblem(topology.TwoGroups, "two groups with the name x", online("m1", "m2")...)},
			[]string{"two groups with the name x"},
		},
		{
			"a member of another group",
			ask{spec: specOfNames("m1"), view: withProblem(topology.OtherGroup, "m1: in a group named x", online("m1")...)},
			[]string{"in a group named x"},
		},
		{
			"one server twice",
			ask{spec: specOfNames("m1", "m2"), view: withProblem(topology.SameUUID, "m1 and m2 answer with the same server_uuid", offline("m1", "m2")...)},
			[]string{"same server_uuid"},
		},
		{
			"a member of the group that the file does not name",
			ask{spec: specOfNames("m1"), view: withProblem(topology.ForeignPeer, "the group has a member that the configuration does not name", online("m1")...)},
			[]string{"does not name"},
		},
		{
			"a server that does not fit, with the statement that helps",
			ask{
				spec: specOfNames("m1"), view: view(offline("m1")...),
				findings: []check.Finding{{Member: "m1", Severity: check.Refuses, Text: "gtid_mode is OFF", SQL: "SET PERSIST gtid_mode = ON"}, {Severity: check.Warns, Text: "small pool"}},
			},
			[]string{"m1: gtid_mode is OFF"},
		},
		{"a group without majority", ask{spec: specOfNames("m1", "m2", "m3", "m4"), cluster: made("m1", "m2", "m3"), view: lost}, []string{"quorum is lost"}},
		{
			"nobody in a group",
			ask{spec: specOfNames("m1", "m2"), cluster: made("m1", "m2"), view: view(offline("m1", "m2")...)},
			[]string{"no member of cluster shop is in a group", "m1 is OFFLINE"},
		},
		{
			"a member that fell out of the file by mistake",
			ask{spec: specOfNames("m1"), cluster: made("m1", "m2"), view: view(online("m1", "m2")...)},
			[]string{"m2 is a member of the cluster and not in the file"},
		},
		{
			"the last member goes",
			ask{spec: specOfNames(), cluster: made("m1"), remove: []string{"m1"}, view: view(online("m1")...)},
			[]string{"every member"},
		},
		{
			"a new member that does not answer",
			ask{spec: specOfNames("m1", "m2"), cluster: made("m1"), view: view(append(online("m1"), seen("m2", topology.Down, "", ""))...)},
			[]string{"m2 cannot be added", "DOWN"},
		},
		{"another cluster's file", ask{spec: other, cluster: made("m1", "m2"), view: view(online("m1", "m2")...)}, []string{"cluster shop", "bank"}},
		{"a member under another address", ask{spec: moved, cluster: made("m1", "m2"), view: view(online("m1", "m2")...)}, []string{"m2 has another address"}},
		{
			"settings that need a stop",
			ask{spec: group(api.Group{SSLMode: "VERIFY_CA", Sites: 2}, "m1", "m2"), cluster: made("m1", "m2"), view: view(online("m1", "m2")...)},
			[]string{"ssl_mode, sites", "whole group is stopped"},
		},
		{
			"members come and go only while the group runs",
			ask{spec: specOfNames("m1", "m2", "m3"), cluster: stopped, view: view(offline("m1", "m2", "m3")...)},
			[]string{"stopped"},
		},
		{
			"ten members",
			ask{spec: specOfNames("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9", "m10"), view: view()},
			[]string{"at most 9 members, not 10"},
		},
		{"one name twice", ask{spec: specOfNames("m1", "m1"), view: view(offline("m1")...)}, []string{"same name m1"}},
		{
			"one address twice",
			ask{
				spec: api.Spec{Cluster: "shop", Members: []api.Member{{Name: "m1", Address: "h:3306"}, {Name: "m2", Address: "h:3306"}}},
				view: view(offline("m1", "m2")...),
			},
			[]string{"m1 and m2 have the same address h:3306"},
		},
		{
			"one consensus leader in multi-primary mode",
			ask{spec: group(api.Group{PaxosSingleLeader: true}, "m1"), view: view(offline("m1")...)},
			[]string{"single-primary mode only"},
		},
		{
			"nobody lets us in",
			ask{spec: specOfNames("m1", "m2"), view: &topology.View{Quorum: topology.Unsure, Members: []topology.Member{
				{Instance: topology.Instance{Name: "m1"}, State: topology.Unknown, Why: "it does not let us in"},
				{Instance: topology.Instance{Name: "m2"}, State: topology.Unknown, Why: "it does not let us in"},
			}}},
			[]string{"not every known member answers", "m1 (it does not let us in)"},
		},
		{
			"adopt a group on MySQL's own communication stack",
			ask{spec: specOfNames("m1", "m2"), view: view(online("m1", "m2")...), stacks: map[string]string{"m1": "MYSQL", "m2": "MYSQL"}},
			[]string{"MySQL's own protocol", "MYSQL on m1, m2"},
		},
		{
			"adopt a group in another mode",
			ask{spec: group(api.Group{Mode: topology.SinglePrimary}, "m1", "m2"), view: view(online("m1", "m2")...)},
			[]string{"multi-primary mode, the file says single-primary"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := decideApply(c.a)
			if err == nil {
				t.Fatalf("it would do: %s", steps(p))
			}
			refused(t, err, c.say...)
		})
	}
}

func TestARefusalForAServerThatDoesNotFitSaysWhatToRunThere(t *testing.T) {
	t.Parallel()
	_, err := decideApply(ask{
		spec: specOfNames("m1"), view: view(offline("m1")...),
		findings: []check.Finding{{Member: "m1", Severity: check.Refuses, Text: "gtid_mode is OFF", SQL: "SET PERSIST gtid_mode = ON"}},
	})
	if hint := plan.Hint(err); !strings.Contains(hint, "on m1: SET PERSIST gtid_mode = ON") {
		t.Errorf("the hint is %q", hint)
	}
}

func TestTheSameApplyIsRecognisedWhileItRuns(t *testing.T) {
	t.Parallel()
	want := specOfNames("m1", "m2", "m3")
	p, err := decideApply(ask{spec: want, cluster: made("m1", "m2"), view: view(append(online("m1", "m2"), offline("m3")...)...)})
	if err != nil {
		t.Fatal(err)
	}
	if !leadsTo(p, want) {
		t.Error("the same file is not recognised")
	}
	if leadsTo(p, specOfNames("m1", "m2")) {
		t.Error("a file with other members is taken for the same")
	}
	changed := specOfNames("m1", "m2", "m3")
	changed.Group.ExpelTimeout = new(7)
	if leadsTo(p, changed) {
		t.Error("a file with other settings is taken for the same")
	}
	p.State = plan.Undoing
	if leadsTo(p, want) {
		t.Error("a plan that is taken back leads nowhere")
	}
}
