package state

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
)

// Memory is a Store inside this process. Its terms are set by SetTerm, as an
// election would.
type Memory struct {
	mu      sync.Mutex
	rev     Revision
	docs    map[string]Entry
	terms   map[string]int64
	changed chan struct{} // closed and replaced at every change
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{docs: map[string]Entry{}, terms: map[string]int64{}, changed: make(chan struct{})}
}

// SetTerm says that lease is now in the term numbered epoch.
func (m *Memory) SetTerm(lease string, epoch int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.terms[lease] = epoch
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string) (Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.docs[key], ctx.Err()
}

// List implements Store.
func (m *Memory) List(ctx context.Context, prefix string) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list(prefix), ctx.Err()
}

func (m *Memory) list(prefix string) []Entry {
	var out []Entry
	for k, e := range m.docs {
		if strings.HasPrefix(k, prefix) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// Put implements Store.
func (m *Memory) Put(ctx context.Context, key string, value []byte, expected Revision, fence Fence) (Revision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.allowed(ctx, key, expected, fence); err != nil {
		return 0, err
	}
	m.rev++
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
	m.announce()
	return nil
}

func (m *Memory) allowed(ctx context.Context, key string, expected Revision, fence Fence) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case fence.Lease != "" && m.terms[fence.Lease] != fence.Epoch:
		return ErrStale
	case m.docs[key].Revision != expected:
		return ErrConflict
	}
	return nil
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
