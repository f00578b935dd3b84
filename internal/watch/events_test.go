package watch

import (
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/topology"
)

var e0 = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// scene writes one View the way an operator would: "yes m1=ONLINE
// m2=SUSPECT/refused". Edits change a member afterwards.
func scene(at int, text string, edits ...func(*topology.View)) *topology.View {
	words := strings.Fields(text)
	v := &topology.View{Number: uint64(at), At: e0.Add(time.Duration(at) * time.Second), Cluster: "shop", Quorum: topology.Quorum(words[0]), Mode: topology.MultiPrimary}
	for _, w := range words[1:] {
		name, state, _ := strings.Cut(w, "=")
		state, failure, _ := strings.Cut(state, "/")
		m := topology.Member{Instance: topology.Instance{Name: name}, State: topology.State(state), Failure: topology.Failure(failure), Heard: v.At}
		m.Writable = m.State == topology.Online && v.Quorum == topology.HasQuorum
		if m.State != topology.Unknown {
			m.Report = &topology.Report{Uptime: time.Hour + time.Duration(at)*time.Second, Version: "8.4.3"}
		}
		v.Members = append(v.Members, m)
	}
	for _, e := range edits {
		e(v)
	}
	return v
}

func edit(name string, f func(*topology.Member)) func(*topology.View) {
	return func(v *topology.View) {
		for i := range v.Members {
			if v.Members[i].Name == name {
				f(&v.Members[i])
			}
		}
	}
}

func since(name string, at int) func(*topology.View) {
	return edit(name, func(m *topology.Member) { m.Since = e0.Add(time.Duration(at) * time.Second) })
}

func problem(kind string, members ...string) func(*topology.View) {
	return func(v *topology.View) {
		v.Problems = append(v.Problems, topology.Problem{Kind: kind, Members: members, Text: kind})
	}
}

func TestEventsTellWhatChangedBetweenViews(t *testing.T) {
	t.Parallel()
	const whole = "yes m1=ONLINE m2=ONLINE m3=ONLINE"
	rebooted := edit("m3", func(m *topology.Member) { m.Report.Uptime = m.Heard.Sub(e0.Add(8 * time.Second)) })
	lag := func(d time.Duration) func(*topology.View) {
		return edit("m3", func(m *topology.Member) { m.Report.Lag = d })
	}
	queue := func(n int64) func(*topology.View) {
		return edit("m3", func(m *topology.Member) { m.Report.Queue = n })
	}
	single := func(primary string) func(*topology.View) {
		return func(v *topology.View) {
			v.Mode = topology.SinglePrimary
			for i := range v.Members {
				m := &v.Members[i]
				m.Role, m.Writable = topology.Secondary, false
				if m.Name == primary {
					m.Role, m.Writable = topology.Primary, true
				}
			}
		}
	}
	gaveUp := func(name string) func(*topology.View) {
		return edit(name, func(m *topology.Member) {
			m.Report.LastError = "Worker 2 failed executing transaction 'aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa:7' at end_log_pos 5"
		})
	}
	for _, c := range []struct {
		name  string
		views []*topology.View
		want  string // after the first View
	}{
		{"nothing changed", []*topology.View{scene(1, whole), scene(2, whole)}, ""},
		{
			"a member is killed, expelled, started and comes back",
			[]*topology.View{
				scene(1, whole), scene(2, "yes m1=ONLINE m2=ONLINE m3=SUSPECT/refused"), scene(8, "yes m1=ONLINE m2=ONLINE m3=UNREACHABLE/refused"),
				scene(22, "yes m1=ONLINE m2=ONLINE m3=DOWN/refused"), scene(30, "yes m1=ONLINE m2=ONLINE m3=OFFLINE", rebooted),
				scene(33, "yes m1=ONLINE m2=ONLINE m3=RECOVERING", rebooted), scene(36, whole, rebooted),
			},
			"m3:member.crashed m3:member.unreachable m3:member.expelled m3:member.started m3:member.joining m3:member.rejoined m3:member.writable",
		},
		{
			"a member hangs for a moment",
			[]*topology.View{scene(1, whole), scene(2, "yes m1=ONLINE m2=ONLINE m3=SUSPECT/silent"), scene(4, whole)},
			"m3:member.suspect m3:member.recovered m3:member.writable",
		},
		{
			"a hung member is expelled and thaws",
			[]*topology.View{
				scene(1, whole), scene(2, "yes m1=ONLINE m2=ONLINE m3=SUSPECT/silent"), scene(8, "yes m1=ONLINE m2=ONLINE m3=UNREACHABLE/silent"),
				scene(22, "yes m1=ONLINE m2=ONLINE m3=DOWN/silent"), scene(40, "yes m1=ONLINE m2=ONLINE m3=ISOLATED"), scene(41, "yes m1=ONLINE m2=ONLINE m3=ERROR"),
			},
			"m3:member.suspect m3:member.unreachable m3:member.expelled m3:member.isolated m3:member.error",
		},
		{
			"a hung member turns out to be dead",
			[]*topology.View{scene(1, whole), scene(2, "yes m1=ONLINE m2=ONLINE m3=SUSPECT/silent"), scene(3, "yes m1=ONLINE m2=ONLINE m3=SUSPECT/refused")},
			"m3:member.suspect m3:member.crashed",
		},
		{
			"a member is stopped in order",
			[]*topology.View{scene(1, whole), scene(2, "yes m1=ONLINE m2=ONLINE m3=OFFLINE"), scene(3, "yes m1=ONLINE m2=ONLINE m3=DOWN/refused")},
			"m3:member.left m3:member.stopped",
		},
		{
			"a member leaves in order and seems isolated on its way out",
			[]*topology.View{
				scene(1, whole), scene(2, "yes m1=ONLINE m2=ONLINE m3=ISOLATED", since("m3", 2)), scene(4, "yes m1=ONLINE m2=ONLINE m3=ISOLATED", since("m3", 2)),
				scene(5, "yes m1=ONLINE m2=ONLINE m3=DOWN/refused"),
			},
			"m3:member.stopped",
		},
		{
			"a member stays isolated",
			[]*topology.View{
				scene(1, whole), scene(2, "yes m1=ONLINE m2=ONLINE m3=ISOLATED", since("m3", 2)), scene(11, "yes m1=ONLINE m2=ONLINE m3=ISOLATED", since("m3", 2)),
			},
			"m3:member.isolated",
		},
		{
			"the majority is lost and comes back",
			[]*topology.View{
				scene(1, whole), scene(2, "lost m1=ONLINE m2=UNREACHABLE/silent m3=UNREACHABLE/silent"), scene(3, whole),
			},
			"m2:member.unreachable m3:member.unreachable group.quorum-lost m2:member.recovered m2:member.writable m3:member.recovered m3:member.writable group.quorum-regained",
		},
		{
			"the whole group dies and is started again",
			[]*topology.View{
				scene(1, whole), scene(2, "none m1=DOWN/refused m2=DOWN/refused m3=DOWN/refused"), scene(3, "none m1=OFFLINE m2=OFFLINE m3=OFFLINE"),
				scene(4, "yes m1=ONLINE m2=OFFLINE m3=OFFLINE"),
			},
			"m1:member.crashed m2:member.crashed m3:member.crashed group.gone m1:member.started m2:member.started m3:member.started m1:member.rejoined m1:member.writable group.bootstrapped",
		},
		{
			"we reach nobody",
			[]*topology.View{scene(1, whole), scene(2, "unsure m1=DOWN/silent m2=DOWN/silent m3=DOWN/silent")},
			"m1:member.suspect m2:member.suspect m3:member.suspect group.quorum-unsure",
		},
		{"a member turns read-only", []*topology.View{scene(1, whole), scene(2, whole, edit("m2", func(m *topology.Member) { m.Writable = false }))}, "m2:member.read-only"},
		{
			"a member falls behind and catches up",
			[]*topology.View{scene(1, whole), scene(2, whole, lag(12*time.Second)), scene(3, whole, lag(8*time.Second)), scene(4, whole, lag(time.Second))},
			"m3:member.lagging m3:member.caught-up",
		},
		{
			"flow control",
			[]*topology.View{scene(1, whole), scene(2, whole, queue(30000)), scene(3, whole, queue(20000)), scene(4, whole, queue(10))},
			"m3:member.flow-control m3:member.flow-free",
		},
		{"the mode is switched", []*topology.View{scene(1, whole), scene(2, whole, single("m1"))}, "group.mode-switched"},
		{
			"the primary moves",
			[]*topology.View{scene(1, whole, single("m1")), scene(2, whole, single("m2"))},
			"m2:member.writable group.primary-changed",
		},
		{"a server diverged, went down, came back clean", []*topology.View{
			scene(1, "yes m1=ONLINE m2=ONLINE m3=OFFLINE"), scene(2, "yes m1=ONLINE m2=ONLINE m3=OFFLINE", problem(topology.Errant, "m3")),
			scene(3, "yes m1=ONLINE m2=ONLINE m3=DOWN/refused"), scene(4, whole),
		}, "m3:member.diverged m3:member.stopped m3:member.joined m3:member.writable m3:member.reconciled"},
		{"a zone holds the majority, then not", []*topology.View{scene(1, whole), scene(2, whole, problem(topology.ZoneRisk, "m1", "m2")), scene(3, whole)}, "group.problem group.solved"},
		{"two groups", []*topology.View{scene(1, whole), scene(2, whole, problem(topology.TwoGroups, "m3"))}, "group.two-groups"},
		{
			"a poison transaction",
			[]*topology.View{scene(1, whole), scene(2, "yes m1=ONLINE m2=ERROR m3=ERROR", gaveUp("m2"), gaveUp("m3"))},
			"m2:member.error m3:member.error group.poison-transaction",
		},
		{"one member gave up alone", []*topology.View{scene(1, whole), scene(2, "yes m1=ONLINE m2=ONLINE m3=ERROR", gaveUp("m3"))}, "m3:member.error"},
		{"a member is added, another removed", []*topology.View{scene(1, whole), scene(2, "yes m1=ONLINE m2=ONLINE m4=OFFLINE")}, "m4:member.added m3:member.removed"},
		{"an upgrade", []*topology.View{scene(1, whole), scene(2, whole, edit("m1", func(m *topology.Member) { m.Report.Version = "8.4.4" }))}, "m1:member.upgraded"},
		{"a restart between two looks", []*topology.View{scene(1, "yes m1=ONLINE m2=ONLINE m3=OFFLINE"), scene(9, "yes m1=ONLINE m2=ONLINE m3=OFFLINE", rebooted)}, "m3:member.restarted"},
		{"a node that has just begun tells nothing", []*topology.View{scene(1, whole), scene(2, "none m1=UNKNOWN m2=UNKNOWN m3=UNKNOWN"), scene(3, whole)}, ""},
		{"a server that was not asked yet is not suspect", []*topology.View{scene(1, whole), scene(2, "unsure m1=ONLINE m2=SUSPECT m3=SUSPECT",
			edit("m2", func(m *topology.Member) { m.Report = nil }), edit("m3", func(m *topology.Member) { m.Report = nil })), scene(3, whole)}, ""},
		{"we are not let in", []*topology.View{scene(1, whole), scene(2, "yes m1=ONLINE m2=ONLINE m3=UNKNOWN/denied")}, "m3:member.denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, told := Events(Told{}, c.views[0], Limits{})
			var got []string
			ids := map[string]bool{}
			for i, v := range c.views[1:] {
				var events []event.Event
				events, told = Events(told, v, Limits{})
				for _, e := range events {
					if ids[e.ID] || e.Cluster != "shop" || e.Text == "" || !e.Kind.Known() {
						t.Errorf("event %+v", e)
					}
					ids[e.ID] = true
					word := string(e.Kind)
					if e.Member != "" {
						word = e.Member + ":" + word
					}
					got = append(got, word)
				}
				if !Still(v, latest(events)) {
					t.Errorf("view %d: %s is not true in the View that told it", i+1, latest(events).Kind)
				}
			}
			if g := strings.Join(got, " "); g != c.want {
				t.Errorf("told\n %s\nwant\n %s", g, c.want)
			}
		})
	}
}

func latest(events []event.Event) event.Event {
	if len(events) == 0 {
		return event.Event{}
	}
	return events[len(events)-1]
}

func TestTheFirstViewTellsWhoIsThere(t *testing.T) {
	t.Parallel()
	events, _ := Events(Told{}, scene(1, "yes m1=ONLINE m2=ONLINE m3=SUSPECT/refused"), Limits{})
	var got []string
	for _, e := range events {
		got = append(got, e.Subject+" "+string(e.Kind))
	}
	want := "member/m1 member.joined,member/m1 member.writable,member/m2 member.joined,member/m2 member.writable,member/m3 member.crashed,group group.bootstrapped"
	if g := strings.Join(got, ","); g != want {
		t.Errorf("told\n %s\nwant\n %s", g, want)
	}
}

func TestWhatHooksActOnIsReadAgain(t *testing.T) {
	t.Parallel()
	back := scene(5, "yes m1=ONLINE m2=ONLINE m3=ONLINE")
	for kind, want := range map[event.Kind]bool{
		event.MemberCrashed: false, event.MemberExpelled: false, event.MemberRejoined: true, event.GroupQuorumLost: false, event.PlanDone: true,
	} {
		if got := Still(back, event.New(kind, "member/m3", "")); got != want {
			t.Errorf("%s of a member that is back: %v, want %v", kind, got, want)
		}
	}
}
