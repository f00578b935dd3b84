package access

import (
	"testing"
	"time"

	"github.com/perdure/perdure/internal/state"
)

// A token works at once, also when the news of an earlier one arrives after it.
func TestLateNewsTakesNoTokenBack(t *testing.T) {
	t.Parallel()
	store := state.NewMemory()
	l := New(store, "root")
	if _, err := l.Make(t.Context(), Token{Name: "first", Role: Viewer}); err != nil {
		t.Fatal(err)
	}
	late := *l.newest.Load()
	secret, err := l.Make(t.Context(), Token{Name: "second", Role: Viewer})
	if err != nil {
		t.Fatal(err)
	}
	l.learn(late)
	if who, err := l.Who(secret, time.Now()); err != nil || who.Name != "second" {
		t.Fatalf("%+v, %v", who, err)
	}
}
