package access

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/state"
)

func TestRolesCover(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		has, needs Role
		want       bool
	}{
		{Viewer, Viewer, true},
		{Viewer, Operator, false},
		{Operator, Viewer, true},
		{Operator, Admin, false},
		{Admin, Operator, true},
		{Writer, Writer, true},
		{Writer, Viewer, false},
		{Viewer, Writer, false},
		{Operator, Writer, true},
		{Admin, Writer, true},
		{Writer, Nobody, true},
		{"", Viewer, false},
		{"", Writer, false},
		{"root", Viewer, false},
	} {
		if got := c.has.Covers(c.needs); got != c.want {
			t.Errorf("%q covers %q: %t", c.has, c.needs, got)
		}
	}
}

func TestATokenCanBeForAPartOfTheAPI(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"/v1/queue/pause": "queue", "/v1/status": "status", "/metrics": "metrics", "/health/writer": "health", "": ""} {
		if got := Part(path); got != want {
			t.Errorf("%s is part of %q, not %q", path, got, want)
		}
	}
	all, some := Token{Role: Viewer}, Token{Role: Viewer, Only: []string{"metrics", "events"}}
	if !all.Reaches("queue") || !some.Reaches("events") || some.Reaches("queue") || some.Reaches("") {
		t.Error("a token without parts is for all, one with parts for these")
	}
}

func TestTokensAreShownOnceHashedAndExpire(t *testing.T) {
	t.Parallel()
	store := state.NewMemory()
	l := New(store, "root-secret")
	if who, err := l.Who("root-secret", time.Now()); err != nil || who.Role != Admin {
		t.Fatalf("the node's own token: %+v, %v", who, err)
	}
	secret, err := l.Make(t.Context(), Token{Name: "ci", Role: Operator, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if who, err := l.Who(secret, time.Now()); err != nil || who.Name != "ci" || who.Role != Operator {
		t.Errorf("got %+v, %v", who, err)
	}
	if _, err := l.Who(secret, time.Now().Add(2*time.Hour)); !errors.Is(err, ErrExpired) {
		t.Errorf("after its time: %v", err)
	}
	e, _ := store.Get(t.Context(), "tokens")
	if strings.Contains(string(e.Value), secret) {
		t.Error("the store holds the secret")
	}
	all, _ := l.All(t.Context())
	if b, _ := json.Marshal(all); strings.Contains(string(b), hash(secret)) {
		t.Error("a list shows the hash")
	}
	if _, err := l.Make(t.Context(), Token{Name: "ci", Role: Viewer}); err == nil {
		t.Error("two tokens with one name")
	}
	if err := l.Revoke(t.Context(), "ci"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Who(secret, time.Now()); !errors.Is(err, ErrUnknown) {
		t.Errorf("after it was revoked: %v", err)
	}
	for _, bad := range []Token{{Name: "", Role: Viewer}, {Name: "admin", Role: Viewer}, {Name: "x", Role: "root"}, {Name: "x", Role: Viewer, SQL: true}, {Name: "x", Role: Viewer, Expires: time.Now().Add(-time.Second)}} {
		if _, err := l.Make(t.Context(), bad); err == nil {
			t.Errorf("made %+v", bad)
		}
	}
}
