package rule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/state"
)

// Source is the stream of events.
type Source interface {
	// Read returns events from a sequence on, in order; it waits for the first.
	Read(ctx context.Context, from uint64) ([]event.Stored, error)
	Range(ctx context.Context) (event.Range, error)
}

// Needs is what rules are made of. Channels and Hooks are by name.
type Needs struct {
	Rules    []Rule
	Channels map[string]Place
	Hooks    map[string]Place
	Node     string
	Cluster  string
	Store    state.Store
	Source   Source
	// Hold waits until this node may act; the context ends with the right to.
	Hold func(context.Context) (context.Context, state.Fence, error)
	To   event.Publisher
	Log  *slog.Logger
}

// Place is a target and how it is treated.
type Place struct {
	Target
	Policy
}

// Rules brings events to their targets, on the node that leads.
type Rules struct {
	Needs
	targets  map[string]Place // "notify/ops", "hook/dns"
	place    state.Doc[place]
	silences state.Doc[[]Silence]
	stats    stats
}

const (
	placeKey   = "rules/place"
	silenceKey = "rules/silences"
	taskPrefix = "rules/tasks/"
)

// New checks the rules. It does nothing before Run.
func New(n Needs) (*Rules, error) {
	r := &Rules{
		Needs: n, targets: map[string]Place{},
		place: state.NewDoc[place](n.Store, placeKey), silences: state.NewDoc[[]Silence](n.Store, silenceKey),
	}
	var channels, hooks []string
	for name, p := range n.Channels {
		p.Policy = p.withDefaults()
		r.targets["notify/"+name] = p
		channels = append(channels, name)
	}
	for name, p := range n.Hooks {
		p.Policy = p.withDefaults()
		r.targets["hook/"+name] = p
		hooks = append(hooks, name)
	}
	slices.Sort(channels)
	if len(r.Needs.Rules) == 0 {
		r.Needs.Rules = Default(channels)
	}
	return r, Check(r.Needs.Rules, channels, hooks)
}

// Run reads the stream and works on tasks until ctx ends, while this node leads.
func (r *Rules) Run(ctx context.Context) error {
	for {
		held, fence, err := r.Hold(ctx)
		if err != nil {
			return err
		}
		err = r.lead(held, fence)
		r.stats.forget()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.Log.Debug("this node follows the rules no longer", "err", err)
		select { // an unreachable store must not make this spin
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// errOver ends the parts of a lead when one of them has ended.
var errOver = errors.New("another part of it ended")

func (r *Rules) lead(ctx context.Context, fence state.Fence) error {
	d, err := r.openDesk(ctx, fence)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	defer all.Wait()
	part := func(run func(context.Context) error) {
		all.Go(func() {
			if err := run(ctx); err != nil {
				cancel(err)
			}
			cancel(errOver)
		})
	}
	lanes := map[string]bool{}
	for name := range r.targets {
		lanes[lane(name)] = true
	}
	for l := range lanes {
		part(func(ctx context.Context) error { return d.work(ctx, l) })
	}
	part(d.heed)
	part(d.sweep)
	part(d.take)
	<-ctx.Done()
	return context.Cause(ctx)
}

// lane is what runs one at a time: each channel by itself, all hooks together.
func lane(target string) string {
	if strings.HasPrefix(target, "hook/") {
		return "hooks"
	}
	return target
}

// readTask decodes a document of a task.
func readTask(e state.Entry) (*held, error) {
	t := &held{rev: e.Revision}
	if err := json.Unmarshal(e.Value, &t.Task); err != nil {
		return nil, fmt.Errorf("read %s: %w", e.Key, err)
	}
	return t, nil
}
