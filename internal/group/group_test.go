package group

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/state"
)

func TestAPlanThatNobodyWillCarryOutIsNotCalledRunning(t *testing.T) {
	t.Parallel()
	now := time.Now()
	old := plan.Plan{ID: "p", State: plan.Running, Created: now.Add(-time.Hour), Steps: []plan.Step{{Verb: "join", State: plan.Waiting}}}
	if got := neverBegun(old, current{}, now); got.State != plan.Undone {
		t.Errorf("it is %s", got.State)
	}
	if got := neverBegun(old, current{Plan: "p"}, now); got.State != plan.Running {
		t.Errorf("the current one is %s", got.State)
	}
	young := old
	young.Created = now
	if got := neverBegun(young, current{}, now); got.State != plan.Running {
		t.Errorf("one that was made just now is %s", got.State)
	}
}

// meanwhile is a store in which something happens before a plan is written.
type meanwhile struct {
	state.Store
	happens func()
}

func (m meanwhile) Put(ctx context.Context, key string, value []byte, expected state.Revision, fence state.Fence) (state.Revision, error) {
	if strings.HasPrefix(key, planPrefix) {
		m.happens()
	}
	return m.Store.Put(ctx, key, value, expected, fence)
}

// A plan is over a moment before it is no longer the current one.
func TestAPlanThatFollowsAnotherAtOnceIsNotRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, tt := range map[string]struct {
		becomes current
		refused bool
	}{
		"the last plan is cleared away": {becomes: current{}},
		"nothing happens":               {becomes: current{Plan: "last"}},
		"another plan has begun":        {becomes: current{Plan: "another"}, refused: true},
	} {
		store := state.NewMemory()
		g := New(Config{Store: meanwhile{store, func() {
			if _, err := state.NewDoc[current](store, currentKey).Change(ctx, state.Fence{}, func(c *current) error { *c = tt.becomes; return nil }); err != nil {
				t.Error(err)
			}
		}}})
		last := plan.Plan{ID: "last", State: plan.Done, Steps: []plan.Step{{Verb: "leave", State: plan.StepDone}}}
		if _, err := state.NewDoc[plan.Plan](store, planPrefix+"last").Put(ctx, last, 0, state.Fence{}); err != nil {
			t.Fatal(err)
		}
		if _, err := state.NewDoc[current](store, currentKey).Put(ctx, current{Plan: "last"}, 0, state.Fence{}); err != nil {
			t.Fatal(err)
		}
		_, err := g.submit(ctx, plan.Plan{ID: "next", Steps: []plan.Step{{Verb: "join"}}})
		if _, refused := errors.AsType[*plan.RefusedError](err); refused != tt.refused || err != nil && !refused {
			t.Errorf("%s: %v", name, err)
		}
		want := "next"
		if tt.refused {
			want = tt.becomes.Plan
		}
		if c, _, _ := g.current.Get(ctx); c.Plan != want {
			t.Errorf("%s: the current plan is %q", name, c.Plan)
		}
	}
}
