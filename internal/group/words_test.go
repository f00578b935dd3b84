package group

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/topology"
)

// Sources of transactions in tables: the group's, and a client's that wrote to
// one server behind the group's back.
const (
	ours   = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
	theirs = "bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb"
	group1 = "11111111-1111-1111-1111-111111111111"
	group2 = "22222222-2222-2222-2222-222222222222"
)

// seen is a member in a View, as short as a table wants it.
func seen(name string, s topology.State, executed, received string) topology.Member {
	m := topology.Member{Instance: topology.Instance{Name: name, Address: name + ":3306"}, State: s, UUID: "uuid-" + name}
	if s == topology.Down || s == topology.Unknown {
		m.Why, m.Failure = "nothing listens at "+name+":3306", topology.Refused
		return m
	}
	m.Report = &topology.Report{UUID: m.UUID, Executed: gtid.MustParse(executed), Received: gtid.MustParse(received)}
	if s == topology.Online {
		m.Writable, m.Readable, m.Role = true, true, topology.Primary
	}
	return m
}

// offline members never joined anything.
func offline(names ...string) []topology.Member {
	var out []topology.Member
	for _, n := range names {
		out = append(out, seen(n, topology.Offline, "", ""))
	}
	return out
}

func online(names ...string) []topology.Member {
	var out []topology.Member
	for _, n := range names {
		out = append(out, seen(n, topology.Online, ours+":1-10", ""))
	}
	return out
}

// view puts members together; the quorum follows from their states.
func view(ms ...topology.Member) *topology.View {
	v := &topology.View{Number: 1, Quorum: topology.NoGroup, Members: ms}
	if slices.ContainsFunc(ms, func(m topology.Member) bool { return m.State == topology.Online }) {
		v.Quorum, v.Group, v.Mode = topology.HasQuorum, group1, topology.MultiPrimary
	}
	return v
}

func specOfNames(names ...string) api.Spec {
	s := api.Spec{Cluster: "shop"}
	for _, n := range names {
		s.Members = append(s.Members, api.Member{Name: n, Address: n + ":3306"})
	}
	return s
}

// made is a cluster as it is after it was created.
func made(names ...string) Cluster {
	c := Cluster{Name: "shop", Group: group1, Spec: withDefaults(api.Group{})}
	for _, m := range specOfNames(names...).Members {
		c = c.add(m)
	}
	return c
}

// refused checks that err is a refusal that says all of want, that nothing was
// changed, and what to do next.
func refused(t *testing.T, err error, want ...string) {
	t.Helper()
	r, ok := errors.AsType[*plan.RefusedError](err)
	if !ok {
		t.Fatalf("it was not refused: %v", err)
	}
	for _, w := range append(want, "Nothing was changed") {
		if !strings.Contains(r.Found, w) {
			t.Errorf("the refusal does not say %q: %s", w, r.Found)
		}
	}
	if r.Hint == "" {
		t.Errorf("the refusal says nothing about what to do next: %s", r.Found)
	}
}

// steps writes a plan's steps in one line.
func steps(p plan.Plan) string {
	var out []string
	for _, s := range p.Steps {
		out = append(out, s.String())
	}
	return strings.Join(out, ", ")
}
