package rule

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/event"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds int, kind event.Kind, member string) event.Event {
	e := event.New(kind, "member/"+member, fmt.Sprintf("%s at %d", kind, seconds))
	e.Time, e.Cluster = t0.Add(time.Duration(seconds)*time.Second), "shop"
	return e
}

func names(all []due) string {
	var out []string
	for _, d := range all {
		out = append(out, d.target+":"+string(d.event.Kind))
	}
	return strings.Join(out, " ")
}

func TestRulesSendEventsWhereTheySay(t *testing.T) {
	t.Parallel()
	rules := []Rule{
		{Name: "crash", Match: event.Matcher{Kinds: []string{"member.*"}, Severity: event.Critical}, Notify: []string{"ops"}, Hooks: []string{"dns"}},
		{Name: "m2", Match: event.Matcher{Members: []string{"m2"}}, Last: true},
		{Name: "all", Notify: []string{"mail", "ops"}},
		{Name: "loop", Match: event.Matcher{Kinds: []string{"hook.*"}}, Hooks: []string{"dns"}},
	}
	dead := event.New(event.NotifyDead, "notify/ops", "").With("target", "notify/ops")
	dead.Time = t0
	failed := event.New(event.HookFailed, "hook/dns", "")
	failed.Time = t0
	for _, c := range []struct {
		name string
		e    event.Event
		want string
	}{
		{"two rules fit", at(0, event.MemberCrashed, "m1"), "notify/ops:member.crashed hook/dns:member.crashed notify/mail:member.crashed notify/ops:member.crashed"},
		{"not severe enough for the first", at(0, event.MemberJoined, "m1"), "notify/mail:member.joined notify/ops:member.joined"},
		{"a rule is the last", at(0, event.MemberJoined, "m2"), ""},
		{"a channel is not told of its own failure", dead, "notify/mail:notify.dead"},
		{"a hook does not start hooks", failed, "notify/mail:hook.failed notify/ops:hook.failed"},
		{"what cannot be read", event.Event{}, ""},
	} {
		if got := names(decide(c.e, rules, nil, &place{})); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	hits := explain(at(0, event.MemberJoined, "m2"), rules, nil)
	if len(hits) != 4 || hits[0].Matches || !hits[1].Matches || hits[2].Matches || !strings.Contains(hits[2].Why, "m2 is the last") {
		t.Errorf("explained %+v", hits)
	}
}

func TestSilencesKeepMessagesBackAndNotHooks(t *testing.T) {
	t.Parallel()
	rules := []Rule{{Name: "all", Notify: []string{"ops"}, Hooks: []string{"dns"}}}
	s := []Silence{{ID: "s1", Match: event.Matcher{Members: []string{"m1"}}, From: t0, Until: t0.Add(time.Minute), Who: "anna"}}
	p := &place{}
	for seconds, want := range map[int]string{
		-1: "notify/ops:member.crashed hook/dns:member.crashed", 0: "hook/dns:member.crashed", 59: "hook/dns:member.crashed",
		60: "notify/ops:member.crashed hook/dns:member.crashed",
	} {
		if got := names(decide(at(seconds, event.MemberCrashed, "m1"), rules, s, p)); got != want {
			t.Errorf("at %d: %s, want %s", seconds, got, want)
		}
	}
	if got := names(decide(at(1, event.MemberCrashed, "m2"), rules, s, p)); !strings.HasPrefix(got, "notify") {
		t.Errorf("another member was silenced, too: %s", got)
	}
	if p.Hushed["s1"] != 2 {
		t.Errorf("%d messages were counted, want 2", p.Hushed["s1"])
	}
	if hits := explain(at(1, event.MemberCrashed, "m1"), rules, s); !strings.Contains(hits[0].Silenced, "anna") {
		t.Errorf("explained %+v", hits)
	}
}

func TestAThousandFlapsAreAFewMessages(t *testing.T) {
	t.Parallel()
	rules := []Rule{{Name: "all", Notify: []string{"ops"}, Hooks: []string{"dns"}, Flap: Flap{Limit: 5}}}
	p := &place{}
	messages, runs := 0, 0
	var last event.Event
	for i := range 1000 {
		kind := event.MemberSuspect
		if i%2 == 1 {
			kind = event.MemberRecovered
		}
		e := at(i, kind, "m1")
		for _, d := range decide(e, rules, nil, p) {
			if d.hook {
				runs++
			} else {
				messages++
			}
			last = d.event
		}
		if other := decide(at(i, event.MemberLagging, fmt.Sprintf("x%d", i%300)), rules, nil, p); len(other) == 0 {
			t.Fatalf("at %d an event about another subject was held back", i)
		}
		for _, d := range calm(e.Time, rules, nil, p) {
			t.Fatalf("calm at %d: %s", i, d.event.Text)
		}
	}
	if messages != 6 || runs != 5 || last.Kind != event.NotifyFlapping {
		t.Errorf("%d messages and %d runs for a thousand flaps, the last is %s", messages, runs, last.Kind)
	}
	end := calm(t0.Add(1700*time.Second), rules, nil, p)
	if got := names(end); got != "notify/ops:notify.calm hook/dns:member.recovered" {
		t.Fatalf("at the end: %s", got)
	}
	if end[0].event.Facts["held"] != "995" || !strings.Contains(end[0].event.Text, "member.recovered at 999") {
		t.Errorf("the last message: %+v", end[0].event)
	}
	if len(decide(at(2000, event.MemberSuspect, "m1"), rules, nil, p)) != 2 {
		t.Error("after the calm messages are still held back")
	}
}

func TestWhileItGoesOnThereIsAMessageAnHour(t *testing.T) {
	t.Parallel()
	rules := []Rule{{Name: "all", Notify: []string{"ops"}, Flap: Flap{Limit: 1, Within: event.Duration(time.Minute)}}}
	p := &place{}
	messages := 0
	for i := range 4 * 360 { // four hours, one every ten seconds
		messages += len(decide(at(10*i, event.MemberSuspect, "m1"), rules, nil, p))
	}
	if messages != 5 { // the first, "held back", three times "still"
		t.Errorf("%d messages", messages)
	}
}

func TestReadingAgainDecidesTheSame(t *testing.T) {
	t.Parallel()
	rules := []Rule{{Name: "all", Notify: []string{"ops"}, Flap: Flap{Limit: 3}}}
	var events []event.Event
	for i := range 10 {
		events = append(events, at(i, event.MemberSuspect, "m1"))
	}
	ids := func() (out []string) {
		p := &place{}
		for _, e := range events {
			for _, d := range decide(e, rules, nil, p) {
				out = append(out, event.IDOf(d.event.ID, d.target))
			}
		}
		return out
	}
	if a, b := fmt.Sprint(ids()), fmt.Sprint(ids()); a != b {
		t.Errorf("\n%s\n%s", a, b)
	}
}

func TestPausesDoubleUpToALimit(t *testing.T) {
	t.Parallel()
	p := Policy{}.withDefaults()
	for failures, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 7: 30 * time.Second, 1000: 30 * time.Second} {
		if got := p.pause(failures, 0.5); got != want {
			t.Errorf("after %d failures %s, want %s", failures, got, want)
		}
	}
	if low, high := p.pause(1, 0), p.pause(1, 0.999); low != 800*time.Millisecond || high < 1190*time.Millisecond {
		t.Errorf("jitter from %s to %s", low, high)
	}
}

func TestMistakesInRulesAreNamed(t *testing.T) {
	t.Parallel()
	err := Check([]Rule{
		{Name: "A"}, {Name: "b", Notify: []string{"nobody"}, Hooks: []string{"nothing"}, Match: event.Matcher{Kinds: []string{"no.such"}}}, {Name: "b", Notify: []string{"ops"}},
	}, []string{"ops"}, nil)
	for _, want := range []string{"rules[0].name", "rules[0]: it neither", `rules[1].notify[0]: there is no channel "nobody"`, "rules[1].hooks[0]", "rules[1].match", "two rules are called b"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("lacks %q:\n%v", want, err)
		}
	}
	if err := Check(Default([]string{"ops"}), []string{"ops"}, nil); err != nil {
		t.Errorf("the default rules: %v", err)
	}
}
