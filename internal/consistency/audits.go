package consistency

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/state"
)

// Needs is what Audits stand on.
type Needs struct {
	// Config says how to reach the members and how hard to work. Store has to be
	// there; Key, ID, Progress and Found belong to Audits.
	Config
	Scope Scope // of audits that name none
	Node  string
	Keep  int // how many audits are kept; default 30
	// Hold waits until this node may act. Its context ends with the right to.
	Hold func(context.Context) (context.Context, state.Fence, error)
	// Busy says why an audit must not begin now. nil: nothing is in its way.
	Busy func(context.Context) error
	To   event.Publisher
}

// Audits are the audits of a cluster. They are asked for on any node, and
// carried out, one at a time, by the node that leads. When that node loses the
// lease it stops, and the next one goes on where it was.
type Audits struct {
	Needs
	current state.Doc[current]
	open    state.Doc[open]

	rows atomic.Int64 // compared by this node

	mu   sync.Mutex
	seen seen // what this node knows, for metrics
}

// seen is what follows from the documents.
type seen struct {
	running int
	last    time.Time // when the newest audit came to its end
	differ  int       // tables
}

const defaultKeep = 30

// NewAudits returns Audits. They do nothing before Run.
func NewAudits(n Needs) *Audits {
	n.Keep = cmp.Or(n.Keep, defaultKeep)
	if n.Busy == nil {
		n.Busy = func(context.Context) error { return nil }
	}
	return &Audits{Needs: n, current: state.NewDoc[current](n.Store, currentKey), open: state.NewDoc[open](n.Store, openKey)}
}

func (a *Audits) doc(id string) state.Doc[Audit] { return state.NewDoc[Audit](a.Store, auditPrefix+id) }

func (a *Audits) report(id string) state.Doc[Report] {
	return state.NewDoc[Report](a.Store, reportPrefix+id)
}

func (a *Audits) place(id string) state.Doc[journal] {
	return state.NewDoc[journal](a.Store, placePrefix+id)
}

// Ask asks for an audit of a scope; the zero Scope is the configured one. A
// *plan.RefusedError says that none was begun.
func (a *Audits) Ask(ctx context.Context, scope Scope, by string) (Audit, error) {
	if scope.zero() {
		scope = a.Scope
	}
	if err := scope.Check(); err != nil {
		return Audit{}, plan.Refuse("name tables as schema.table", "%v. Nothing was begun.", err)
	}
	cur, _, err := a.current.Get(ctx)
	if err != nil {
		return Audit{}, err
	}
	if cur.Audit != "" {
		running, _, err := a.doc(cur.Audit).Get(ctx)
		if err != nil {
			return Audit{}, err
		}
		if running.ID != "" && !running.State.Over() {
			return Audit{}, plan.Refuse(fmt.Sprintf("`perdure consistency show %s`, or end it with `perdure consistency stop %[1]s`", running.ID),
				"the audit %s is running: %d of %d tables compared. Nothing was begun.", running.ID, running.Progress.Tables, running.Progress.Of)
		}
	}
	if err := a.Busy(ctx); err != nil {
		return Audit{}, err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	audit := Audit{ID: newID(now), State: Waiting, By: by, Scope: scope, Asked: now}
	if _, err := a.doc(audit.ID).Put(ctx, audit, 0, state.Fence{}); err != nil {
		return Audit{}, err
	}
	_, err = a.current.Change(ctx, state.Fence{}, func(now *current) error {
		// The audit before is over a moment before it is cleared away: whoever asks
		// for the next at once finds either.
		if now.Audit != "" && now.Audit != cur.Audit {
			return plan.Refuse("`perdure consistency list`", "somebody else asked for an audit at the same moment. Nothing was begun.")
		}
		*now = current{audit.ID}
		return nil
	})
	if _, refused := errors.AsType[*plan.RefusedError](err); refused {
		if e := a.drop(ctx, state.Fence{}, auditPrefix+audit.ID); e != nil {
			a.Log.Warn("an audit that was not begun is still listed", "audit", audit.ID, "err", e)
		}
	}
	return audit, err
}

// Stop ends an audit; what it found until then is kept. The audit is over a
// moment later.
func (a *Audits) Stop(ctx context.Context, id, by string) (Audit, error) {
	return a.doc(id).Change(ctx, state.Fence{}, func(x *Audit) error {
		switch {
		case x.ID == "":
			return fmt.Errorf("there is no audit %s: %w", id, ErrNoSuchAudit)
		case x.State.Over():
			return plan.Refuse("`perdure consistency show "+id+"`", "the audit %s has ended: %s. Nothing was changed.", id, x.State)
		}
		x.StopBy = by
		return nil
	})
}

// ErrNoSuchAudit is returned for an id nobody knows, or not any more.
var ErrNoSuchAudit = errors.New("no such audit")

// Get returns an audit and its report, as far as it is.
func (a *Audits) Get(ctx context.Context, id string) (Audit, Report, error) {
	x, rev, err := a.doc(id).Get(ctx)
	if err == nil && rev == 0 {
		err = fmt.Errorf("there is no audit %s: %w", id, ErrNoSuchAudit)
	}
	if err != nil {
		return Audit{}, Report{}, err
	}
	r, rev, err := a.report(id).Get(ctx)
	if err != nil || rev != 0 {
		return x, r, err
	}
	j, _, err := a.place(id).Get(ctx)
	return x, j.Report, err
}

// List returns the audits that are kept, newest first.
func (a *Audits) List(ctx context.Context) ([]Audit, error) {
	entries, err := a.Store.List(ctx, auditPrefix)
	if err != nil {
		return nil, err
	}
	out := []Audit{}
	for _, e := range entries {
		if x, ok := decode[Audit](e); ok {
			out = append(out, x)
		}
	}
	// An ID knows only the second.
	slices.SortFunc(out, func(a, b Audit) int { return cmp.Or(b.Asked.Compare(a.Asked), cmp.Compare(b.ID, a.ID)) })
	return out, nil
}

// Newest returns the id of the newest audit.
func (a *Audits) Newest(ctx context.Context) (string, error) {
	all, err := a.List(ctx)
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "", fmt.Errorf("there was no audit yet: %w", ErrNoSuchAudit)
	}
	return all[0].ID, nil
}

func (s Scope) zero() bool { return len(s.Schemas)+len(s.Tables)+len(s.Exclude) == 0 }
