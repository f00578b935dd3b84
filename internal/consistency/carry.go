package consistency

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/pause"
	"github.com/perdure/perdure/internal/state"
)

const (
	// tellEvery is how often the progress of an audit is written down, and looked
	// whether it shall stop.
	tellEvery = time.Second
	// tryAgain is how long after a failure an audit goes on.
	tryAgain = 5 * time.Second
	// giveUpAfter is how long an audit may get no further: members that are away
	// for longer need other care first.
	giveUpAfter = 5 * time.Minute
	// maxTold bounds for how many tables of an audit a difference is told.
	maxTold = 20
)

// errOver says that there is nothing left to do for an audit.
var errOver = errors.New("the audit is over")

// errStopped is the cause with which an audit ends that somebody stopped.
var errStopped = errors.New("the audit was stopped")

// Run carries out what was asked for, while this node may act, until ctx ends.
func (a *Audits) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all.Go(func() { a.follow(ctx) })
	for {
		held, fence, err := a.Hold(ctx)
		if err != nil {
			return err
		}
		a.lead(held, fence)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// lead carries out audits until ctx ends.
func (a *Audits) lead(ctx context.Context, fence state.Fence) {
	if err := a.sweep(ctx, fence); err != nil && ctx.Err() == nil {
		a.Log.Warn("audits that were never begun are still listed as waiting", "err", err)
	}
	for cur := range a.current.Watch(ctx) {
		for cur.Audit != "" && ctx.Err() == nil {
			err := a.carryOut(ctx, fence, cur.Audit)
			if err == nil {
				break
			}
			a.Log.Warn("an audit waits", "audit", cur.Audit, "err", err)
			_ = pause.For(ctx, tellEvery)
		}
	}
}

// sweep ends audits that were asked for on a node that ended at that moment.
func (a *Audits) sweep(ctx context.Context, fence state.Fence) error {
	all, err := a.List(ctx)
	if err != nil {
		return err
	}
	cur, _, err := a.current.Get(ctx)
	if err != nil {
		return err
	}
	for _, x := range all {
		if x.State.Over() || x.ID == cur.Audit || time.Since(x.Asked) < time.Minute {
			continue
		}
		_, err := a.doc(x.ID).Change(ctx, fence, func(x *Audit) error {
			x.State, x.Ended, x.Error = Failed, time.Now().UTC(), "it was never begun: the node that was asked for it ended at that moment"
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// carryOut takes an audit to its end. An error means that its documents could
// not be written; nothing is lost by that.
func (a *Audits) carryOut(ctx context.Context, fence state.Fence, id string) error {
	doc := a.doc(id)
	first := false
	audit, err := doc.Change(ctx, fence, func(x *Audit) error {
		if x.ID == "" || x.State.Over() {
			return errOver
		}
		if first = x.Began.IsZero(); first {
			x.Began = time.Now().UTC()
		}
		x.State, x.Node = Running, a.Node
		return nil
	})
	if errors.Is(err, errOver) {
		return a.clear(ctx, fence, id)
	}
	if err != nil {
		return err
	}
	if first {
		a.tell(event.ConsistencyStarted, audit, "", "a consistency audit began, asked for by "+audit.By)
	}
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var told sync.WaitGroup
	progress := &latest{}
	told.Go(func() { a.attend(work, fence, doc, progress, stop) })
	report, err := a.compare(work, fence, audit, progress)
	if err != nil && work.Err() != nil {
		err = context.Cause(work)
	}
	stop(nil)
	told.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx) // the next one who may goes on
	}
	if errors.Is(err, state.ErrStale) {
		return err
	}
	return a.finish(ctx, fence, audit, report, err)
}

// compare runs the audit, again and again where something comes between, as
// long as it gets on.
func (a *Audits) compare(ctx context.Context, fence state.Fence, audit Audit, progress *latest) (Report, error) {
	cfg := a.Config
	cfg.ID, cfg.Key = audit.ID, placePrefix+audit.ID
	cfg.Progress = progress.set
	cfg.Found = a.found(audit)
	kept, _, err := a.place(audit.ID).Get(ctx)
	if err != nil {
		return Report{}, err
	}
	before := kept.Report.Rows // compared by somebody else
	moved, slices := time.Now(), -1
	for {
		report, err := New(cfg).Run(ctx, audit.Scope, fence)
		a.rows.Add(int64(report.Rows - min(before, report.Rows))) //nolint:gosec // counts of rows
		before = report.Rows
		if err == nil || ctx.Err() != nil || errors.Is(err, state.ErrStale) {
			return report, err
		}
		if report.Slices > slices {
			moved, slices = time.Now(), report.Slices
		}
		if time.Since(moved) > giveUpAfter {
			return report, fmt.Errorf("it got no further for %s: %w", giveUpAfter, err)
		}
		a.Log.Info("a consistency audit was interrupted and goes on", "audit", audit.ID, "err", err)
		progress.trouble(err)
		if err := pause.For(ctx, tryAgain); err != nil {
			return report, err
		}
	}
}

// found tells the first difference of each table at once.
func (a *Audits) found(audit Audit) func(Difference) {
	told := map[tableName]bool{}
	return func(d Difference) {
		t := tableName{d.Schema, d.Table}
		if told[t] || len(told) >= maxTold {
			return
		}
		told[t] = true
		e := event.New(event.ConsistencyDiffers, "consistency/"+subjectOf(d), d.Text)
		e.ID = event.IDOf("consistency", audit.ID, d.Schema, d.Table)
		if len(d.Odd) == 1 {
			e.Member = d.Odd[0]
		}
		e = e.With("audit", audit.ID).With("what", d.Kind).With("key", cut(d.Key)).With("look", cut(d.SQL))
		for member, has := range d.Members {
			e = e.With("member_"+member, cut(has))
		}
		a.To.Publish(e)
	}
}

func subjectOf(d Difference) string {
	if d.Table == "" {
		return "gtid"
	}
	return d.Schema + "." + d.Table
}

// attend writes down how far an audit is, and stops it when somebody asks.
func (a *Audits) attend(ctx context.Context, fence state.Fence, doc state.Doc[Audit], progress *latest, stop context.CancelCauseFunc) {
	for pause.For(ctx, tellEvery) == nil {
		p, trouble := progress.get()
		x, err := doc.Change(ctx, fence, func(x *Audit) error {
			x.Progress, x.Differences, x.Error = p, p.Found, trouble
			return nil
		})
		switch {
		case errors.Is(err, state.ErrStale):
			stop(err)
		case err == nil && x.StopBy != "":
			stop(errStopped)
		}
	}
}

// latest is the newest progress, and what it waits for.
type latest struct {
	mu   sync.Mutex
	p    Progress
	wait string
}

func (l *latest) set(p Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.p, l.wait = p, ""
}

func (l *latest) trouble(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wait = cut(err.Error())
}

func (l *latest) get() (Progress, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.p, l.wait
}

// finish keeps the report and tells the end. Each step may be done twice.
func (a *Audits) finish(ctx context.Context, fence state.Fence, audit Audit, r Report, failed error) error {
	end, text := Done, ""
	switch {
	case errors.Is(failed, errStopped):
		end = Stopped
	case failed != nil:
		end, text = Failed, cut(failed.Error())
	}
	if _, err := a.report(audit.ID).Change(ctx, fence, func(old *Report) error { *old = r; return nil }); err != nil {
		return err
	}
	if end == Done {
		if _, err := a.open.Change(ctx, fence, func(o *open) error { *o = o.after(audit.ID, r, audit.Scope); return nil }); err != nil {
			return err
		}
	}
	x, err := a.doc(audit.ID).Change(ctx, fence, func(x *Audit) error {
		x.State, x.Error, x.Ended = end, text, time.Now().UTC()
		x.Differences, x.Remarks = len(r.Differences), len(r.Remarks)
		x.Progress = Progress{Tables: r.Tables, Of: r.Of, Rows: r.Rows, Found: len(r.Differences)}
		return nil
	})
	if err != nil {
		return err
	}
	switch end {
	case Stopped:
		a.tell(event.ConsistencyStopped, x, event.Info, x.StopBy+" stopped a consistency audit")
	case Failed:
		a.tell(event.ConsistencyFailed, x, "", "a consistency audit was given up: "+text)
	default:
		severity := event.Info
		switch {
		case !r.Equal():
			severity = event.Critical
		case r.partial():
			severity = event.Warning
		}
		a.tell(event.ConsistencyDone, x, severity, r.sum())
	}
	a.Log.Info("consistency audit is over", "audit", x.ID, "state", x.State, "differences", x.Differences, "err", x.Error)
	return a.clear(ctx, fence, audit.ID)
}

// clear makes room for the next audit, and drops the oldest ones.
func (a *Audits) clear(ctx context.Context, fence state.Fence, id string) error {
	if err := a.drop(ctx, fence, placePrefix+id); err != nil {
		return err
	}
	all, err := a.List(ctx)
	if err != nil {
		return err
	}
	for _, old := range all[min(a.Keep, len(all)):] {
		for _, key := range []string{reportPrefix + old.ID, auditPrefix + old.ID} {
			if err := a.drop(ctx, fence, key); err != nil {
				return err
			}
		}
	}
	_, err = a.current.Change(ctx, fence, func(c *current) error {
		if c.Audit == id {
			c.Audit = ""
		}
		return nil
	})
	return err
}

func (a *Audits) drop(ctx context.Context, fence state.Fence, key string) error {
	e, err := a.Store.Get(ctx, key)
	if err != nil || e.Revision == 0 {
		return err
	}
	if err := a.Store.Delete(ctx, key, e.Revision, fence); err != nil && !errors.Is(err, state.ErrConflict) {
		return err
	}
	return nil
}

// tell publishes an event about an audit, with the same ID whoever tells it.
func (a *Audits) tell(kind event.Kind, x Audit, severity event.Severity, text string) {
	e := event.New(kind, "consistency", text)
	e.ID = event.IDOf("consistency", x.ID, string(kind))
	if severity != "" {
		e.Severity = severity
	}
	a.To.Publish(e.With("audit", x.ID).With("by", x.By))
}

func decode[T any](e state.Entry) (v T, ok bool) {
	return v, e.Revision != 0 && json.Unmarshal(e.Value, &v) == nil
}
