package plan

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/event"
)

// Events says what a write of the journal tells beyond the write before it. It
// reads nothing but its arguments. Without a write before (the zero Plan) the
// plan is new, or goes on after somebody else's steps, which were told then.
//
// The same transition has the same event ID whoever tells it.
func Events(before, after Plan) []event.Event {
	j := journalist{plan: after}
	fresh := before.ID != after.ID
	if fresh && untouched(after) {
		j.tell(event.PlanStarted, "", after.Title+": began", "")
	}
	last := newest(after)
	for i, s := range after.Steps {
		switch {
		case fresh && i != last:
			continue
		case !fresh && i < len(before.Steps) && before.Steps[i].State == s.State && before.Steps[i].Begin.Equal(s.Begin):
			continue
		}
		j.step(i, s)
	}
	if !fresh && before.State == after.State {
		return j.events
	}
	switch {
	case after.State == Undoing && after.Aborted != "":
		j.tell(event.PlanTakingBack, "", after.Title+": "+after.Error+", is being taken back", "")
	case after.State == Undone && after.Aborted != "":
		j.tell(event.PlanUndone, "", after.Title+": "+after.Error+", everything is as it was", "")
	case after.State == Undoing:
		j.tell(event.PlanTakingBack, "", after.Title+": failed and is being taken back: "+after.Error, "")
	case after.State == Done:
		j.tell(event.PlanDone, "", after.Title+": done", "")
	case after.State == Undone && after.Refused:
		j.tell(event.PlanRefused, "", after.Title+": "+after.Error, "")
	case after.State == Undone:
		j.tell(event.PlanUndone, "", after.Title+": failed, everything is as it was: "+after.Error, "")
	case after.State == Failed:
		j.tell(event.PlanFailed, "", after.Title+": failed, and not all could be taken back: "+after.Error, "")
	}
	return j.events
}

// untouched tells whether no step has ended yet.
func untouched(p Plan) bool {
	for _, s := range p.Steps {
		if s.State != Waiting && s.State != Begun {
			return false
		}
	}
	return p.State == Running
}

// newest is the step that changed last.
func newest(p Plan) int {
	at := -1
	for i, s := range p.Steps {
		if s.State == Waiting {
			continue
		}
		if at < 0 || !moved(p.Steps[at]).After(moved(s)) {
			at = i
		}
	}
	return at
}

func moved(s Step) time.Time {
	if s.End.After(s.Begin) {
		return s.End
	}
	return s.Begin
}

type journalist struct {
	plan   Plan
	events []event.Event
}

func (j *journalist) step(i int, s Step) {
	kind, how := event.Kind(""), ""
	switch s.State {
	case Begun:
		kind, how = event.PlanStepBegun, "began"
	case StepDone:
		kind, how = event.PlanStepDone, "done"
	case StepFailed:
		kind, how = event.PlanStepFailed, "failed"
	case TakenBack:
		kind, how = event.PlanStepUndone, "taken back"
	default:
		return
	}
	text := fmt.Sprintf("%s: step %d of %d, %s: %s", j.plan.Title, i+1, len(j.plan.Steps), s, how)
	if s.Note != "" && s.State != Begun {
		text += ": " + s.Note
	}
	j.tell(kind, fmt.Sprintf("%d/%s/%d", i, s.State, s.Begin.UnixMilli()), text, s.Member)
	e := &j.events[len(j.events)-1]
	*e = e.With("step", s.Verb)
	// A step that copied another member's data over this one's is news about
	// the member, too. Its note says so; most provisioning copies nothing.
	if s.State == StepDone && s.Verb == "provision" && strings.HasPrefix(s.Note, "cloned ") {
		j.tell(event.MemberRebuilt, fmt.Sprintf("%d/rebuilt", i), s.Member+" was rebuilt: "+s.Note, s.Member)
		j.events[len(j.events)-1].Subject = "member/" + s.Member
	}
}

func (j *journalist) tell(kind event.Kind, what, text, member string) {
	p := j.plan
	e := event.New(kind, "plan/"+p.ID, text)
	e.ID = event.IDOf("plan", p.ID, string(kind), what)
	e.Node, e.Member = p.Node, member
	for name, value := range map[string]string{
		"plan": p.ID, "plan_kind": p.Kind, "state": string(p.State), "actor": p.Actor, "error": p.Error, "hint": p.Hint, "epoch": fmt.Sprint(p.Epoch),
	} {
		e = e.With(name, value)
	}
	j.events = append(j.events, e)
}

// Teller publishes what the writes of plans tell. Its Written is what a Runner
// calls; it may be called by several goroutines.
type Teller struct {
	To      event.Publisher
	Cluster string

	mu     sync.Mutex
	before map[string]Plan
}

// Written publishes what this write tells.
func (t *Teller) Written(p Plan) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.before == nil {
		t.before = map[string]Plan{}
	}
	for _, e := range Events(t.before[p.ID], p) {
		e.Cluster = t.Cluster
		t.To.Publish(e)
	}
	p.Steps = append([]Step(nil), p.Steps...)
	t.before[p.ID] = p
	maps.DeleteFunc(t.before, func(id string, old Plan) bool { return id != p.ID && old.State.Over() })
}
