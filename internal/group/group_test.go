package group

import (
	"testing"
	"time"

	"github.com/perdure/perdure/internal/plan"
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
