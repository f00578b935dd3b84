package node

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestWhatIsToldOfAProxy(t *testing.T) {
	t.Parallel()
	nobody := errors.New("no member takes reads")
	at := time.Now()
	var told proxyTold
	look := func(health error, moves, losses int) string {
		at = at.Add(proxyLook)
		var out []string
		for _, n := range told.look(at, health, moved{moves, losses}) {
			out = append(out, string(n.kind)+": "+n.text)
		}
		return strings.Join(out, "; ")
	}
	for i, c := range []struct {
		name          string
		health        error
		moves, losses int
		want          string
	}{
		{"it begins before the first View", nobody, 0, 0, ""},
		{"all is well", nil, 0, 0, ""},
		{"a drain", nil, 500, 0, "proxy.moved: moved sessions to another member 500 times"},
		{"it goes on", nil, 900, 0, ""},
		{"an election", nobody, 900, 0, ""},
		{"still", nobody, 900, 0, ""},
		{"nobody is there", nobody, 900, 3, "proxy.refusing: knows no member to send clients to: no member takes reads"},
		{"it is said once, and what moved meanwhile after a while", nobody, 900, 3, "proxy.moved: moved sessions to another member 400 times, and lost 3 server connections under its sessions"},
		{"it is over", nil, 900, 3, "proxy.started: knows a member to send clients to again"},
		{"quiet", nil, 900, 3, ""},
	} {
		if got := look(c.health, c.moves, c.losses); got != c.want {
			t.Errorf("%d %s: told %q, want %q", i, c.name, got, c.want)
		}
	}
}
