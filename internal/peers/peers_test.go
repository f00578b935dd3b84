package peers

import (
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/state"
)

func TestATokenIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	want := Token{Cluster: "shop", APIs: []string{"192.0.2.1:7040"}, CA: strings.Repeat("ab", 32), Secret: "s"}
	got, err := ParseToken(want.String() + "\n")
	if err != nil || got.Cluster != want.Cluster || got.CA != want.CA || got.Secret != want.Secret || got.APIs[0] != want.APIs[0] {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "pdj_", "pdj_e30", want.String()[4:], "pdt_" + want.String()[4:], want.String()[:20]} {
		if _, err := ParseToken(bad); err == nil {
			t.Errorf("%q was taken for a token", bad)
		} else if bad != "" && len(bad) > 6 && strings.Contains(err.Error(), bad) {
			t.Errorf("the error repeats the token: %v", err)
		}
	}
}

func TestAnInvitationWorksOnceForOneNodeUntilItEnds(t *testing.T) {
	t.Parallel()
	b := New(state.NewMemory())
	first := Node{Name: "a", Address: "h:1", Streams: "h:2"}
	if err := b.Announce(t.Context(), "shop", first, true); err != nil {
		t.Fatal(err)
	}
	everybody := func(string) bool { return true }
	nobody := func(string) bool { return false }
	secret, expires, err := b.Invite(t.Context(), "admin", "", time.Hour, everybody)
	if err != nil {
		t.Fatal(err)
	}
	n := Node{Name: "b", Address: "h:3", Streams: "h:4"}
	refusedWith := func(want string, secret string, n Node, pending func(string) bool, at time.Time) {
		t.Helper()
		if _, err := b.Admit(t.Context(), secret, n, pending, at); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	refusedWith("is not known", "guess", n, nobody, time.Now())
	refusedWith("expired at", secret, n, nobody, expires.Add(time.Second))
	refusedWith("the name a is taken", secret, Node{Name: "a", Address: "h:5", Streams: "h:6"}, nobody, time.Now())
	refusedWith("address h:1 is taken", secret, Node{Name: "b", Address: "h:1", Streams: "h:6"}, nobody, time.Now())
	got, err := b.Admit(t.Context(), secret, n, nobody, time.Now())
	if err != nil || got.Self.Slot != 1 || len(got.List.Nodes) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	waits := func(name string) bool { return name == "b" }
	if again, err := b.Admit(t.Context(), secret, n, waits, time.Now()); err != nil || again.Self.Slot != 1 || len(again.List.Nodes) != 2 {
		t.Errorf("asked again before it started: %+v, %v", again, err)
	}
	refusedWith("was used already, by the node b", secret, Node{Name: "c", Address: "h:5", Streams: "h:6"}, nobody, time.Now())
	refusedWith("the name b is taken", secret, n, nobody, time.Now())
}

func TestNobodyLeavesIfTheOthersWouldHaveNoMajority(t *testing.T) {
	t.Parallel()
	three := List{Nodes: []Node{{Name: "a"}, {Name: "b"}, {Name: "c"}}}
	up := func(names string) func(string) bool { return func(n string) bool { return strings.Contains(names, n) } }
	for _, c := range []struct {
		name, leaves, up, want string
		list                   List
	}{
		{"all are up", "c", "abc", "", three},
		{"the silent one leaves", "c", "ab", "", three},
		{"one of two who would be left is silent", "b", "ab", "is no majority", three},
		{"nobody knows it", "d", "abc", "no node d", three},
		{"it is the only one", "a", "a", "only node", List{Nodes: []Node{{Name: "a"}}}},
		{"there is no list yet", "a", "a", "a moment ago", List{}},
		{"it leaves already", "a", "", "", List{Nodes: []Node{{Name: "a", Leaving: true}, {Name: "b"}}}},
	} {
		err := mayLeave(c.list, c.leaves, up(c.up))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
