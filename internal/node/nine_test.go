package node_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/mysqltest"
)

// The largest group there is: every member hands out auto-increment values, and
// no two of them the same. A collision would be a lost certification (3101) or a
// duplicate key (1062).
func TestNineMembersInsertAtOnceWithoutACollision(t *testing.T) {
	t.Parallel()
	began := time.Now()
	servers := mysqltest.Start(t, 9)
	up := time.Since(began)
	s := newSite(t, servers)
	var names []string
	for _, m := range servers {
		names = append(names, m.Name())
	}
	n := s.serve(t, "node", names...)
	began = time.Now()
	o, err := n.Apply(t.Context(), s.wish(names...))
	n.done(t, o, err)
	t.Logf("nine servers up after %.1f s, a group of nine %.1f s later; %d MB resident together", up.Seconds(), time.Since(began).Seconds(), residentAll(servers))
	if mb := residentAll(servers); mb > 6000 {
		t.Errorf("nine members take %d MB", mb)
	}
	run(t, servers[0].App(t), "create database story", "create table story.counted (id bigint unsigned not null auto_increment primary key, member varchar(8) not null)")
	caughtUp(t, servers)

	const each, sessions = 60, 2
	var collided, failed, acked atomic.Int64
	var all sync.WaitGroup
	for _, m := range servers {
		db := m.App(t)
		db.SetMaxOpenConns(sessions)
		if got := one(t, db, "select count(*) from information_schema.tables where table_name = 'counted'"); got != "1" {
			t.Fatalf("%s does not have the table", m.Name())
		}
		for range sessions {
			all.Go(func() {
				for range each {
					_, err := db.ExecContext(t.Context(), "insert into story.counted (member) values (?)", m.Name())
					var e *driver.MySQLError
					switch {
					case err == nil:
						acked.Add(1)
					case errors.As(err, &e) && (e.Number == 3101 || e.Number == 1062):
						collided.Add(1)
					default:
						failed.Add(1)
						t.Errorf("%s: %v", m.Name(), err)
					}
				}
			})
		}
	}
	began = time.Now()
	all.Wait()
	t.Logf("%d plain INSERTs through nine members in %.1f s: %d collided, %d failed", acked.Load(), time.Since(began).Seconds(), collided.Load(), failed.Load())
	if collided.Load() > 0 {
		t.Errorf("%d inserts collided", collided.Load())
	}
	sameEverywhere(t, servers, nil)
	if got := one(t, servers[8].App(t), "select count(*) from story.counted"); got != fmt.Sprint(acked.Load()) {
		t.Errorf("%s rows for %d acknowledged inserts", got, acked.Load())
	}
	if got := one(t, servers[4].App(t), "select count(distinct id mod 27) from story.counted"); got != "9" {
		t.Errorf("nine members used %s offsets", got)
	}
}

// residentAll is the memory of the servers in MB, 0 where the system does not
// say.
func residentAll(servers []*mysqltest.Member) (mb int) {
	for _, m := range servers {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.PID()))
		if err != nil {
			return 0
		}
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				kb := 0
				_, _ = fmt.Sscan(value, &kb)
				mb += kb / 1000
			}
		}
	}
	return mb
}
