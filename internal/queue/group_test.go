package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/queue"
)

// newGroup makes a group of three writers.
func newGroup(t *testing.T, options ...mysqltest.Option) []*mysqltest.Member {
	t.Helper()
	ms, _ := newGroupAt(t, options...)
	return ms
}

// newGroupAt also says at which addresses the members talk with each other.
func newGroupAt(t *testing.T, options ...mysqltest.Option) (ms []*mysqltest.Member, local []string) {
	t.Helper()
	ms = mysqltest.Start(t, 3, options...)
	for range ms {
		local = append(local, freeAddr(t))
	}
	for i := range ms {
		setForGroup(t, ms[i], local[i], local)
	}
	for i, m := range ms {
		root := m.Root(t)
		if i == 0 {
			if _, err := root.Exec("SET GLOBAL group_replication_bootstrap_group=ON"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := root.Exec("START GROUP_REPLICATION"); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if _, err := root.Exec("SET GLOBAL group_replication_bootstrap_group=OFF"); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, time.Minute, m.Name()+" is ONLINE", func() bool {
			var n int
			err := root.QueryRow("SELECT COUNT(*) FROM performance_schema.replication_group_members WHERE member_state='ONLINE'").Scan(&n)
			return err == nil && n == i+1
		})
	}
	return ms, local
}

// setForGroup gives a server what it needs to join; a restart forgets it.
func setForGroup(t testing.TB, m *mysqltest.Member, local string, seeds []string) {
	t.Helper()
	user, pw := mysqltest.AdminAccount()
	root := m.Root(t)
	for _, q := range []string{
		"SET GLOBAL group_replication_group_name='5f1f0a51-7d1e-4f5e-9a5b-0d7f6c5b4a39'",
		"SET GLOBAL group_replication_local_address='" + local + "'",
		"SET GLOBAL group_replication_group_seeds='" + strings.Join(seeds, ",") + "'",
		"SET GLOBAL group_replication_single_primary_mode=OFF",
		"SET GLOBAL group_replication_enforce_update_everywhere_checks=ON",
		"SET GLOBAL group_replication_recovery_use_ssl=ON",
		"CHANGE REPLICATION SOURCE TO SOURCE_USER='" + user + "', SOURCE_PASSWORD='" + pw + "' FOR CHANNEL 'group_replication_recovery'",
	} {
		if _, err := root.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

func target(t testing.TB, m *mysqltest.Member) queue.Target {
	t.Helper()
	user, pw := mysqltest.AppAccount()
	db, err := queue.OpenTarget(mysql.Login{Address: m.Address(), User: user, Password: pw})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return queue.Target{Member: m.Name(), DB: db}
}

// The writer of a group changes again and again while writes flow and a rival
// writes to the same rows through another member; then the writer is killed.
func TestAGroupWhoseWriterChangesAndDies(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	ms := newGroup(t)
	p := placeOn(t, ms[0])
	p.do(t, "INSERT INTO q.account VALUES (1, 0)")
	for _, m := range ms[1:] {
		root := m.Root(t)
		eventually(t, time.Minute, m.Name()+" has the account", func() bool {
			var n int
			err := root.QueryRow(p.sql("SELECT COUNT(*) FROM q.account")).Scan(&n)
			return err == nil && n == 1
		})
	}
	targets := []queue.Target{target(t, ms[0]), target(t, ms[1]), target(t, ms[2])}
	r := newRig(t, p, func(c *queue.Config) { c.Apply.StatementLimit = 5 * time.Second })
	r.route.set(targets[0], nil)
	r.run(true)
	j := newJudge()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var adds, rivals, conflicts atomic.Int64
	for c := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				k := fmt.Sprintf("c%d-%d", c, i%3)
				wid := fmt.Sprintf("%s-%d", k, i)
				writes := []queue.Write{chainWrite(k, wid), sqlWrite("account", "UPDATE q.account SET balance = balance + 1 WHERE id = 1")}
				if _, err := r.svc.Submit(t.Context(), boss, r.here(writes)); err != nil {
					t.Error(err)
					return
				}
				j.acked(k, wid)
				adds.Add(1)
				time.Sleep(4 * time.Millisecond)
			}
		})
	}
	wg.Go(func() { // the rival: another member, the same row
		db := ms[2].Root(t)
		for ctx.Err() == nil {
			_, err := db.Exec(p.sql("UPDATE q.account SET balance = balance + 1000000 WHERE id = 1"))
			switch n := mysql.Number(err); {
			case err == nil:
				rivals.Add(1)
			case n == 1180 || n == 3101 || n == 1213 || n == 1205:
				conflicts.Add(1)
			default:
				t.Error("rival:", err)
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	wait := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	for i := range 8 {
		r.route.set(targets[(i+1)%2], nil)
		wait(700 * time.Millisecond)
	}
	r.route.set(queue.Target{}, errors.New("no writer"))
	if err := ms[0].Kill(mysqld.StayDown); err != nil {
		t.Fatal(err)
	}
	wait(300 * time.Millisecond)
	r.route.set(targets[1], nil)
	wait(time.Second)
	eventually(t, time.Minute, "there was traffic", func() bool { return j.count() >= 200 })
	cancel()
	wg.Wait()
	r.place = &place{member: ms[1], root: ms[1].Root(t), schema: p.schema}
	r.drained(90 * time.Second)
	want := fmt.Sprint(adds.Load() + 1000000*rivals.Load())
	t.Cleanup(func() {
		if t.Failed() {
			for _, m := range ms[1:] {
				var has, ledger, held string
				err := m.Root(t).QueryRow(p.sql("SELECT (SELECT balance FROM q.account WHERE id = 1), (SELECT COUNT(*) FROM perdure.queue_ledger), (SELECT COUNT(*) FROM perdure.queue_held)")).Scan(&has, &ledger, &held)
				t.Logf("%s: the account has %s, the ledger %s rows, %s are held: %v", m.Name(), has, ledger, held, err)
			}
			t.Logf("%d additions, %d of the rival, %d conflicts of it; %s; failures %s", adds.Load(), rivals.Load(), conflicts.Load(), j.check(t, r.place), queue.Failures(r.svc))
		}
	})
	eventually(t, 60*time.Second, "the account has "+want, func() bool {
		return r.place.one(t, "SELECT balance FROM q.account WHERE id = 1") == want
	})
	v := j.check(t, r.place)
	t.Logf("%v; %d writes of the rival, %d of its transactions lost a conflict", v, rivals.Load(), conflicts.Load())
	if v != (verdict{acked: v.acked}) || v.acked < 200 {
		t.Fatal(v)
	}
}
