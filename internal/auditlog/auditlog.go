// Package auditlog keeps who did what, in a chain of hashes: every entry
// carries the hash of the one before, so that a changed, removed or reordered
// entry is found.
//
// Entries are documents of the control store and are written before what they
// tell of is answered. The chain protects against changes by anybody who
// cannot recompute all later entries; to be protected against somebody who
// can write the store, keep the newest hash elsewhere (Verify prints it).
package auditlog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/internal/state"
)

// Entry is one thing somebody did.
type Entry struct {
	Number int64     `json:"number"` // from 1, without gaps
	At     time.Time `json:"at"`
	Who    string    `json:"who"`  // name of the token, or of the automation
	From   string    `json:"from"` // address, or name of the node
	Did    string    `json:"did"`  // such as "POST /v1/apply" or "plan ended"
	On     string    `json:"on,omitempty"`
	Result string    `json:"result"` // such as "202" or "refused"
	Before string    `json:"before"` // hash of the entry before, "" for the first
	Hash   string    `json:"hash"`   // of everything above
}

// sum is the hash an entry must have.
func (e Entry) sum() string {
	e.Hash = ""
	b, _ := json.Marshal(e) // strings, numbers and a time: cannot fail
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// Log is the audit log of a cluster. It is safe for concurrent use, also from
// several nodes.
type Log struct {
	store  state.Store
	failed atomic.Int64
	told   atomic.Pointer[func(Entry)]
}

// New returns the log kept in store.
func New(store state.Store) *Log { return &Log{store: store} }

// Tell has a function called with every entry that this process adds, once it
// is in the log.
func (l *Log) Tell(each func(Entry)) { l.told.Store(&each) }

// Failures is how many entries this process could not write.
func (l *Log) Failures() int64 { return l.failed.Load() }

const (
	prefix  = "audit/entries/"
	headKey = "audit/head"
)

// head is the newest entry.
type head struct {
	Number int64  `json:"number"`
	Hash   string `json:"hash"`
}

func key(n int64) string { return fmt.Sprintf("%s%016d", prefix, n) }

// Add appends an entry; Number, Before and Hash are filled in. The entry exists
// when Add returns nil.
func (l *Log) Add(ctx context.Context, e Entry) error {
	e, err := l.add(ctx, e)
	if err != nil {
		l.failed.Add(1)
		return err
	}
	if told := l.told.Load(); told != nil {
		(*told)(e)
	}
	return nil
}

func (l *Log) add(ctx context.Context, e Entry) (Entry, error) {
	e.At = e.At.UTC().Truncate(time.Millisecond)
	doc := state.NewDoc[head](l.store, headKey)
	for {
		h, rev, err := doc.Get(ctx)
		if err != nil {
			return e, err
		}
		e.Number, e.Before = h.Number+1, h.Hash
		e.Hash = e.sum()
		// The entry first: whoever dies in between leaves an entry that the next
		// one finds in its way and takes into the chain.
		_, err = state.NewDoc[Entry](l.store, key(e.Number)).Put(ctx, e, 0, state.Fence{})
		next := head{e.Number, e.Hash}
		taken := errors.Is(err, state.ErrConflict)
		if taken {
			other, _, err := state.NewDoc[Entry](l.store, key(e.Number)).Get(ctx)
			if err != nil {
				return e, err
			}
			next = head{other.Number, other.Hash}
		} else if err != nil {
			return e, err
		}
		_, err = doc.Put(ctx, next, rev, state.Fence{})
		if err != nil && !errors.Is(err, state.ErrConflict) {
			return e, err
		}
		if !taken {
			return e, nil
		}
	}
}

// List returns the newest entries, newest last, at most limit.
func (l *Log) List(ctx context.Context, limit int) ([]Entry, error) {
	all, err := l.all(ctx)
	return all[max(0, len(all)-limit):], err
}

// all reads the log. An entry that is not written as we write it was not
// written by us.
func (l *Log) all(ctx context.Context) ([]Entry, error) {
	stored, err := l.store.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	out := make([]Entry, 0, len(stored))
	for i, s := range stored {
		var e Entry
		if err := json.Unmarshal(s.Value, &e); err != nil {
			return out, fmt.Errorf("entry %d was changed: it cannot be read: %w", i+1, err)
		}
		if b, _ := json.Marshal(e); string(b) != string(s.Value) || s.Key != key(e.Number) {
			return out, fmt.Errorf("entry %d was changed: it is not as the log writes entries", i+1)
		}
		out = append(out, e)
	}
	return out, nil
}

// Verify reads the whole log and returns how many entries it has and the hash
// of the newest, or what is wrong with the first bad one.
func (l *Log) Verify(ctx context.Context) (entries int, newest string, err error) {
	// The head first: what is added meanwhile lies beyond it.
	h, _, err := state.NewDoc[head](l.store, headKey).Get(ctx)
	if err != nil {
		return 0, "", err
	}
	all, err := l.all(ctx)
	if err != nil {
		return len(all), "", err
	}
	if newest, err = Verify(all); err != nil {
		return len(all), newest, err
	}
	switch {
	case int64(len(all)) < h.Number:
		err = fmt.Errorf("the log ends at entry %d and should have %d: the newest were removed", len(all), h.Number)
	case h.Number == 0 && len(all) > 1:
		err = errors.New("the note of the newest entry is gone")
	case h.Number > 0 && all[h.Number-1].Hash != h.Hash:
		err = fmt.Errorf("entry %d was changed: it is not the one that was noted as the newest", h.Number)
	}
	return len(all), newest, err
}

// Verify checks a whole log, such as one that was exported: from its first
// entry on, in order. It returns the hash of the newest entry, or what is wrong
// with the first bad one.
func Verify(all []Entry) (newest string, err error) {
	for i, e := range all {
		switch {
		case e.Number != int64(i+1):
			return newest, fmt.Errorf("entry %d is missing: entry %d stands in its place", i+1, e.Number)
		case e.Hash != e.sum():
			return newest, fmt.Errorf("entry %d was changed: %s %s at %s", e.Number, e.Who, e.Did, e.At.Format(time.RFC3339))
		case e.Before != newest:
			return newest, fmt.Errorf("entry %d does not follow entry %d: one of them was replaced", e.Number, e.Number-1)
		}
		newest = e.Hash
	}
	return newest, nil
}
