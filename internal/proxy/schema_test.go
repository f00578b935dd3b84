package proxy

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/topology"
)

// Two ALTERs of one table from two clients at one moment, and a migration beside
// writers on all members: the group stays whole.
func TestChangesOfSchemaLeaveTheGroupWhole(t *testing.T) {
	t.Parallel()
	rounds := 3
	if n, err := strconv.Atoi(os.Getenv("PERDURE_ROUNDS")); err == nil {
		rounds = n
	}
	r := group(t, 3)
	exec(t, openDB(t, r.dsn(ReadWrite)), "CREATE TABLE load_t (id BIGINT PRIMARY KEY, v VARCHAR(10))", "CREATE TABLE a (id INT PRIMARY KEY)")
	l := startLoad(t, r, 16)
	until(t, 10*time.Second, "sessions on every member", func() bool {
		return r.proxy.Drained("m1") > 0 && r.proxy.Drained("m2") > 0 && r.proxy.Drained("m3") > 0
	})
	one, two := r.conn(t, ReadWrite), r.conn(t, Split)
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
		if n := len(r.watcher.View().In(topology.Online)); n != 3 {
			t.Fatalf("round %d: %d members are left", round, n)
		}
	}
	l.end(t, "migration", r.members[0].Root(t))
	for _, m := range r.members {
		if got := ask(t, m.Root(t), "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema='test' AND table_name='a'"); got != strconv.Itoa(rounds+1) {
			t.Errorf("%s has %s columns", m.Name(), got)
		}
	}
}
