package statetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/state"
)

// patience bounds every wait of the suite; a healthy store needs milliseconds.
const patience = 10 * time.Second

// watching follows prefix in the background until the test ends.
func watching(t *testing.T, s state.Store, prefix string) <-chan state.Entry {
	ctx, cancel := context.WithCancel(t.Context())
	seen := make(chan state.Entry, 1024)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range s.Watch(ctx, prefix) {
			seen <- e
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return seen
}

func next(t *testing.T, seen <-chan state.Entry) state.Entry {
	t.Helper()
	select {
	case e := <-seen:
		return e
	case <-time.After(patience):
		t.Fatal("the watch stays silent")
		return state.Entry{}
	}
}

func watchBegins(t *testing.T, s state.Store, p string) {
	put(t, s, p+"a", "1", 0)
	rev := put(t, s, p+"b", "1", 0)
	rev = put(t, s, p+"b", "2", rev)
	seen := watching(t, s, p)
	if e := next(t, seen); e.Key != p+"a" || string(e.Value) != "1" {
		t.Errorf("first %+v", e)
	}
	if e := next(t, seen); e.Key != p+"b" || string(e.Value) != "2" || e.Revision != rev {
		t.Errorf("second %+v", e)
	}
}

func watchFollows(t *testing.T, s state.Store, p string) {
	first := put(t, s, p+"a", "1", 0)
	seen := watching(t, s, p)
	next(t, seen)

	second := put(t, s, p+"a", "2", first)
	if e := next(t, seen); string(e.Value) != "2" || e.Revision != second {
		t.Errorf("after the change: %+v", e)
	}
	remove(t, s, p+"a", second)
	if e := next(t, seen); e.Key != p+"a" || e.Revision != 0 || e.Value != nil {
		t.Errorf("after the deletion: %+v", e)
	}
	third := put(t, s, p+"a", "3", 0)
	if e := next(t, seen); string(e.Value) != "3" || e.Revision != third {
		t.Errorf("after the second creation: %+v", e)
	}
}

func watchPrefix(t *testing.T, s state.Store, p string) {
	seen := watching(t, s, p+"in/")
	put(t, s, p+"out", "x", 0)
	put(t, s, p+"in", "x", 0)
	put(t, s, p+"in/a", "x", 0)
	if e := next(t, seen); e.Key != p+"in/a" {
		t.Errorf("saw %+v", e)
	}
}

func watchEnds(t *testing.T, s state.Store, p string) {
	put(t, s, p+"a", "1", 0)
	for range s.Watch(t.Context(), p) {
		break
	}

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range s.Watch(ctx, p) {
			cancel()
		}
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the watch goes on after its context ended")
	}
}

func watchLast(t *testing.T, s state.Store, p string) {
	seen := watching(t, s, p)
	var rev state.Revision
	const changes = 50
	for i := 1; i <= changes; i++ {
		rev = put(t, s, p+"a", fmt.Sprint(i), rev)
	}
	var last state.Revision
	for {
		e := next(t, seen)
		if e.Revision <= last {
			t.Fatalf("revision %d came after %d", e.Revision, last)
		}
		if last = e.Revision; last == rev {
			break
		}
	}
}
