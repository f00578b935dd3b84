package rule

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/state"
)

// Any node may be asked and told what is in this file.

// ErrNoTask, ErrNoSilence and ErrNoTarget are returned for names nobody knows.
var (
	ErrNoTask    = errors.New("no such task")
	ErrNoSilence = errors.New("no such silence")
	ErrNoTarget  = errors.New("no such channel or hook")
)

// Match says what every rule would do with an event.
func (r *Rules) Match(ctx context.Context, e event.Event) ([]Hit, error) {
	s, err := r.Silences(ctx)
	return explain(e, r.Needs.Rules, s), err
}

// Tasks returns the newest tasks, the newest first; of one target and in one
// state if these are not empty.
func (r *Rules) Tasks(ctx context.Context, target string, in State, limit int) ([]Task, error) {
	entries, err := r.Store.List(ctx, taskPrefix)
	if err != nil {
		return nil, err
	}
	var out []Task
	for _, e := range entries {
		t, err := readTask(e)
		if err != nil || (target != "" && t.Target != target) || (in != "" && t.State != in) {
			continue
		}
		out = append(out, t.Task)
	}
	slices.SortFunc(out, func(a, b Task) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.Order, a.Order)) })
	return out[:min(limit, len(out))], nil
}

// Redrive tries a task again that is dead or was skipped.
func (r *Rules) Redrive(ctx context.Context, id string) error {
	_, err := state.NewDoc[Task](r.Store, taskPrefix+id).Change(ctx, state.Fence{}, func(t *Task) error {
		switch t.State {
		case "":
			return fmt.Errorf("%s: %w", id, ErrNoTask)
		case Waiting, Done:
			return fmt.Errorf("task %s is %s: only dead and skipped ones can be tried again", id, t.State)
		}
		now := time.Now().UTC()
		t.State, t.Next, t.Created, t.Ended, t.Attempts = Waiting, now, now, time.Time{}, 0
		return nil
	})
	return err
}

// Discard removes a task, whatever its state.
func (r *Rules) Discard(ctx context.Context, id string) error {
	for {
		e, err := r.Store.Get(ctx, taskPrefix+id)
		if err != nil {
			return err
		}
		if e.Revision == 0 {
			return fmt.Errorf("%s: %w", id, ErrNoTask)
		}
		err = r.Store.Delete(ctx, e.Key, e.Revision, state.Fence{})
		if !errors.Is(err, state.ErrConflict) {
			return err
		}
	}
}

// Silence keeps messages back and returns the silence with its ID.
func (r *Rules) Silence(ctx context.Context, s Silence) (Silence, error) {
	now := time.Now().UTC()
	s.ID = event.NewID()[:12]
	s.From, s.Until = cmp.Or(s.From, now), s.Until.UTC()
	if err := s.Match.Check(); err != nil {
		return s, err
	}
	if !s.Until.After(s.From) || !s.Until.After(now) {
		return s, errors.New("a silence needs an end in the future")
	}
	if s.Who == "" {
		return s, errors.New("a silence needs somebody who answers for it")
	}
	_, err := r.silences.Change(ctx, state.Fence{}, func(all *[]Silence) error {
		*all = slices.DeleteFunc(*all, func(o Silence) bool { return now.Sub(o.Until) > 24*time.Hour })
		if len(*all) >= 200 {
			return errors.New("there are 200 silences already; end some")
		}
		*all = append(*all, s)
		return nil
	})
	if err == nil {
		r.note(s, fmt.Sprintf("%s silenced messages until %s %s", s.Who, s.Until.Format(time.DateTime), s.Why))
	}
	return s, err
}

// Unsilence ends a silence.
func (r *Rules) Unsilence(ctx context.Context, id, who string) error {
	var ended Silence
	_, err := r.silences.Change(ctx, state.Fence{}, func(all *[]Silence) error {
		i := slices.IndexFunc(*all, func(s Silence) bool { return s.ID == id })
		if i < 0 {
			return fmt.Errorf("%s: %w", id, ErrNoSilence)
		}
		ended = (*all)[i]
		*all = slices.Delete(*all, i, i+1)
		return nil
	})
	if err == nil {
		r.note(ended, who+" ended a silence of "+ended.Who)
	}
	return err
}

func (r *Rules) note(s Silence, text string) {
	e := event.New(event.NotifySilenced, "silence/"+s.ID, text)
	e.Cluster, e.Node = r.Cluster, r.Node
	r.To.Publish(e.With("who", s.Who).With("why", s.Why))
}

// Silences returns those that are in force or will be.
func (r *Rules) Silences(ctx context.Context) ([]Silence, error) {
	all, _, err := r.silences.Get(ctx)
	now := time.Now()
	return slices.DeleteFunc(all, func(s Silence) bool { return !s.Until.After(now) }), err
}

// Tested is what came of a test.
type Tested struct {
	Target  string        `json:"target"`
	Event   event.Event   `json:"event"`
	Receipt string        `json:"receipt,omitempty"`
	Error   string        `json:"error,omitempty"`
	Took    time.Duration `json:"took_ns"`
}

// Test brings a test event to a channel at once, from this node. It keeps no
// task and tries once.
func (r *Rules) Test(ctx context.Context, channel, who string) (Tested, error) {
	p, ok := r.targets["notify/"+channel]
	if !ok {
		return Tested{}, fmt.Errorf("%s: %w", channel, ErrNoTarget)
	}
	e := event.New(event.NotifyTest, "notify/"+channel, "a test message, asked for by "+who+": nothing happened")
	e.Cluster, e.Node = r.Cluster, r.Node
	ctx, cancel := context.WithTimeoutCause(ctx, p.Timeout, fmt.Errorf("no answer within %s", p.Timeout))
	defer cancel()
	begin := time.Now()
	receipt, err := safely(ctx, p.Target, Task{ID: e.ID, Attempts: 1, Event: e})
	t := Tested{Target: "notify/" + channel, Event: e, Receipt: receipt, Took: time.Since(begin)}
	if err != nil {
		t.Error = err.Error()
	}
	return t, nil
}

// List returns the rules in force.
func (r *Rules) List() []Rule { return r.Needs.Rules }

// Hushed returns how many messages each silence kept back.
func (r *Rules) Hushed(ctx context.Context) (map[string]int, error) {
	p, _, err := r.place.Get(ctx)
	return p.Hushed, err
}
