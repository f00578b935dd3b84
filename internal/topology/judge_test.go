package topology

import (
	"fmt"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/gtid"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world describes what every server says, the way an operator would jot it
// down: one line a server, "m1: m1 m2 m3?" is "m1 answers and lists m1 and m2
// as ONLINE and m3 as UNREACHABLE"; "m1: silent", "m1: refused", "m1: offline".
type world map[string]say

type say struct {
	group   string // default "g"
	lists   string
	failure Failure
	age     time.Duration
	edit    func(*Report)
}

func (w world) observe(names ...string) []Observation {
	var out []Observation
	for _, n := range names {
		s := w[n]
		o := Observation{Instance: Instance{Name: n, Address: n + ":3306"}, Failure: s.failure, Heard: t0.Add(-s.age)}
		r := &Report{UUID: n, GroupName: s.group, Executed: gtid.MustParse("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-10")}
		if r.GroupName == "" {
			r.GroupName = "g"
		}
		for _, f := range splitList(s.lists) {
			p := Peer{UUID: f, Host: f, Port: 3306, State: "ONLINE", Role: Primary}
			switch f[len(f)-1] {
			case '?':
				p.UUID, p.Host, p.State = f[:len(f)-1], f[:len(f)-1], "UNREACHABLE"
			case '+':
				p.UUID, p.Host, p.State = f[:len(f)-1], f[:len(f)-1], "RECOVERING"
			case '!':
				p.UUID, p.Host, p.State = f[:len(f)-1], f[:len(f)-1], "ERROR"
			}
			r.Peers = append(r.Peers, p)
		}
		if s.edit != nil {
			s.edit(r)
		}
		o.Report = r
		out = append(out, o)
	}
	return out
}

func splitList(s string) []string {
	var out []string
	for _, f := range []byte(s + " ") {
		if len(out) == 0 {
			out = append(out, "")
		}
		if f == ' ' {
			out = append(out, "")
			continue
		}
		out[len(out)-1] += string(f)
	}
	var full []string
	for _, f := range out {
		if f != "" {
			full = append(full, f)
		}
	}
	return full
}

func TestJudge(t *testing.T) {
	t.Parallel()
	all3 := "m1 m2 m3"
	for _, c := range []struct {
		name     string
		world    world
		want     string // states in order
		quorum   Quorum
		writable string
		problems string
	}{
		{
			name:  "three members that list each other are online",
			world: world{"m1": {lists: all3}, "m2": {lists: all3}, "m3": {lists: all3}},
			want:  "ONLINE ONLINE ONLINE", quorum: HasQuorum, writable: "m1 m2 m3",
		},
		{
			name:  "a killed member the group still counts in is suspect",
			world: world{"m1": {lists: all3}, "m2": {lists: all3}, "m3": {lists: all3, failure: Refused}},
			want:  "ONLINE ONLINE SUSPECT", quorum: HasQuorum, writable: "m1 m2",
		},
		{
			name:  "a hung member is suspect once its last answer is old",
			world: world{"m1": {lists: all3}, "m2": {lists: all3}, "m3": {lists: all3, age: 1100 * time.Millisecond}},
			want:  "ONLINE ONLINE SUSPECT", quorum: HasQuorum, writable: "m1 m2",
		},
		{
			name:  "one missed probe is not silence",
			world: world{"m1": {lists: all3}, "m2": {lists: all3}, "m3": {lists: all3, age: 900 * time.Millisecond, failure: Silent}},
			want:  "ONLINE ONLINE ONLINE", quorum: HasQuorum, writable: "m1 m2 m3",
		},
		{
			name:  "a member its group suspects too is unreachable",
			world: world{"m1": {lists: "m1 m2 m3?"}, "m2": {lists: "m1 m2 m3?"}, "m3": {lists: all3, age: time.Minute, failure: Silent}},
			want:  "ONLINE ONLINE UNREACHABLE", quorum: HasQuorum, writable: "m1 m2",
		},
		{
			name:  "an expelled dead member is down",
			world: world{"m1": {lists: "m1 m2"}, "m2": {lists: "m1 m2"}, "m3": {lists: all3, age: time.Minute, failure: Refused}},
			want:  "ONLINE ONLINE DOWN", quorum: HasQuorum, writable: "m1 m2",
		},
		{
			name:  "a thawed member that still lists everybody is isolated, whatever it says",
			world: world{"m1": {lists: "m1 m2"}, "m2": {lists: "m1 m2"}, "m3": {lists: all3}},
			want:  "ONLINE ONLINE ISOLATED", quorum: HasQuorum, writable: "m1 m2",
		},
		{
			name:  "its own word is not enough: one stale member that lists two who answer otherwise lost its group",
			world: world{"m1": {lists: ""}, "m2": {lists: ""}, "m3": {lists: all3}},
			want:  "OFFLINE OFFLINE ONLINE", quorum: LostQuorum, writable: "",
		},
		{
			name:  "two of three killed at once is a lost majority before the group says so",
			world: world{"m1": {lists: all3}, "m2": {lists: all3, failure: Refused}, "m3": {lists: all3, failure: Refused}},
			want:  "ONLINE SUSPECT SUSPECT", quorum: LostQuorum, writable: "",
		},
		{
			name:  "two of three silent to us leaves us unsure, and the third may go on",
			world: world{"m1": {lists: all3}, "m2": {lists: all3, age: time.Minute, failure: Silent}, "m3": {lists: all3, age: time.Minute, failure: Silent}},
			want:  "ONLINE SUSPECT SUSPECT", quorum: Unsure, writable: "m1",
		},
		{
			name:  "two of three unreachable for the third too is a lost majority",
			world: world{"m1": {lists: "m1 m2? m3?"}, "m2": {age: time.Minute, failure: Silent}, "m3": {age: time.Minute, failure: Silent}},
			want:  "ONLINE UNREACHABLE UNREACHABLE", quorum: LostQuorum, writable: "",
		},
		{
			name:  "two groups with one name are named, the smaller is isolated",
			world: world{"m1": {lists: "m1"}, "m2": {lists: "m2 m3"}, "m3": {lists: "m2 m3"}},
			want:  "ISOLATED ONLINE ONLINE", quorum: HasQuorum, writable: "m2 m3", problems: TwoGroups,
		},
		{
			name:  "a member of ours in a foreign group is named",
			world: world{"m1": {lists: "m1 m2"}, "m2": {lists: "m1 m2"}, "m3": {lists: "m3", group: "x"}},
			want:  "ONLINE ONLINE ISOLATED", quorum: HasQuorum, writable: "m1 m2", problems: OtherGroup,
		},
		{
			name:  "a group member nobody configured is named",
			world: world{"m1": {lists: "m1 m2 m3 mx"}, "m2": {lists: "m1 m2 m3 mx"}, "m3": {lists: "m1 m2 m3 mx"}},
			want:  "ONLINE ONLINE ONLINE", quorum: HasQuorum, writable: "m1 m2 m3", problems: ForeignPeer,
		},
		{
			name:  "a member that crashed and restarted before it was expelled is offline",
			world: world{"m1": {lists: all3}, "m2": {lists: all3}, "m3": {lists: ""}},
			want:  "ONLINE ONLINE OFFLINE", quorum: HasQuorum, writable: "m1 m2",
		},
		{
			name:  "a joining member takes no traffic",
			world: world{"m1": {lists: "m1 m2 m3+"}, "m2": {lists: "m1 m2 m3+"}, "m3": {lists: "m1 m2 m3+"}},
			want:  "ONLINE ONLINE RECOVERING", quorum: HasQuorum, writable: "m1 m2",
		},
		{
			name:  "a member that joins and is not listed yet is no stranger",
			world: world{"m1": {lists: "m1 m2"}, "m2": {lists: "m1 m2"}, "m3": {lists: "m1 m2 m3+"}},
			want:  "ONLINE ONLINE RECOVERING", quorum: HasQuorum, writable: "m1 m2",
		},
		{
			name:  "the only member left is silent for a moment: its group is not gone",
			world: world{"m1": {lists: "m1", failure: Silent, age: 2 * time.Second}, "m2": {}, "m3": {}},
			want:  "DOWN OFFLINE OFFLINE", quorum: Unsure,
		},
		{
			name:  "silent for long, it is",
			world: world{"m1": {lists: "m1", failure: Silent, age: 20 * time.Second}, "m2": {}, "m3": {}},
			want:  "DOWN OFFLINE OFFLINE", quorum: NoGroup,
		},
		{
			name:  "the only member left was killed: the group is gone at once",
			world: world{"m1": {lists: "m1", failure: Refused}, "m2": {}, "m3": {}},
			want:  "DOWN OFFLINE OFFLINE", quorum: NoGroup,
		},
		{
			name:  "a member that was just let in, and has not said so yet, costs nobody the majority",
			world: world{"m1": {lists: "m1 m2+"}, "m2": {lists: ""}, "m3": {lists: ""}},
			want:  "ONLINE OFFLINE OFFLINE", quorum: HasQuorum, writable: "m1",
		},
		{
			name: "read-only and offline_mode members are online and take no writes",
			world: world{
				"m1": {lists: all3}, "m2": {lists: all3, edit: func(r *Report) { r.SuperReadOnly = true }},
				"m3": {lists: all3, edit: func(r *Report) { r.OfflineMode = true }},
			},
			want: "ONLINE ONLINE ONLINE", quorum: HasQuorum, writable: "m1",
		},
		{
			name:  "a member that fell out with an error says so",
			world: world{"m1": {lists: "m1 m2"}, "m2": {lists: "m1 m2"}, "m3": {lists: "m3!"}},
			want:  "ONLINE ONLINE ERROR", quorum: HasQuorum, writable: "m1 m2",
		},
		{
			name:  "nobody in a group is no group",
			world: world{"m1": {}, "m2": {}, "m3": {}},
			want:  "OFFLINE OFFLINE OFFLINE", quorum: NoGroup,
		},
		{
			name:  "nobody answering is not the same as no group",
			world: world{"m1": {failure: Refused}, "m2": {failure: Silent, age: time.Hour}, "m3": {failure: Refused}},
			want:  "DOWN DOWN DOWN", quorum: Unsure,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := Judge(View{}, t0, Expect{Cluster: "c"}, c.world.observe("m1", "m2", "m3"))
			var states, writable, kinds string
			for _, m := range v.Members {
				states += string(m.State) + " "
				if m.Writable {
					writable += m.Name + " "
				}
				if m.State != Online && m.Why == "" {
					t.Errorf("%s is %s without a reason", m.Name, m.State)
				}
			}
			for _, p := range v.Problems {
				kinds += p.Kind + " "
			}
			got := fmt.Sprint(splitList(states), v.Quorum, splitList(writable), splitList(kinds))
			want := fmt.Sprint(splitList(c.want), c.quorum, splitList(c.writable), splitList(c.problems))
			if got != want {
				t.Errorf("\n got %s\nwant %s\nproblems %v", got, want, v.Problems)
			}
		})
	}
}

func TestViewNumberMovesOnlyWithTheJudgement(t *testing.T) {
	t.Parallel()
	all3 := "m1 m2 m3"
	well := world{"m1": {lists: all3}, "m2": {lists: all3}, "m3": {lists: all3}}
	v1 := Judge(View{}, t0, Expect{}, well.observe("m1", "m2", "m3"))
	v2 := Judge(v1, t0.Add(time.Millisecond), Expect{}, well.observe("m1", "m2", "m3"))
	ill := world{"m1": {lists: all3}, "m2": {lists: all3}, "m3": {lists: all3, failure: Refused}}
	v3 := Judge(v2, t0.Add(2*time.Millisecond), Expect{}, ill.observe("m1", "m2", "m3"))
	if v1.Number != 1 || v2.Number != 1 || v3.Number != 2 {
		t.Fatalf("numbers %d %d %d, want 1 1 2", v1.Number, v2.Number, v3.Number)
	}
	if got := v3.Members[0].Since; !got.Equal(t0) {
		t.Errorf("a state that did not change began at %v, want %v", got, t0)
	}
	if got := v3.Tolerates(); got != 0 {
		t.Errorf("a group of three with one silent tolerates %d, want 0", got)
	}
	if got := v1.Tolerates(); got != 1 {
		t.Errorf("a whole group of three tolerates %d, want 1", got)
	}
}

func TestErrantTransactionsAreNamedOnceThePositionsAreComparable(t *testing.T) {
	t.Parallel()
	w := world{
		"m1": {lists: "m1 m2"}, "m2": {lists: "m1 m2"},
		"m3": {edit: func(r *Report) {
			r.Executed = gtid.MustParse("aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:1-10,bbbbbbbb-bbbb-bbbb-bbbb-bbbbbbbbbbbb:7")
		}},
	}
	obs := w.observe("m1", "m2", "m3")
	first := Judge(View{}, t0, Expect{}, obs)
	if len(first.Problems) != 0 {
		t.Fatalf("judged before the others could have seen it: %v", first.Problems)
	}
	for i := range obs {
		obs[i].Heard = t0.Add(3 * time.Second)
	}
	later := Judge(first, t0.Add(3*time.Second), Expect{}, obs)
	if len(later.Problems) != 1 || later.Problems[0].Kind != Errant {
		t.Fatalf("problems %v, want the one errant transaction of m3", later.Problems)
	}
}

func TestZoneWithTheMajorityIsAWarning(t *testing.T) {
	t.Parallel()
	all3 := "m1 m2 m3"
	obs := world{"m1": {lists: all3}, "m2": {lists: all3}, "m3": {lists: all3}}.observe("m1", "m2", "m3")
	obs[0].Instance.Zone, obs[1].Instance.Zone, obs[2].Instance.Zone = "a", "b", "c"
	if v := Judge(View{}, t0, Expect{}, obs); len(v.Problems) != 0 {
		t.Errorf("three zones: %v", v.Problems)
	}
	obs[2].Instance.Zone = "a"
	if v := Judge(View{}, t0, Expect{}, obs); len(v.Problems) != 1 || v.Problems[0].Kind != ZoneRisk {
		t.Errorf("two of three in zone a: %v", v.Problems)
	}
}
