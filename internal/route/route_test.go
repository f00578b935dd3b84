package route

import (
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/topology"
)

func view(number uint64, members ...string) topology.View {
	v := topology.View{Number: number}
	for _, m := range members {
		name, what, _ := strings.Cut(m, ":")
		state := topology.Online
		if strings.Contains(what, "x") {
			state = topology.Down
		}
		v.Members = append(v.Members, topology.Member{
			Instance: topology.Instance{Name: name, Address: name + ":3306"}, State: state,
			Writable: strings.Contains(what, "w"), Readable: strings.Contains(what, "r"),
		})
	}
	return v
}

func writers(p *Plan) string {
	var out []string
	for _, m := range p.Members {
		if m.Serves(Write) {
			out = append(out, m.Name)
		}
	}
	return strings.Join(out, " ")
}

func TestWritersFollowPolicyDrainsAndView(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		members []string
		policy  Policy
		drain   string
		want    string
		schema  string
	}{
		"spread over all that can":            {[]string{"c:wr", "a:wr", "b:r"}, Spread, "", "a c", "a"},
		"one, the lowest name":                {[]string{"c:wr", "a:wr", "b:wr"}, Pinned(""), "", "a", "a"},
		"one, the named":                      {[]string{"c:wr", "a:wr", "b:wr"}, Pinned("b"), "", "b", "b"},
		"the named cannot, the next does":     {[]string{"c:wr", "a:wr", "b:x"}, Pinned("b"), "", "a", "a"},
		"two":                                 {[]string{"c:wr", "a:wr", "b:wr"}, AtMost(2), "", "a b", "a"},
		"a drained one leaves":                {[]string{"c:wr", "a:wr"}, Spread, "a", "c", "c"},
		"all drained: nobody, rather than it": {[]string{"a:wr"}, Spread, "a", "", ""},
	} {
		table := New()
		table.SetView(view(1, c.members...))
		if err := table.SetWriters(c.policy); err != nil {
			t.Fatal(err)
		}
		if c.drain != "" {
			if err := table.Drain(c.drain); err != nil {
				t.Fatal(err)
			}
		}
		p := table.Plan()
		if got := writers(p); got != c.want || p.Schema != c.schema {
			t.Errorf("%s: %q, schema on %q", name, got, p.Schema)
		}
	}
}

func TestPickTakesTheLeastBusyAndAvoidsTheDoubted(t *testing.T) {
	t.Parallel()
	table := New()
	table.SetView(view(1, "a:wr", "b:wr"))
	p, now := table.Plan(), time.Now()
	p.Member("a").Seat.Sessions.Store(5)
	if m := p.Pick(Write, now, ""); m.Name != "b" {
		t.Error(m.Name)
	}
	p.Member("b").Doubt(now.Add(time.Second))
	if m := p.Pick(Write, now, ""); m.Name != "a" {
		t.Error(m.Name)
	}
	if m := p.Pick(Write, now.Add(2*time.Second), "b"); m.Name != "a" {
		t.Error(m.Name)
	}
	table.SetView(view(2, "b:wr"))
	if m := table.Plan().Pick(Write, now, "b"); m == nil || m.Name != "b" {
		t.Error("the only member is better than none")
	}
}

func TestAPlanIsReplacedOnlyByOneThatDiffers(t *testing.T) {
	t.Parallel()
	table := New()
	table.SetView(view(1, "a:wr", "b:wr"))
	p := table.Plan()
	table.SetView(view(2, "a:wr", "b:wr"))
	if table.Plan() != p {
		t.Error("the same view made a new plan")
	}
	release := table.Hold()
	again := table.Hold()
	select {
	case <-p.Changed():
	default:
		t.Error("nobody was told")
	}
	release()
	release()
	if !table.Plan().Holding {
		t.Error("a hold ended that somebody else still wants")
	}
	again()
	open, err := table.Funnel("b")
	if err != nil || writers(table.Plan()) != "b" || !table.Plan().Spread || table.Plan().Schema != "a" {
		t.Error(err, writers(table.Plan()), table.Plan().Schema)
	}
	if _, err := table.Funnel("a"); err == nil {
		t.Error("two funnels")
	}
	open()
	table.SetView(view(1, "a:x"))
	if writers(table.Plan()) != "a b" {
		t.Error("an older view was taken")
	}
}

func TestPoliciesAreWrittenAsTheyAreRead(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"spread", "pinned", "pinned:m2", "2"} {
		p, err := ParsePolicy(s)
		if err != nil || p.String() != s {
			t.Errorf("%s: %s %v", s, p, err)
		}
	}
	for _, s := range []string{"0", "-1", "many", "two"} {
		if _, err := ParsePolicy(s); err == nil {
			t.Errorf("%s was accepted", s)
		}
	}
}

func TestADrainedMemberLingersWhereItCouldStillServe(t *testing.T) {
	t.Parallel()
	table := New()
	table.SetView(view(1, "a:wr", "b:wr", "c:r"))
	for _, m := range []string{"a", "c"} {
		if err := table.Drain(m); err != nil {
			t.Fatal(err)
		}
	}
	lingers := func() string {
		var out []string
		for _, m := range table.Plan().Members {
			for _, s := range []Service{Write, Read} {
				if m.Lingers(s) {
					out = append(out, m.Name+":"+s.String())
				}
				if m.Drained && m.Serves(s) {
					t.Errorf("%s is drained and serves a %s", m.Name, s)
				}
			}
		}
		return strings.Join(out, " ")
	}
	if got := lingers(); got != "a:write a:read c:read" {
		t.Error(got)
	}
	release, err := table.Funnel("b")
	if err != nil {
		t.Fatal(err)
	}
	if got := lingers(); got != "a:read c:read" {
		t.Errorf("while all writes go to b: %s", got)
	}
	release()
	table.SetView(view(2, "a:x", "b:wr", "c:r"))
	if got := lingers(); got != "c:read" {
		t.Errorf("a is down: %s", got)
	}
}

func TestAMemberThatRefusesIsLostButMayStillAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		state         topology.State
		failure       topology.Failure
		quorum        topology.Quorum
		lost, refuses bool
	}{
		"online":                               {topology.Online, "", topology.HasQuorum, false, false},
		"nobody listens":                       {topology.Down, topology.Refused, topology.HasQuorum, true, true},
		"nobody listens, and no majority":      {topology.Down, topology.Refused, topology.NoGroup, true, true},
		"silent, the majority goes on":         {topology.Down, "", topology.HasQuorum, true, false},
		"silent, as everybody is":              {topology.Down, "", topology.NoGroup, false, false},
		"the majority does not hear it":        {topology.Unreachable, "", topology.HasQuorum, true, false},
		"it answers and is not in the group":   {topology.Offline, "", topology.HasQuorum, false, false},
		"it is in the smaller part of a group": {topology.Isolated, "", topology.HasQuorum, true, false},
	} {
		v := view(1, "a:wr")
		v.Quorum, v.Members[0].State, v.Members[0].Failure = c.quorum, c.state, c.failure
		table := New()
		table.SetView(v)
		if m := table.Plan().Member("a"); m.Lost() != c.lost || m.Refuses() != c.refuses {
			t.Errorf("%s: lost %v, refuses %v", name, m.Lost(), m.Refuses())
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add("spread")
	f.Add("pinned:m2")
	f.Add("3")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePolicy(text)
		if err != nil {
			return
		}
		if again, err := ParsePolicy(p.String()); err != nil || again != p {
			t.Errorf("%q is %v, written %q, read %v %v", text, p, p.String(), again, err)
		}
	})
}
