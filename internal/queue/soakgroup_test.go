package queue_test

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysqltest"
)

// soakGroup is a group of three writers for a soak, and who of them writes for
// the queue. All nodes learn that from one file, as they learn it from the
// cluster's View otherwise.
type soakGroup struct {
	members []*mysqltest.Member
	local   []string
	writer  int
	file    string
}

func newSoakGroup(t *testing.T) *soakGroup {
	ms, local := newGroupAt(t, mysqltest.Durable())
	return &soakGroup{members: ms, local: local}
}

func (g *soakGroup) addresses() []string {
	var out []string
	for _, m := range g.members {
		out = append(out, m.Address())
	}
	return out
}

// turn names another writer, or none.
func (g *soakGroup) turn(t testing.TB, n int) {
	t.Helper()
	if err := os.WriteFile(g.file+".new", []byte(strconv.Itoa(n)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(g.file+".new", g.file); err != nil {
		t.Fatal(err)
	}
	g.writer = n
}

// back lets another member write, and brings those that are down into the group.
func (g *soakGroup) back(t testing.TB) {
	t.Helper()
	for i, m := range g.members {
		if m.PID() != 0 {
			continue
		}
		g.turn(t, (i+1)%len(g.members))
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		root := m.Root(t)
		// It may be refused while the others still hold its place.
		eventually(t, 2*time.Minute, m.Name()+" is ONLINE again", func() bool {
			var state string
			_ = root.QueryRow("SELECT member_state FROM performance_schema.replication_group_members WHERE member_id=@@server_uuid").Scan(&state)
			switch state {
			case "ONLINE":
				return true
			case "RECOVERING":
			default:
				_, _ = root.Exec("STOP GROUP_REPLICATION")
				setForGroup(t, m, g.local[i], g.local)
				_, _ = root.Exec("START GROUP_REPLICATION")
			}
			return false
		})
	}
}
