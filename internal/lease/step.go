package lease

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"time"

	"github.com/perdure/perdure/internal/state"
)

// step does the next thing there is to do and says when to come back.
func (k *Keeper) step(ctx context.Context) time.Time {
	if k.mine != nil {
		if now := time.Now(); now.Before(k.mine.next) {
			return k.mine.next
		}
		return k.renew(ctx)
	}
	return k.contend(ctx)
}

// contend looks at the lease that we do not hold and does what decide says.
func (k *Keeper) contend(ctx context.Context) time.Time {
	rev, doc, err := k.read(ctx)
	if err != nil {
		return k.later(ctx, "cannot read the lease", err)
	}
	now := time.Now()
	k.sight = look(now, k.sight, rev, doc)
	k.answered(rev, doc)
	switch what, until := decide(now, k.cfg, k.token, k.sight); what {
	case take:
		return k.take(ctx)
	case own:
		// Others may have seen it long ago. Only a renewal opens a window.
		k.begin(rev, doc)
		return k.renew(ctx)
	case end:
		return k.end(ctx)
	default:
		// Looking now and then finds a change that the watch has missed.
		if look := now.Add(k.cfg.every()); look.Before(until) {
			return look
		}
		return until
	}
}

// take creates the document. Whoever succeeds leads. All attempts carry one
// token: if an attempt happens after we gave up waiting for its answer, we
// find our own document and need not wait for it to end.
func (k *Keeper) take(ctx context.Context) time.Time {
	sent := time.Now()
	if k.token == "" {
		k.token = rand.Text()
	}
	doc := document{Holder: k.cfg.Holder, Token: k.token, TTL: k.cfg.TTL.String(), Began: sent.UTC().Round(0)}
	rev, err := k.write(ctx, doc, 0)
	switch {
	case errors.Is(err, state.ErrConflict):
		return time.Now() // somebody was faster: look who
	case err != nil:
		return k.later(ctx, "cannot take the lease", err)
	}
	k.begin(rev, doc)
	k.mine.next = sent.Add(k.cfg.every())
	k.confirm(k.mine.epoch, sent)
	return k.mine.next
}

// begin is the start of our term: the document was created at rev.
func (k *Keeper) begin(rev state.Revision, doc document) {
	k.mine = &holding{epoch: int64(rev), rev: rev, doc: doc}
	k.token, k.sight = "", sight{}
	k.answered(rev, doc)
}

// end deletes the document of a holder that has been silent for too long, or of
// ourselves before a restart.
func (k *Keeper) end(ctx context.Context) time.Time {
	if silent := time.Since(k.sight.Since); k.sight.Doc.Holder == k.cfg.Holder {
		k.log.Info("ending the term that this node left behind")
	} else {
		k.log.Warn("ending the term of a silent holder", "holder", k.sight.Doc.Holder, "silent", silent.Round(time.Millisecond))
	}
	err := k.remove(ctx, k.sight.Revision)
	if err != nil && !errors.Is(err, state.ErrConflict) {
		return k.later(ctx, "cannot end the term of a silent holder", err)
	}
	return time.Now()
}

// renew writes our document again and moves the window.
func (k *Keeper) renew(ctx context.Context) time.Time {
	sent := time.Now()
	doc := k.mine.doc
	doc.Beats++
	rev, err := k.write(ctx, doc, k.mine.rev)
	switch {
	case errors.Is(err, state.ErrConflict):
		return k.reread(ctx)
	case err != nil:
		return k.later(ctx, "cannot renew the lease", err)
	}
	k.mine.rev, k.mine.doc, k.mine.next = rev, doc, sent.Add(k.cfg.every())
	k.answered(rev, doc)
	k.confirm(k.mine.epoch, sent)
	return k.mine.next
}

// reread finds out why a renewal was refused: because an earlier one, of which
// we had no answer, did happen, or because the term is over.
func (k *Keeper) reread(ctx context.Context) time.Time {
	rev, doc, err := k.read(ctx)
	if err != nil {
		return k.later(ctx, "cannot read the lease", err)
	}
	// A document that was never renewed cannot be ours at another revision: it
	// is an old attempt of ours that happened late, and so a term of its own.
	if rev != 0 && doc.Token == k.mine.doc.Token && doc.Beats > 0 {
		k.mine.rev, k.mine.doc = rev, doc
		return time.Now()
	}
	k.mine = nil
	k.revoke(ErrTaken)
	return time.Now()
}

// release gives the lease back so that another node need not wait. What it
// cannot reach in a moment ends by itself.
func (k *Keeper) release(ctx context.Context) {
	k.revoke(ErrReleased)
	token := k.token
	if k.mine != nil {
		token = k.mine.doc.Token
	}
	if token == "" {
		return
	}
	rev, doc, err := k.read(ctx)
	if err == nil && rev != 0 && doc.Token == token {
		err = k.remove(ctx, rev)
	}
	if err != nil {
		k.log.Warn("the lease was not given back; others wait for it to end", "err", err)
	}
	k.mine = nil
}

// later is for a call that failed: it says when to try again. The first of a
// row is logged.
func (k *Keeper) later(ctx context.Context, what string, err error) time.Time {
	if ctx.Err() == nil && !k.troubled {
		k.troubled = true
		k.log.Warn(what, "err", err)
	}
	return time.Now().Add(k.cfg.pause())
}

// answered notes what the store said about the lease.
func (k *Keeper) answered(rev state.Revision, doc document) {
	if k.troubled {
		k.troubled = false
		k.log.Info("the control store answers again")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leader = Leader{Seen: time.Now()}
	if rev != 0 {
		k.leader.Holder, k.leader.Since = doc.Holder, doc.Began
	}
}

func (k *Keeper) read(ctx context.Context) (state.Revision, document, error) {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.patience())
	defer cancel()
	e, err := k.store.Get(ctx, state.LeaseKey(k.cfg.Name))
	if err != nil || e.Revision == 0 {
		return 0, document{}, err
	}
	return e.Revision, k.decode(e), nil
}

// decode reads a document as far as it can be read. One that cannot is not ours
// to judge: it is somebody's term, and ends like any other.
func (k *Keeper) decode(e state.Entry) document {
	var doc document
	if e.Revision == 0 {
		return doc
	}
	if err := json.Unmarshal(e.Value, &doc); err != nil {
		k.log.Warn("the lease cannot be decoded", "err", err)
		return document{}
	}
	return doc
}

func (k *Keeper) write(ctx context.Context, doc document, expected state.Revision) (state.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.patience())
	defer cancel()
	b, err := json.Marshal(doc)
	if err != nil {
		return 0, err
	}
	return k.store.Put(ctx, state.LeaseKey(k.cfg.Name), b, expected, state.Fence{})
}

func (k *Keeper) remove(ctx context.Context, expected state.Revision) error {
	ctx, cancel := context.WithTimeout(ctx, k.cfg.patience())
	defer cancel()
	return k.store.Delete(ctx, state.LeaseKey(k.cfg.Name), expected, state.Fence{})
}
