// Package plan keeps the journal of a change that takes several steps.
//
// A plan is one document in the control store. It is written before a step
// begins and after it ended, always under the fence of the lease: whoever
// leads next finds out what was done, what was begun, and what comes next.
//
// The rules that make it safe to kill a node anywhere:
//
//   - a step looks first and does only what is missing, so doing it twice is
//     the same as doing it once;
//   - a step that was begun and not ended is simply done again;
//   - when a step fails, the steps before it are undone in reverse, and each
//     undo obeys the same two rules;
//   - a plan ends in exactly one state, and a plan that has begun to undo
//     never goes forward again.
package plan

import (
	"errors"
	"fmt"
	"time"
)

// State of a plan.
type State string

// States of a plan. Running and Undoing go on after a crash.
const (
	Running State = "running"
	Undoing State = "undoing"
	Done    State = "done"
	Undone  State = "undone" // it failed, and everything is as it was
	Failed  State = "failed" // it failed, and not all could be taken back
)

// Over tells whether the plan has ended.
func (s State) Over() bool { return s == Done || s == Undone || s == Failed }

// StepState is where one step stands.
type StepState string

// States of a step.
const (
	Waiting    StepState = "waiting"
	Begun      StepState = "begun"
	StepDone   StepState = "done"
	StepFailed StepState = "failed"
	TakingBack StepState = "taking-back"
	TakenBack  StepState = "taken-back"
)

// Step is one thing to do.
type Step struct {
	Verb   string            `json:"verb"`
	Member string            `json:"member,omitempty"`
	Args   map[string]string `json:"args,omitempty"`
	// Before holds what the step changed, as it was, so that it can be undone.
	// It is written before the change is made.
	Before map[string]string `json:"before,omitempty"`
	// Keep marks a place to which the plan is taken back and no further: once
	// the step is done, it and what came before it stand.
	Keep bool `json:"keep,omitempty"`
	// Final marks a step after whose beginning there is no way back: a human
	// cannot abort the plan any more.
	Final bool `json:"final,omitempty"`
	// Whole marks a step that is not broken off half way: an abort waits for its
	// end. Steps without the mark are left where they are, and undone.
	Whole bool      `json:"whole,omitempty"`
	State StepState `json:"state"`
	Note  string    `json:"note,omitempty"` // progress, then result
	Begin time.Time `json:"begin,omitzero"`
	End   time.Time `json:"end,omitzero"`
}

func (s Step) String() string {
	if s.Member == "" {
		return s.Verb
	}
	return s.Verb + " " + s.Member
}

// Plan is the journal of one change.
type Plan struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Title   string    `json:"title"` // one sentence for people
	State   State     `json:"state"`
	Steps   []Step    `json:"steps"`
	Error   string    `json:"error,omitempty"`
	Hint    string    `json:"hint,omitempty"`
	Refused bool      `json:"refused,omitempty"` // a safety rule said no
	Actor   string    `json:"actor,omitempty"`   // who asked
	Aborted string    `json:"aborted,omitempty"` // who wanted it taken back
	Node    string    `json:"node,omitempty"`    // who did the newest step
	Epoch   int64     `json:"epoch,omitempty"`   // under which term
	Created time.Time `json:"created"`
	Ended   time.Time `json:"ended,omitzero"`
}

// RefusedError says why a safety rule forbids something. Nothing was changed.
type RefusedError struct {
	Found string // what was found
	Hint  string // the next command
}

func (e *RefusedError) Error() string { return "refused: " + e.Found }

// Refuse makes a RefusedError.
func Refuse(hint, format string, args ...any) error {
	return &RefusedError{Found: fmt.Sprintf(format, args...), Hint: hint}
}

// HintedError is a failure with the next command to try.
type HintedError struct {
	Err  error
	Hint string
}

func (e *HintedError) Error() string { return e.Err.Error() }
func (e *HintedError) Unwrap() error { return e.Err }

// Hint returns what an error advises, or "".
func Hint(err error) string {
	if r, ok := errors.AsType[*RefusedError](err); ok {
		return r.Hint
	}
	if h, ok := errors.AsType[*HintedError](err); ok {
		return h.Hint
	}
	return ""
}

// Abortable refuses if the plan cannot be taken back, or not any more.
func (p *Plan) Abortable() error {
	switch {
	case p.State.Over():
		return Refuse("`perdure op list`", "%s has ended: %s. There is nothing to take back.", p.ID, p.State)
	case p.State == Undoing:
		return Refuse("wait for it with `perdure op watch "+p.ID+"`", "%s is being taken back already: %s", p.ID, p.Error)
	}
	for i, s := range p.Steps {
		if s.Final && s.State != Waiting {
			return Refuse("wait for it with `perdure op watch "+p.ID+"`",
				"%s is past the point of no return: step %d, %s, cannot be taken back. It goes on.", p.Title, i+1, s)
		}
	}
	return nil
}

// Done counts the steps that are done.
func (p *Plan) Done() int {
	n := 0
	for _, s := range p.Steps {
		if s.State == StepDone {
			n++
		}
	}
	return n
}
