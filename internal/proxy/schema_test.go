package proxy

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// Two ALTERs of one table from two clients at one moment, and a migration beside
// writers on all members: the group stays whole.
func TestChangesOfSchemaLeaveTheGroupWhole(t *testing.T) {
	t.Parallel()
	rounds := 3
	if n, err := strconv.Atoi(os.Getenv("PERDURE_ROUNDS")); err == nil {
		rounds = n
	}
	p := &pair{ready: make(chan struct{})}
	r := group(t, 3, func(c *Config) { c.Others = side{p, 0} })
	other := r.second(t, p)
	exec(t, openDB(t, r.dsn(ReadWrite)), "CREATE TABLE load_t (id BIGINT PRIMARY KEY, v VARCHAR(10))", "CREATE TABLE a (id INT PRIMARY KEY)")
	// So many that they are moved for balance if a member was suspected while they
	// came: 14, 14 and none differ by more than the eight that balance lets be.
	l, beside := startLoad(t, r, 28), startLoad(t, other, 16)
	until(t, 30*time.Second, "sessions on every member", func() bool {
		return r.proxy.Drained("m1") > 0 && r.proxy.Drained("m2") > 0 && r.proxy.Drained("m3") > 0
	})
	one, two := r.conn(t, ReadWrite), other.conn(t, Split)
	for round := range rounds {
		began := time.Now()
		var wg sync.WaitGroup
		errs := make([]error, 2)
		wg.Go(func() {
			_, errs[0] = one.ExecContext(context.Background(), fmt.Sprintf("ALTER TABLE a ADD COLUMN c%d INT", round))
		})
		wg.Go(func() {
			_, errs[1] = two.ExecContext(context.Background(), fmt.Sprintf("ALTER TABLE a ADD COLUMN c%d INT", round))
		})
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Errorf("round %d: exactly one of two equal ALTERs should succeed: %v, %v", round, errs[0], errs[1])
		}
		size := 10 + 300*(round%2+1)
		if _, err := one.ExecContext(context.Background(), fmt.Sprintf("ALTER TABLE load_t MODIFY v VARCHAR(%d) NOT NULL", size)); err != nil {
			t.Errorf("round %d: migration: %v", round, err)
		}
		t.Logf("round %d took %s", round, time.Since(began).Round(time.Millisecond))
		for _, m := range r.members {
			// The servers' own word: on a busy machine the View may suspect some.
			if n := ask(t, m.Root(t), "SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE MEMBER_STATE='ONLINE'"); n != "3" {
				for _, m := range r.members {
					for line := range strings.Lines(read(t, m.LogPath())) {
						if strings.Contains(line, "[ERROR]") {
							t.Logf("%s: %s", m.Name(), line)
						}
					}
				}
				t.Fatalf("round %d: %s has %s members online", round, m.Name(), n)
			}
		}
	}
	l.end(t, "migration", r.members[0].Root(t))
	beside.end(t, "migration, other proxy", r.members[0].Root(t))
	for _, m := range r.members {
		if got := ask(t, m.Root(t), "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema='test' AND table_name='a'"); got != strconv.Itoa(rounds+1) {
			t.Errorf("%s has %s columns", m.Name(), got)
		}
	}
}
