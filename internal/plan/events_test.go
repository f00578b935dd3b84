package plan

import (
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/event"
)

// write is one write of the journal: states of the plan and its steps.
func write(state State, steps ...StepState) Plan {
	p := Plan{ID: "p1", Title: "grow", State: state, Error: "no disk"}
	at := time.UnixMilli(1000)
	for i, s := range steps {
		st := Step{Verb: "join", Member: "m" + string(rune('1'+i)), State: s}
		if s != Waiting {
			st.Begin = at.Add(time.Duration(i) * time.Second)
		}
		if s != Waiting && s != Begun {
			st.End = st.Begin.Add(500 * time.Millisecond)
		}
		p.Steps = append(p.Steps, st)
	}
	return p
}

func TestWritesOfTheJournalTellWhatHappened(t *testing.T) {
	t.Parallel()
	refused := write(Undone, TakenBack, Waiting)
	refused.Refused = true
	for _, c := range []struct {
		name          string
		before, after Plan
		want          string
	}{
		{"the first step begins", Plan{}, write(Running, Begun, Waiting), "plan.started plan.step-begun"},
		{"a note changes nothing", write(Running, Begun, Waiting), write(Running, Begun, Waiting), ""},
		{"a step ends", write(Running, Begun, Waiting), write(Running, StepDone, Waiting), "plan.step-done"},
		{"another node goes on in the middle", Plan{}, write(Running, StepDone, Begun), "plan.step-begun"},
		{"the plan is done", write(Running, StepDone, StepDone), write(Done, StepDone, StepDone), "plan.done"},
		{"a step fails", write(Running, StepDone, Begun), write(Undoing, StepDone, StepFailed), "plan.step-failed plan.taking-back"},
		{"a step is taken back", write(Undoing, StepDone, TakingBack), write(Undoing, StepDone, TakenBack), "plan.step-undone"},
		{"all was taken back", write(Undoing, TakenBack, Waiting), write(Undone, TakenBack, Waiting), "plan.undone"},
		{"a rule refused", write(Undoing, TakenBack, Waiting), refused, "plan.refused"},
		{"something is left", write(Undoing, StepFailed, Waiting), write(Failed, StepFailed, Waiting), "plan.failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, e := range Events(c.before, c.after) {
				got = append(got, string(e.Kind))
			}
			if g := strings.Join(got, " "); g != c.want {
				t.Errorf("told %q, want %q", g, c.want)
			}
			again := Events(c.before, c.after)
			for i, e := range Events(c.before, c.after) {
				if e.ID != again[i].ID {
					t.Errorf("%s has another ID the second time", e.Kind)
				}
			}
		})
	}
}

func TestACloneIsNewsAboutTheMember(t *testing.T) {
	t.Parallel()
	before, after := write(Running, Begun), write(Running, StepDone)
	before.Steps[0].Verb, after.Steps[0].Verb = "provision", "provision"
	after.Steps[0].Note = "cloned 120 MB in 3s (40 MB/s)"
	events := Events(before, after)
	if len(events) != 2 || events[1].Kind != event.MemberRebuilt || events[1].Subject != "member/m1" {
		t.Errorf("told %+v", events)
	}
}

func TestTellerPublishesEachTransitionOnce(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	tell := Teller{To: event.Func(func(e event.Event) { seen[e.ID]++ }), Cluster: "shop"}
	for _, p := range []Plan{
		write(Running, Begun, Waiting), write(Running, Begun, Waiting), write(Running, StepDone, Waiting),
		write(Running, StepDone, Begun), write(Running, StepDone, StepDone), write(Done, StepDone, StepDone),
	} {
		tell.Written(p)
	}
	if len(seen) != 6 {
		t.Errorf("%d events, want 6", len(seen))
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("event %s came %d times", id, n)
		}
	}
}
