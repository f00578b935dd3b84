// Package statetest holds the one suite that every state.Store must pass.
package statetest

import (
	"context"
	"testing"

	"github.com/perdure/perdure/internal/state"
)

// Run runs the suite. open is called once per test and returns a store in
// which no key begins with the prefix it also returns; tests run in parallel
// and may share one store.
func Run(t *testing.T, open func(t *testing.T) (s state.Store, prefix string)) {
	for name, test := range map[string]func(*testing.T, state.Store, string){
		"a document lives from its creation to its deletion":          lifeOfADocument,
		"a change from an old revision is refused":                    conflict,
		"of many writers with one revision exactly one wins":          oneWinner,
		"a document is created and deleted again, and revisions grow": recreate,
		"lists are ordered and keep to their prefix":                  list,
		"bytes belong to the caller":                                  ownBytes,
		"an empty value is a document":                                emptyValue,
		"the largest document is kept, a larger one refused":          large,
		"a fence lets through only its own term":                      fence,
		"a fence without a term is refused":                           fenceWithoutTerm,
		"a stale fence is told from a conflict":                       staleBeforeConflict,
		"a finished context changes nothing":                          finishedContext,
		"counting by many through Change loses nothing":               counting,
		"a watch begins with what is there":                           watchBegins,
		"a watch sees changes, deletions and creations":               watchFollows,
		"a watch keeps to its prefix":                                 watchPrefix,
		"a watch ends with its context or its reader":                 watchEnds,
		"a watch sees the last of many quick changes":                 watchLast,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, prefix := open(t)
			test(t, s, prefix)
		})
	}
}

func must[T any](t *testing.T, do func(context.Context) (T, error)) T {
	t.Helper()
	v, err := do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func put(t *testing.T, s state.Store, key, value string, expected state.Revision) state.Revision {
	t.Helper()
	rev, err := s.Put(t.Context(), key, []byte(value), expected, state.Fence{})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return rev
}

func get(t *testing.T, s state.Store, key string) state.Entry {
	t.Helper()
	e, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return e
}

func remove(t *testing.T, s state.Store, key string, expected state.Revision) {
	t.Helper()
	if err := s.Delete(t.Context(), key, expected, state.Fence{}); err != nil {
		t.Fatalf("delete %s: %v", key, err)
	}
}
