package group

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/check"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/topology"
)

// The verbs of this package's steps. What each does is in act.go.
const (
	record    = "record"    // write what is known about the cluster
	configure = "configure" // persist settings
	bootstrap = "bootstrap" // make the first member of the group
	account   = "account"   // give a member its recovery account
	provision = "provision" // clone, where replaying cannot do
	join      = "join"
	leave     = "leave"
	drop      = "drop"    // remove a member's recovery account
	quiesce   = "quiesce" // no member accepts writes, all have applied all
	switchTo  = "mode"
	verify    = "verify"
	force     = "force"   // the rest of a group goes on without the majority
	forget    = "forget"  // what was received and cannot be applied
	salvage   = "salvage" // save what only one member has
	merge     = "merge"   // fetch what only another has, outside of any group
	drain     = "drain"   // take a member's clients away
	undrain   = "undrain"
	handover  = "handover" // let the server be restarted or replaced
	protocol  = "protocol" // raise the group's communication protocol
)

// Methods of provisioning.
const (
	Auto        = "auto"        // replay where that is known to be enough, else clone
	Clone       = "clone"       // always
	Incremental = "incremental" // never clone
)

// ask is what decideApply decides from.
type ask struct {
	spec    api.Spec
	cluster Cluster
	view    *topology.View // fresh, of every member of spec and cluster
	accept  Accept
	remove  []string // members a human wants out; absence from the file is not enough
	method  string
	seeds   map[string]string // each server's group_replication_group_seeds
	stacks  map[string]string // each server's group_replication_communication_stack
	// findings are what package check says about servers that are to join.
	findings []check.Finding
}

// decideApply says what has to happen so that the cluster becomes what spec
// wants, or refuses. A plan without steps means: it is so already.
func decideApply(a ask) (plan.Plan, error) {
	if err := sound(a.spec); err != nil {
		return plan.Plan{}, err
	}
	if err := fit(a); err != nil {
		return plan.Plan{}, err
	}
	if err := soleGroup(a.view); err != nil {
		return plan.Plan{}, err
	}
	switch {
	case a.cluster.Empty() && a.view.Group == "": // also when nobody answers: the guard says who
		return decideCreate(a)
	case a.cluster.Empty():
		return decideAdopt(a)
	case a.cluster.Stopped:
		return decideStopped(a)
	}
	return decideChange(a)
}

// sound refuses a spec that no group can be. The configuration file is checked
// line by line before; this is for those who call the API.
func sound(s api.Spec) error {
	if len(s.Members) > MaxMembers {
		return plan.Refuse("take members out", "a group has at most %d members, not %d. Nothing was changed.", MaxMembers, len(s.Members))
	}
	taken := map[string]string{}
	for _, m := range s.Members {
		for _, what := range []string{"name " + m.Name, "address " + m.Address, "address " + m.GroupAddress} {
			if other, twice := taken[what]; twice && what != "address " {
				return plan.Refuse("correct the member list", "%s and %s have the same %s. Nothing was changed.", other, m.Name, what)
			}
			taken[what] = m.Name
		}
		if m.Name == "" {
			return plan.Refuse("correct the member list", "the member at %s has no name. Nothing was changed.", m.Address)
		}
		if _, err := groupAddress(m); err != nil {
			return plan.Refuse("correct the member list", "%s. Nothing was changed.", err)
		}
	}
	if g := withDefaults(s.Group); g.PaxosSingleLeader && g.Mode != topology.SinglePrimary {
		return plan.Refuse("keep the mode single-primary; or `perdure group stop`, take paxos_single_leader out of the file, `perdure apply`, `perdure group start`",
			"paxos_single_leader works in single-primary mode only. Nothing was changed.")
	}
	return nil
}

// fit refuses servers that Group Replication would refuse, with what to do
// about each.
func fit(a ask) error {
	var texts, fixes []string
	for _, f := range a.findings {
		// The step "configure" persists super_read_only; a member of a running
		// group cannot even be seen to have it in its option file.
		if f.Severity != check.Refuses || f.Kind == check.ReadOnlyAtStart {
			continue
		}
		texts = append(texts, f.Member+": "+f.Text)
		if f.SQL != "" {
			fixes = append(fixes, "on "+f.Member+": "+f.SQL)
		}
	}
	if len(texts) == 0 {
		return nil
	}
	hint := "`perdure check` lists every finding"
	if len(fixes) > 0 {
		hint = "run " + strings.Join(fixes, "; ")
	}
	return plan.Refuse(hint, "%s. Nothing was changed.", strings.Join(texts, "; "))
}

// soleGroup refuses to change anything while members live in several groups.
func soleGroup(v *topology.View) error {
	for _, p := range v.Problems {
		switch p.Kind {
		case topology.TwoGroups, topology.OtherGroup:
			return plan.Refuse("find out which group has the data that count; take the members out of the other one with STOP GROUP_REPLICATION, then `perdure member rejoin NAME`",
				"%s. Nothing was changed.", p.Text)
		case topology.SameUUID, topology.ForeignPeer:
			return plan.Refuse("correct the member list in perdure.yaml", "%s. Nothing was changed.", p.Text)
		}
	}
	return nil
}

// decideCreate is for servers that are in no group, and a control store that
// never heard of one.
func decideCreate(a ask) (plan.Plan, error) {
	c := Cluster{Name: a.spec.Cluster, Spec: withDefaults(a.spec.Group)}
	for _, m := range a.spec.Members {
		c = c.add(m)
	}
	var err error
	if c.Group, err = formerGroup(a.view); err != nil {
		return plan.Plan{}, err
	}
	kind, verb := "create", "create"
	if c.Group != "" {
		kind, verb = "start", "start again"
		if err := unnamed(&c, a.seeds); err != nil {
			return plan.Plan{}, err
		}
	} else {
		c.Group = newGroupName()
	}
	seed, before, err := choose(c, a.view, a.accept)
	if err != nil {
		return plan.Plan{}, err
	}
	if kind == "start" && a.accept.loses(a.view, seed) {
		c = c.fork()
	}
	var steps, rest []plan.Step
	joining := 0
	for _, m := range c.Members {
		if x, _ := a.view.Member(m.Name); slices.Contains(a.accept.Missing, m.Name) && x.Report == nil {
			c = c.with(m.Name, func(k *Known) { k.Stopped = true }) // known, and not waited for
			continue
		}
		steps = append(steps, plan.Step{Verb: configure, Member: m.Name})
		if m.Name != seed {
			rest = append(rest, a.letIn(m.Name)...)
			joining++
		}
	}
	steps = append([]plan.Step{c.record()}, steps...)
	steps = append(steps, merges(seed, before)...)
	steps = append(steps, a.accept.step(seed), plan.Step{Verb: account, Member: seed})
	steps = append(append(steps, rest...), plan.Step{Verb: verify})
	return newPlan(kind, fmt.Sprintf("%s cluster %s: %s bootstraps the group, %d join", verb, c.Name, seed, joining), steps), nil
}

// formerGroup finds the group the servers were in before the store knew them.
func formerGroup(v *topology.View) (string, error) {
	was := map[string][]string{}
	for _, m := range v.Members {
		if m.Report != nil && m.Report.GroupName != "" {
			was[m.Report.GroupName] = append(was[m.Report.GroupName], m.Name)
		}
	}
	var names, said []string
	for g, ms := range was {
		names = append(names, g)
		said = append(said, fmt.Sprintf("%s: %s", g, strings.Join(ms, ", ")))
	}
	slices.Sort(said)
	switch len(names) {
	case 0:
		return "", nil
	case 1:
		return names[0], nil
	}
	return "", plan.Refuse("put only servers of one cluster in the file, or reset the others: RESET PERSIST group_replication_group_name; SET GLOBAL group_replication_group_name = DEFAULT",
		"the servers belonged to different groups (%s). Nothing was changed.", strings.Join(said, "; "))
}

// unnamed refuses to start a former group again while its servers remember
// peers that the file does not name: those could be the living half of it.
func unnamed(c *Cluster, seeds map[string]string) error {
	ours := map[string]bool{}
	for _, m := range c.Members {
		a, err := groupAddress(m.Member)
		if err != nil {
			return err
		}
		ours[a] = true
	}
	for _, m := range c.Members {
		for s := range strings.SplitSeq(seeds[m.Name], ",") {
			if s = strings.TrimSpace(s); s != "" && !ours[s] {
				return plan.Refuse("name every server of the group in the file; if that one is gone for good: SET PERSIST group_replication_group_seeds = '' on "+m.Name,
					"%s was in the group %s with a peer at %s that the file does not name; that peer may be running the group. Nothing was changed.", m.Name, c.Group, s)
			}
		}
	}
	return nil
}

// letIn are the steps that make a server a member of the running group.
func (a ask) letIn(name string) []plan.Step {
	args := map[string]string{"method": a.method}
	if slices.Contains(a.accept.CloneOver, name) {
		args["over"] = "yes"
	}
	return []plan.Step{
		{Verb: provision, Member: name, Args: args, Whole: true},
		{Verb: account, Member: name},
		{Verb: join, Member: name},
	}
}

// step is the bootstrap of seed, with what a human accepted.
func (ok Accept) step(seed string) plan.Step {
	return plan.Step{Verb: bootstrap, Member: seed, Whole: true, Args: map[string]string{
		"missing": strings.Join(ok.Missing, ","), "clone-over": strings.Join(ok.CloneOver, ","),
	}}
}

// decideAdopt takes over a group that somebody else made.
func decideAdopt(a ask) (plan.Plan, error) {
	c := Cluster{Name: a.spec.Cluster, Group: a.view.Group, Spec: withDefaults(a.spec.Group)}
	for _, m := range a.spec.Members {
		c = c.add(m)
	}
	if out := outside(a.view, a.spec.Members); len(out) > 0 || a.view.Quorum != topology.HasQuorum {
		in := namesOf(a.view.In(topology.Online, topology.Recovering))
		return plan.Plan{}, plan.Refuse(
			"bring the others back into their group first (START GROUP_REPLICATION on them), or list only the members that are in it, apply, and add the others afterwards",
			"a group with the name %s lives on %s, quorum %s; outside of it: %s. A set-up now could make a second group. Nothing was changed.",
			a.view.Group, orNobody(in), a.view.Quorum, orNobody(out))
	}
	if on := withValue(a.stacks, "MYSQL"); len(on) > 0 {
		return plan.Plan{}, plan.Refuse(
			"stop the group; on every member SET PERSIST group_replication_communication_stack = 'XCOM', a group_replication_local_address with a port of its own (not the server's), and the seeds to match; start the group again; then apply",
			"the group speaks over MySQL's own protocol (group_replication_communication_stack = MYSQL on %s); Perdure keeps groups that speak XCOM, on ports of their own, and a running group cannot change. Nothing was changed.", strings.Join(on, ", "))
	}
	if a.view.Mode != c.Spec.Mode && a.spec.Group.Mode != "" {
		return plan.Plan{}, plan.Refuse("set group.mode to "+string(a.view.Mode)+", apply, then change it and apply again",
			"the group runs in %s mode, the file says %s. Nothing was changed.", a.view.Mode, c.Spec.Mode)
	}
	c.Spec.Mode = a.view.Mode
	steps := []plan.Step{c.record()}
	for _, m := range c.Members {
		steps = append(steps, plan.Step{Verb: configure, Member: m.Name})
	}
	steps = append(steps, plan.Step{Verb: verify})
	return newPlan("adopt", fmt.Sprintf("adopt the group %s with %d members as cluster %s", c.Group, len(c.Members), c.Name), steps), nil
}

// outside lists the members that should be in the group and are not.
func outside(v *topology.View, ms []api.Member) []string {
	var out []string
	for _, m := range ms {
		if x, ok := v.Member(m.Name); !ok || (x.State != topology.Online && x.State != topology.Recovering) {
			out = append(out, fmt.Sprintf("%s is %s (%s)", m.Name, x.State, x.Why))
		}
	}
	return out
}

// decideStopped is for a cluster that a human stopped: settings may change,
// also those that a running group cannot take.
func decideStopped(a ask) (plan.Plan, error) {
	c := a.cluster
	c.Spec = withDefaults(a.spec.Group)
	if !slices.Equal(sorted(c.Names()), sorted(names(a.spec.Members))) {
		return plan.Plan{}, plan.Refuse("`perdure group start`, then apply", "the cluster is stopped; members come and go only while it runs. Nothing was changed.")
	}
	if same(c, a.cluster) {
		return newPlan("apply", "nothing to do: the cluster is stopped and set as the file says", nil), nil
	}
	steps := []plan.Step{c.record()}
	for _, m := range c.Members {
		steps = append(steps, plan.Step{Verb: configure, Member: m.Name})
	}
	return newPlan("apply", "change the settings of the stopped cluster "+c.Name, steps), nil
}

// decideChange is for a cluster that runs.
func decideChange(a ask) (plan.Plan, error) {
	if err := whole(a); err != nil {
		return plan.Plan{}, err
	}
	end, added, removed, err := difference(a)
	if err != nil {
		return plan.Plan{}, err
	}
	if same(end, a.cluster) {
		return newPlan("apply", "nothing to do: the cluster is as the file says", nil), nil
	}
	if len(a.cluster.Members) == len(removed) {
		return plan.Plan{}, plan.Refuse("keep at least one member", "the change would remove every member. Nothing was changed.")
	}
	during := end // while it happens, those who leave are still known
	for _, name := range removed {
		m, _ := a.cluster.Member(name)
		during.Members = append(slices.Clone(during.Members), m)
	}
	steps := []plan.Step{during.record()}
	for _, m := range end.Members {
		steps = append(steps, plan.Step{Verb: configure, Member: m.Name})
	}
	var parts []string
	if a.cluster.Spec.Mode != end.Spec.Mode {
		steps = append(steps, plan.Step{Verb: switchTo, Args: map[string]string{"to": string(end.Spec.Mode), "from": string(a.cluster.Spec.Mode)}})
		parts = append(parts, "switch to "+string(end.Spec.Mode))
	}
	for _, name := range added {
		steps = append(steps, a.letIn(name)...)
		parts = append(parts, "add "+name)
	}
	for _, name := range removed {
		steps = append(steps, plan.Step{Verb: drain, Member: name}, plan.Step{Verb: leave, Member: name},
			plan.Step{Verb: drop, Member: name}, plan.Step{Verb: undrain, Member: name})
		parts = append(parts, "remove "+name)
	}
	if len(removed) > 0 {
		steps = append(steps, end.record())
		for _, m := range end.Members {
			steps = append(steps, plan.Step{Verb: configure, Member: m.Name})
		}
	}
	if len(parts) == 0 {
		parts = append(parts, "change settings")
	}
	steps = append(steps, plan.Step{Verb: verify})
	return newPlan("apply", "cluster "+end.Name+": "+strings.Join(parts, ", "), steps), nil
}

// whole refuses to change a group that is not as it should be.
func whole(a ask) error {
	if a.view.Quorum == topology.NoGroup {
		return plan.Refuse("`perdure group start`", "no member of cluster %s is in a group: %s. Nothing was changed.", a.cluster.Name, states(a.view))
	}
	if a.view.Quorum != topology.HasQuorum {
		return plan.Refuse("`perdure status`", "the group's quorum is %s: %s. Nothing was changed.", a.view.Quorum, states(a.view))
	}
	var stay []api.Member
	for _, m := range a.cluster.Members {
		if slices.Contains(names(a.spec.Members), m.Name) && !m.Stopped {
			stay = append(stay, m.Member)
		}
	}
	if out := outside(a.view, stay); len(out) > 0 {
		return plan.Refuse("`perdure member rejoin NAME`, or take it out of the file to remove it",
			"the group lives on %s, but %s. Nothing was changed.",
			orNobody(namesOf(a.view.In(topology.Online))), strings.Join(out, "; "))
	}
	return nil
}

// difference makes the cluster that spec wants and says who comes and goes.
func difference(a ask) (end Cluster, added, removed []string, err error) {
	end = a.cluster
	if end.Name != a.spec.Cluster {
		return end, nil, nil, plan.Refuse("use the configuration of that cluster", "this node runs cluster %s, the file describes %s. Nothing was changed.", end.Name, a.spec.Cluster)
	}
	end.Spec = withDefaults(a.spec.Group)
	if err := needsStop(a.cluster.Spec, end.Spec); err != nil {
		return end, nil, nil, err
	}
	for _, m := range a.cluster.Members {
		if slices.Contains(names(a.spec.Members), m.Name) {
			continue
		}
		if !slices.Contains(a.remove, m.Name) {
			return end, nil, nil, plan.Refuse("`perdure apply --remove "+m.Name+"` takes it out of the group; or add it to the file",
				"%s is a member of the cluster and not in the file. Nothing was changed.", m.Name)
		}
		removed = append(removed, m.Name)
		end = end.without(m.Name)
	}
	for _, m := range a.spec.Members {
		old, known := end.Member(m.Name)
		switch {
		case !known:
			if x, _ := a.view.Member(m.Name); x.State != topology.Offline && x.State != topology.Error {
				return end, nil, nil, plan.Refuse("correct its address or start the server, then apply again",
					"%s cannot be added: it is %s, %s. Nothing was changed.", m.Name, x.State, x.Why)
			}
			added = append(added, m.Name)
			end = end.add(m)
		case old.Address != m.Address || old.GroupAddress != m.GroupAddress:
			return end, nil, nil, plan.Refuse("remove the member, apply, then add it under its new address",
				"%s has another address in the file than in the cluster. Nothing was changed.", m.Name)
		default:
			end = end.with(m.Name, func(k *Known) { k.Member = m })
		}
	}
	return end, added, removed, nil
}

// needsStop refuses settings that a running group cannot change.
func needsStop(was, want api.Group) error {
	var what []string
	if was.PaxosSingleLeader != want.PaxosSingleLeader {
		what = append(what, "paxos_single_leader")
	}
	if was.SSLMode != want.SSLMode {
		what = append(what, "ssl_mode")
	}
	if was.Sites != want.Sites || was.Site != want.Site {
		what = append(what, "sites")
	}
	if len(what) == 0 {
		return nil
	}
	return plan.Refuse("`perdure group stop`, `perdure apply`, `perdure group start`",
		"%s can only change while the whole group is stopped. Nothing was changed.", strings.Join(what, ", "))
}

// record is the step that writes the cluster document.
func (c Cluster) record() plan.Step {
	b, err := json.Marshal(c)
	if err != nil { // strings and numbers only: cannot happen
		panic(err)
	}
	return plan.Step{Verb: record, Args: map[string]string{"cluster": string(b)}}
}

func same(a, b Cluster) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// withValue lists the members that have that value.
func withValue(of map[string]string, value string) []string {
	var out []string
	for name, v := range of {
		if strings.EqualFold(v, value) {
			out = append(out, name)
		}
	}
	return sorted(out)
}

func names(ms []api.Member) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Name)
	}
	return out
}

func namesOf(ms []topology.Member) []string {
	var out []string
	for _, m := range ms {
		out = append(out, m.Name)
	}
	return out
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

func states(v *topology.View) string {
	var out []string
	for _, m := range v.Members {
		out = append(out, fmt.Sprintf("%s is %s", m.Name, m.State))
	}
	return strings.Join(out, ", ")
}

func orNobody(s []string) string {
	if len(s) == 0 {
		return "nobody"
	}
	return strings.Join(s, ", ")
}
