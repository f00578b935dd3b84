package plan

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/state"
)

// slow is an actor whose step b waits until it is broken off, or until may.
type slow struct {
	began chan struct{}
	may   chan struct{}
	did   []string
}

func (s *slow) Do(ctx context.Context, step *Step, _ Journal) error {
	s.did = append(s.did, "do "+step.Verb)
	if step.Verb != "b" {
		return nil
	}
	close(s.began)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.may:
		return nil
	}
}

func (s *slow) Undo(_ context.Context, step *Step, _ Journal) error {
	s.did = append(s.did, "undo "+step.Verb)
	return nil
}

func TestAbortTakesAPlanBackWhereThereIsAWay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		edit func(*Plan)
		ends bool // step b ends by itself
		want State
		did  string
	}{
		{"the step that runs is broken off", func(*Plan) {}, false, Undone, "do a, do b, undo b, undo a"},
		{"a step that is to be done whole is done", func(p *Plan) { p.Steps[1].Whole = true }, true, Undone, "do a, do b, undo b, undo a"},
		{"not further than to a step that is kept", func(p *Plan) { p.Steps[0].Keep = true }, false, Undone, "do a, do b, undo b"},
		{"past the point of no return it goes on", func(p *Plan) { p.Steps[1].Final = true }, true, Done, "do a, do b, do c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			doc := state.NewDoc[Plan](state.NewMemory(), "plan")
			p := Plan{ID: "p", Title: "the plan", State: Running}
			for _, v := range []string{"a", "b", "c"} {
				p.Steps = append(p.Steps, Step{Verb: v, State: Waiting})
			}
			c.edit(&p)
			if _, err := doc.Put(t.Context(), p, 0, state.Fence{}); err != nil {
				t.Fatal(err)
			}
			abort := make(chan string, 1)
			a := &slow{began: make(chan struct{}), may: make(chan struct{})}
			go func() {
				<-a.began
				abort <- "anna"
				if c.ends {
					close(a.may)
				}
			}()
			r := Runner{Doc: doc, Node: "n1", Actor: a, Abort: abort}
			p, err := r.Run(t.Context())
			if err != nil || p.State != c.want || strings.Join(a.did, ", ") != c.did {
				t.Errorf("%v: %s (%s): %s; want %s: %s", err, p.State, p.Error, strings.Join(a.did, ", "), c.want, c.did)
			}
			if p.State == Undone && (p.Error != "aborted by anna" || p.Aborted != "anna") {
				t.Errorf("it says %q, %q", p.Error, p.Aborted)
			}
		})
	}
}

func TestAbortIsRefusedWithASentence(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]Plan{
		"has ended: done":                     {ID: "p", State: Done},
		"being taken back already":            {ID: "p", State: Undoing},
		"step 1, force, cannot be taken back": {ID: "p", State: Running, Steps: []Step{{Verb: "force", Final: true, State: Begun}}},
	} {
		err := p.Abortable()
		if r, ok := errors.AsType[*RefusedError](err); !ok || !strings.Contains(r.Found, want) || r.Hint == "" {
			t.Errorf("%v; want a refusal that says %q and what to do", err, want)
		}
	}
	p := Plan{State: Running, Steps: []Step{{Verb: "force", Final: true, State: Waiting}}}
	if err := p.Abortable(); err != nil {
		t.Error(err)
	}
}
