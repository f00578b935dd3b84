package hook

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/event"
)

// Action is something built in that a hook can do. It looks first and does what
// is missing: it may be called again with the same id.
type Action func(ctx context.Context, id string, e event.Event, with map[string]string) (receipt string, err error)

// Post sends an event over HTTP: to, the secret for the signature or "", and
// what the other side said. It is what a webhook does.
type Post func(ctx context.Context, to HTTP, id string, e event.Event) (receipt string, err error)

// Needs is what hooks are made of.
type Needs struct {
	// Secret reads what a reference leads to.
	Secret func(reference string) (string, error)
	// Still reads the truth again: is what the event said still so? It must not
	// answer from what was known before the call.
	Still   func(context.Context, event.Event) (bool, error)
	Actions map[string]Action
	Post    Post
}

// Hook runs one thing. It keeps nothing between attempts.
type Hook struct {
	cfg   Config
	needs Needs
}

// New returns the hook of a configuration that Check accepts.
func New(cfg Config, needs Needs) (*Hook, error) {
	if err := Check([]Config{cfg}, slices.Sorted(maps.Keys(needs.Actions))); err != nil {
		return nil, err
	}
	return &Hook{cfg: cfg, needs: needs}, nil
}

// Timeout is how long one run may take; package rule adds a little for the
// look before and the cleaning up after.
func (h *Hook) Timeout() time.Duration { return h.cfg.Timeout.Or(defaultTimeout) }

// Attempts is how often it is tried.
func (h *Hook) Attempts() int { return cmp.Or(h.cfg.Attempts, defaultAttempts) }

// Kind says what the hook is: command, http, action.
func (h *Hook) Kind() string {
	switch {
	case len(h.cfg.Command) > 0:
		return "command"
	case h.cfg.HTTP != nil:
		return "http"
	}
	return "action"
}

// skippedError says that a hook was not run because what called for it is over.
type skippedError struct{ text string }

func (e *skippedError) Error() string { return e.text }

// Final is the state the task ends in.
func (*skippedError) Final() string { return "skipped" }

// hopelessError says that trying again is of no use.
type hopelessError struct{ err error }

func (e *hopelessError) Error() string { return e.err.Error() }
func (e *hopelessError) Unwrap() error { return e.err }

// Final is the state the task ends in.
func (*hopelessError) Final() string { return "dead" }

// Attempt reads the truth again and runs the hook once. An error with a method
// Final says that trying again is of no use, or not called for any more.
func (h *Hook) Attempt(ctx context.Context, id string, attempt int, e event.Event) (receipt string, err error) {
	if err := h.still(ctx, e); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, h.Timeout(), fmt.Errorf("it did not end within %s", h.Timeout()))
	defer cancel()
	switch {
	case len(h.cfg.Command) > 0:
		return h.command(ctx, id, attempt, e)
	case h.cfg.HTTP != nil:
		return h.needs.Post(ctx, *h.cfg.HTTP, id, e)
	}
	return h.needs.Actions[h.cfg.Action](ctx, id, e, h.cfg.With)
}

func (h *Hook) still(ctx context.Context, e event.Event) error {
	if h.cfg.Always || h.needs.Still == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	so, err := h.needs.Still(ctx, e)
	switch {
	case err != nil:
		return fmt.Errorf("whether it is still so cannot be told: %w", err)
	case !so:
		return &skippedError{"not run: what " + string(e.Kind) + " said is not so any more"}
	}
	return nil
}

// Rehearsal is what a hook would do.
type Rehearsal struct {
	Hook    string   `json:"hook"`
	Kind    string   `json:"kind"`
	Still   string   `json:"still"` // yes, no, or why it cannot be told
	Command []string `json:"command,omitempty"`
	User    string   `json:"user,omitempty"`
	Environ []string `json:"environ,omitempty"` // names only where the value is a secret
	URL     string   `json:"url,omitempty"`
	Action  string   `json:"action,omitempty"`
	Input   string   `json:"input,omitempty"` // what it gets to read
	Problem string   `json:"problem,omitempty"`
}

// DryRun says what an attempt would do now, and does nothing.
func (h *Hook) DryRun(ctx context.Context, id string, e event.Event) Rehearsal {
	r := Rehearsal{Hook: h.cfg.Name, Kind: h.Kind(), Still: "yes", Command: h.cfg.Command, Action: h.cfg.Action}
	if err := h.still(ctx, e); err != nil {
		r.Still = err.Error()
	}
	if b, err := json.MarshalIndent(e, "", "  "); err == nil {
		r.Input = string(b)
	}
	if h.cfg.HTTP != nil {
		r.URL = h.cfg.HTTP.URL
	}
	if len(h.cfg.Command) == 0 {
		return r
	}
	environ, err := h.environ(id, 1, e)
	if err != nil {
		r.Problem = err.Error()
	}
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if _, secret := h.cfg.Secrets[name]; secret {
			v = name + "=***"
		}
		r.Environ = append(r.Environ, v)
	}
	if r.User, err = h.account(); err != nil {
		r.Problem = err.Error()
	}
	return r
}
