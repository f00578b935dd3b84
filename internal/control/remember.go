package control

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/durable"
	"github.com/perdure/perdure/internal/state"
)

// Memory is a store that remembers on this node's disk what some documents were
// when it last saw them. A watch of such a document begins with what is
// remembered if the store is silent: a node that starts while more than half of
// the others are away then knows whom to watch and where to send queries. Reads
// and changes are those of the store: nothing is decided on a memory.
type Memory struct {
	state.Store
	dir    string
	keys   map[string]func([]byte) []byte
	silent time.Duration
	log    *slog.Logger

	mu    sync.Mutex
	known map[string][]byte
}

// patience is how long a watch waits for the store before it says what is
// remembered. Longer than an election of a healthy store, and short enough that
// a proxy serves soon.
const patience = 2 * time.Second

// Remember returns the store with a memory in dir for the documents of keys.
// The function of a key says which part of the document is worth remembering;
// nil remembers all of it.
func Remember(store state.Store, dir string, keys map[string]func([]byte) []byte, log *slog.Logger) (*Memory, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the memory of the control store: %w", err)
	}
	m := &Memory{Store: store, dir: dir, keys: keys, silent: patience, log: log, known: map[string][]byte{}}
	for key := range keys {
		b, err := os.ReadFile(m.path(key))
		if err == nil && json.Valid(b) {
			m.known[key] = b
		} else if err != nil && !os.IsNotExist(err) {
			log.Warn("what was remembered of a document cannot be read", "document", key, "err", err)
		}
	}
	return m, nil
}

// Watch implements state.Store.
func (m *Memory) Watch(ctx context.Context, prefix string) iter.Seq[state.Entry] {
	if _, ours := m.keys[prefix]; !ours {
		return m.Store.Watch(ctx, prefix)
	}
	return func(yield func(state.Entry) bool) {
		ctx, cancel := context.WithCancel(ctx)
		entries := make(chan state.Entry)
		var reader sync.WaitGroup
		reader.Go(func() {
			defer close(entries)
			for e := range m.Store.Watch(ctx, prefix) {
				select {
				case entries <- e:
				case <-ctx.Done():
					return
				}
			}
		})
		defer func() { cancel(); reader.Wait() }()
		silence := time.NewTimer(m.silent)
		defer silence.Stop()
		for {
			select {
			case e, ok := <-entries:
				if !ok {
					return
				}
				silence.Stop()
				m.keep(e)
				if !yield(e) {
					return
				}
			case <-silence.C:
				m.mu.Lock()
				b, ok := m.known[prefix]
				m.mu.Unlock()
				if ok && !yield(state.Entry{Key: prefix, Value: b, Revision: 1}) {
					return
				}
			}
		}
	}
}

// Known is what is remembered of a document, nil if nothing is.
func (m *Memory) Known(key string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[key]
}

// keep writes a document down if it has changed.
func (m *Memory) keep(e state.Entry) {
	cut, ours := m.keys[e.Key]
	if !ours || e.Revision == 0 {
		return
	}
	b := e.Value
	if cut != nil {
		b = cut(b)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if string(m.known[e.Key]) == string(b) {
		return
	}
	m.known[e.Key] = b
	if err := durable.Replace(m.path(e.Key), b); err != nil {
		m.log.Warn("a document cannot be remembered", "document", e.Key, "err", err)
	}
}

func (m *Memory) path(key string) string {
	return filepath.Join(m.dir, strings.ReplaceAll(key, "/", "-")+".json")
}
