package plan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/state"
)

var errKilled = errors.New("killed")

// ledger is a world that steps change: each step adds its name, its undo takes
// it away. It notes what it sees that must never be.
type ledger struct {
	there   map[string]bool
	refuse  string // step that a safety rule forbids
	fail    string // step that fails half way
	stays   string // step whose undo fails
	undoing bool
	wrong   []string
}

func (l *ledger) Do(_ context.Context, s *Step, j Journal) error {
	if l.undoing {
		l.wrong = append(l.wrong, "went forward again: "+s.Verb)
	}
	if s.Verb == l.refuse {
		return Refuse("ask a human", "%s would hurt", s.Verb)
	}
	if s.Before == nil {
		s.Before = map[string]string{"there": fmt.Sprint(l.there[s.Verb])}
		if err := j.Save(); err != nil {
			return err
		}
	}
	l.there[s.Verb] = true
	j.Note("%s is there", s.Verb)
	if s.Verb == l.fail {
		return errors.New("disk full")
	}
	return nil
}

func (l *ledger) Undo(_ context.Context, s *Step, _ Journal) error {
	l.undoing = true
	if s.Verb == l.stays {
		return errors.New("it clings")
	}
	if s.Before != nil && s.Before["there"] == "false" {
		delete(l.there, s.Verb)
	}
	return nil
}

// play runs a plan of five steps; the process is killed after the writes whose
// numbers are in kills, counted over all its lives. It returns the plan, its
// world, and how often the journal was written.
func play(t *testing.T, l *ledger, kills ...int) (Plan, int) {
	t.Helper()
	store := state.NewMemory()
	doc := state.NewDoc[Plan](store, "plan")
	p := Plan{ID: "p", State: Running}
	for _, v := range []string{"a", "b", "c", "d", "e"} {
		p.Steps = append(p.Steps, Step{Verb: v, State: Waiting})
	}
	if _, err := doc.Put(t.Context(), p, 0, state.Fence{}); err != nil {
		t.Fatal(err)
	}
	l.there = map[string]bool{"was": true}
	writes := 0
	for range 100 {
		ctx, kill := context.WithCancelCause(t.Context())
		r := Runner{Doc: doc, Node: "n1", Actor: l, Written: func(Plan) {
			writes++
			if slices.Contains(kills, writes) {
				kill(errKilled)
			}
		}}
		p, err := r.Run(ctx)
		kill(nil)
		if err == nil {
			return p, writes
		}
		if !errors.Is(err, errKilled) && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	t.Fatal("it never ends")
	return Plan{}, 0
}

// every kills the plan after each of its writes, one write a run, and after
// each pair of neighbours.
func every(t *testing.T, l func() *ledger, check func(*testing.T, Plan, *ledger)) {
	first := l()
	p, writes := play(t, first)
	check(t, p, first)
	for k := 1; k <= writes+2; k++ {
		for _, kills := range [][]int{{k}, {k, k + 1}, {k, k + 2}} {
			w := l()
			p, _ := play(t, w, kills...)
			t.Run(fmt.Sprintf("killed after writes %v", kills), func(t *testing.T) { check(t, p, w) })
		}
	}
}

func TestAPlanEndsAsIfItHadNeverBeenKilled(t *testing.T) {
	t.Parallel()
	every(t, func() *ledger { return &ledger{} }, func(t *testing.T, p Plan, l *ledger) {
		if p.State != Done || p.Done() != 5 || len(l.there) != 6 || p.Ended.IsZero() {
			t.Errorf("state %s, %d steps done, world %v", p.State, p.Done(), l.there)
		}
		if l.undoing || len(l.wrong) > 0 {
			t.Errorf("it took something back: %v", l.wrong)
		}
	})
}

func TestAFailedPlanIsTakenBackAsIfItHadNeverBeenKilled(t *testing.T) {
	t.Parallel()
	every(t, func() *ledger { return &ledger{fail: "d"} }, func(t *testing.T, p Plan, l *ledger) {
		if p.State != Undone || len(l.there) != 1 {
			t.Errorf("state %s, world %v", p.State, l.there)
		}
		if p.Error != "d: disk full" || p.Refused {
			t.Errorf("error %q, refused %v", p.Error, p.Refused)
		}
		if p.Steps[4].State != Waiting || p.Steps[3].State != TakenBack {
			t.Errorf("the last steps are %s and %s", p.Steps[3].State, p.Steps[4].State)
		}
		if len(l.wrong) > 0 {
			t.Error(l.wrong)
		}
	})
}

func TestWhatCannotBeTakenBackIsNamed(t *testing.T) {
	t.Parallel()
	every(t, func() *ledger { return &ledger{fail: "d", stays: "b"} }, func(t *testing.T, p Plan, l *ledger) {
		if p.State != Failed || !l.there["b"] || l.there["a"] || l.there["c"] || l.there["d"] {
			t.Errorf("state %s, world %v", p.State, l.there)
		}
		if !strings.Contains(p.Error, "d: disk full") || !strings.Contains(p.Error, "b could not be taken back: it clings") {
			t.Errorf("error %q", p.Error)
		}
		if len(l.wrong) > 0 {
			t.Error(l.wrong)
		}
	})
}

func TestARefusedStepTakesThePlanBackAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	l := &ledger{refuse: "c"}
	p, _ := play(t, l)
	if p.State != Undone || !p.Refused || p.Error != "refused: c would hurt" || p.Hint != "ask a human" || len(l.there) != 1 {
		t.Errorf("%s, refused %v, error %q, hint %q, world %v", p.State, p.Refused, p.Error, p.Hint, l.there)
	}
}

// A node that lost the lease must not write another word, and the plan is left
// for the next leader as it is.
func TestAStaleNodeLeavesThePlanAlone(t *testing.T) {
	t.Parallel()
	store := state.NewMemory()
	store.SetTerm("control", 7)
	doc := state.NewDoc[Plan](store, "plan")
	if _, err := doc.Put(t.Context(), Plan{State: Running, Steps: []Step{{Verb: "a", State: Waiting}, {Verb: "b", State: Waiting}}}, 0, state.Fence{}); err != nil {
		t.Fatal(err)
	}
	l := &ledger{there: map[string]bool{}}
	r := Runner{Doc: doc, Fence: state.Fence{Lease: "control", Epoch: 7}, Actor: l, Written: func(p Plan) {
		if p.Steps[0].State == StepDone {
			store.SetTerm("control", 8)
		}
	}}
	if _, err := r.Run(t.Context()); !errors.Is(err, state.ErrStale) {
		t.Fatalf("it ended with %v", err)
	}
	p, _, err := doc.Get(t.Context())
	if err != nil || p.State != Running || p.Steps[1].State != Waiting || l.there["b"] {
		t.Errorf("%v: state %s, second step %s, world %v", err, p.State, p.Steps[1].State, l.there)
	}
	r.Fence.Epoch = 8
	if p, err = r.Run(t.Context()); err != nil || p.State != Done || p.Epoch != 8 {
		t.Errorf("the next leader ends it with %v: %s in epoch %d", err, p.State, p.Epoch)
	}
}

func TestRunningAnEndedPlanChangesNothing(t *testing.T) {
	t.Parallel()
	doc := state.NewDoc[Plan](state.NewMemory(), "plan")
	for i, s := range []State{Done, Undone, Failed} {
		rev, err := doc.Put(t.Context(), Plan{State: s, Steps: []Step{{Verb: "a", State: Waiting}}}, state.Revision(i), state.Fence{})
		if err != nil {
			t.Fatal(err)
		}
		l := &ledger{there: map[string]bool{}}
		r := Runner{Doc: doc, Actor: l}
		p, err := r.Run(t.Context())
		_, now, _ := doc.Get(t.Context())
		if err != nil || p.State != s || len(l.there) > 0 || now != rev {
			t.Errorf("%s: %v, %s, world %v, revision %d to %d", s, err, p.State, l.there, rev, now)
		}
	}
}
