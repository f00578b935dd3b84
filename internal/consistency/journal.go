package consistency

import (
	"cmp"
	"context"
	"crypto/rand"
	"reflect"
	"time"
)

const (
	// saveEvery is how much work is done again after an interruption, at most.
	saveEvery = 5 * time.Second
	// staleAfter is when an unfinished audit is begun anew: what was compared
	// so long ago says little.
	staleAfter = 72 * time.Hour
)

// journal is the document in which an audit keeps how far it is.
type journal struct {
	Scope  Scope  `json:"scope"`
	Report Report `json:"report"`
	At     place  `json:"at"`
}

// place is how far: all tables before Table, and of Table the rows up to Key.
type place struct {
	Table string `json:"table,omitempty"`
	Key   key    `json:"key,omitempty"`
	// Ahead is how many rows behind Key were counted already: they are compared
	// once more.
	Ahead uint64 `json:"ahead,omitempty"`
	// Definition guards Key: in a table that was changed it means nothing.
	Definition string `json:"definition,omitempty"`
}

// load goes on with an unfinished audit, or begins one.
func (r *run) load(ctx context.Context) error {
	fresh := Report{ID: cmp.Or(r.cfg.ID, rand.Text()[:12]), Began: time.Now()}
	if r.cfg.Store == nil {
		r.report = fresh
		return nil
	}
	j, rev, err := r.doc.Get(ctx)
	if err != nil {
		return err
	}
	r.rev = rev
	if rev != 0 && j.Report.Ended.IsZero() && time.Since(j.Report.Began) < staleAfter && reflect.DeepEqual(j.Scope, r.scope) {
		r.report, r.at = j.Report, j.At
		r.report.Resumed++
		return nil
	}
	r.report = fresh
	return r.save(ctx)
}

// back takes back what was counted behind the place.
func (r *run) back() {
	r.report.Rows -= min(r.at.Ahead, r.report.Rows)
	r.at.Ahead = 0
}

// keep saves now and then.
func (r *run) keep(ctx context.Context) error {
	r.tell(false)
	if time.Since(r.lastSave) < saveEvery {
		return nil
	}
	return r.save(ctx)
}

// save is refused when somebody else took the audit over.
func (r *run) save(ctx context.Context) error {
	if r.cfg.Store == nil {
		return nil
	}
	rev, err := r.doc.Put(ctx, journal{r.scope, r.report, r.at}, r.rev, r.fence)
	if err != nil {
		return err
	}
	r.rev, r.lastSave = rev, time.Now()
	return nil
}

// Last returns the report of the newest audit in the store, unfinished or not,
// and false if there is none.
func (a *Auditor) Last(ctx context.Context) (Report, bool, error) {
	if a.cfg.Store == nil {
		return Report{}, false, nil
	}
	j, rev, err := a.doc.Get(ctx)
	return j.Report, rev != 0, err
}
