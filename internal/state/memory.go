package state

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
)

// Memory is a Store inside this process.
type Memory struct {
	mu      sync.Mutex
	rev     Revision
	docs    map[string]Entry
	created map[string]Revision // first revision of each document that exists
	terms   map[string]int64    // said by SetTerm
	changed chan struct{}       // closed and replaced at every change
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		docs:    map[string]Entry{},
		created: map[string]Revision{},
		terms:   map[string]int64{},
		changed: make(chan struct{}),
	}
}

// SetTerm says that lease is now in the term numbered epoch, for tests that
// want a term without anybody holding the lease.
func (m *Memory) SetTerm(lease string, epoch int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.terms[lease] = epoch
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string) (Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.get(key), ctx.Err()
}

// List implements Store.
func (m *Memory) List(ctx context.Context, prefix string) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list(prefix), ctx.Err()
}

// get returns a document whose bytes the caller may change.
func (m *Memory) get(key string) Entry {
	e := m.docs[key]
	e.Value = slices.Clone(e.Value)
	return e
}

func (m *Memory) list(prefix string) []Entry {
	var out []Entry
	for k := range m.docs {
		if strings.HasPrefix(k, prefix) {
			out = append(out, m.get(k))
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Put implements Store.
func (m *Memory) Put(ctx context.Context, key string, value []byte, expected Revision, fence Fence) (Revision, error) {
	if len(value) > MaxDocument {
		return 0, ErrTooLarge
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.allowed(ctx, key, expected, fence); err != nil {
		return 0, err
	}
	m.rev++
	if expected == 0 {
		m.created[key] = m.rev
	}
	m.docs[key] = Entry{Key: key, Value: slices.Clone(value), Revision: m.rev}
	m.announce()
	return m.rev, nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, key string, expected Revision, fence Fence) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.allowed(ctx, key, expected, fence); err != nil {
		return err
	}
	m.rev++
	delete(m.docs, key)
	delete(m.created, key)
	m.announce()
	return nil
}

func (m *Memory) allowed(ctx context.Context, key string, expected Revision, fence Fence) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !m.inTerm(fence):
		return ErrStale
	case m.docs[key].Revision != expected:
		return ErrConflict
	}
	return nil
}

func (m *Memory) inTerm(f Fence) bool {
	switch said, ok := m.terms[f.Lease]; {
	case f == Fence{}:
		return true
	case f.Epoch <= 0:
		return false
	case ok:
		return said == f.Epoch
	default:
		return int64(m.created[LeaseKey(f.Lease)]) == f.Epoch
	}
}

func (m *Memory) announce() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context, prefix string) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		seen := map[string]Revision{}
		for {
			m.mu.Lock()
			now, changed := m.list(prefix), m.changed
			m.mu.Unlock()
			gone := seen
			seen = map[string]Revision{}
			for _, e := range now {
				old := gone[e.Key]
				delete(gone, e.Key)
				seen[e.Key] = e.Revision
				if old != e.Revision && !yield(e) {
					return
				}
			}
			for k := range gone {
				if !yield(Entry{Key: k}) {
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}
}
