// Package state holds documents that several nodes share and that only one of
// them may change at a time.
//
// A document has a revision. Whoever wants to change it names the revision he
// read; if somebody else was faster the change is refused with ErrConflict and
// nothing happens. A change may also carry a Fence, the epoch of the lease
// under which it is made: a node that has lost the lease without noticing is
// refused with ErrStale, however late its request arrives.
//
// The package knows no storage. Package control keeps documents in etcd;
// Memory keeps them in this process, for tests.
package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// Revision numbers the states of one document. Zero means "does not exist".
// Later states of a document have larger revisions; nothing else may be
// concluded from the distance of two revisions.
type Revision int64

// Refusals of a Store. Callers compare with errors.Is.
var (
	// ErrConflict says that the document changed after it was read.
	ErrConflict = errors.New("the document was changed by somebody else meanwhile")
	// ErrStale says that the lease under which the change was made is over.
	ErrStale = errors.New("the lease under which this was decided is over")
	// ErrUnavailable says that the store cannot be reached or has no quorum.
	// Whether a change that got this answer happened is unknown.
	ErrUnavailable = errors.New("the control store does not answer")
	// ErrTooLarge says that a document is larger than MaxDocument.
	ErrTooLarge = fmt.Errorf("a document may have no more than %d bytes", MaxDocument)
)

// MaxDocument is how many bytes a document may have. Documents are settings and
// plans; what grows with the data belongs elsewhere.
const MaxDocument = 1 << 20

// Fence ties a change to a term of a lease: the change happens only while the
// lease named Lease is still in the term numbered Epoch. The zero Fence ties
// to nothing; a Fence that names a lease but no term is always refused.
//
// A lease is a document too, the one at LeaseKey: whoever created it holds the
// lease until it is deleted, and the revision it was created with numbers the
// term. So terms only grow, and a Store compares the fence and makes the
// change in one step.
type Fence struct {
	Lease string
	Epoch int64
}

// LeaseKey is where the lease of that name is kept. Only package lease writes
// there.
func LeaseKey(name string) string { return "lease/" + name }

// Entry is one stored document.
type Entry struct {
	Key      string
	Value    []byte
	Revision Revision // of this document; 0 in a watch means deleted
}

// Store keeps documents by key. Keys are slash-separated paths. Reads are
// linearizable: they see every change that was acknowledged before they began.
// All methods are safe for concurrent use.
type Store interface {
	// Get returns the document, or an Entry with Revision 0 if there is none.
	Get(ctx context.Context, key string) (Entry, error)
	// List returns all documents whose key begins with prefix, ordered by key.
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Put writes value if the document's revision is still expected (0: it must
	// not exist) and returns the new revision.
	Put(ctx context.Context, key string, value []byte, expected Revision, fence Fence) (Revision, error)
	// Delete removes the document if its revision is still expected.
	Delete(ctx context.Context, key string, expected Revision, fence Fence) error
	// Watch yields the documents under prefix as they are now and then every
	// change, in order, until ctx ends. Changes that follow each other quickly
	// may be merged into the last one. It survives interruptions of the store.
	Watch(ctx context.Context, prefix string) iter.Seq[Entry]
}

// Doc is one JSON document of type T in a Store.
type Doc[T any] struct {
	store Store
	key   string
}

// NewDoc names a document. It does not touch the store.
func NewDoc[T any](s Store, key string) Doc[T] { return Doc[T]{store: s, key: key} }

// Key returns the name the document has in its store.
func (d Doc[T]) Key() string { return d.key }

// Get returns the document and its revision; a missing document is the zero T
// with revision 0.
func (d Doc[T]) Get(ctx context.Context) (T, Revision, error) {
	var v T
	e, err := d.store.Get(ctx, d.key)
	if err != nil {
		return v, 0, fmt.Errorf("read %s: %w", d.key, err)
	}
	if e.Revision == 0 {
		return v, 0, nil
	}
	if err := json.Unmarshal(e.Value, &v); err != nil {
		return v, 0, fmt.Errorf("read %s: %w", d.key, err)
	}
	return v, e.Revision, nil
}

// Put writes the document if its revision is still expected.
func (d Doc[T]) Put(ctx context.Context, v T, expected Revision, fence Fence) (Revision, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", d.key, err)
	}
	rev, err := d.store.Put(ctx, d.key, b, expected, fence)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", d.key, err)
	}
	return rev, nil
}

// Change reads the document, lets change edit it, and writes it back, again
// from the start whenever somebody else was faster. An error of change ends it
// and is returned as it is. change may run several times.
func (d Doc[T]) Change(ctx context.Context, fence Fence, change func(*T) error) (T, error) {
	for {
		v, rev, err := d.Get(ctx)
		if err != nil {
			return v, err
		}
		if err := change(&v); err != nil {
			return v, err
		}
		_, err = d.Put(ctx, v, rev, fence)
		if errors.Is(err, ErrConflict) && ctx.Err() == nil {
			continue
		}
		return v, err
	}
}

// Watch yields the document as it is now, if there is one, and after every
// change until ctx ends; a deleted document is the zero T. A document that
// cannot be decoded is skipped: its writer is newer than this reader.
func (d Doc[T]) Watch(ctx context.Context) iter.Seq[T] {
	return func(yield func(T) bool) {
		for e := range d.store.Watch(ctx, d.key) {
			if e.Key != d.key {
				continue
			}
			var v T
			if e.Revision != 0 && json.Unmarshal(e.Value, &v) != nil {
				continue
			}
			if !yield(v) {
				return
			}
		}
	}
}
