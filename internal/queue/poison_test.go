package queue_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/queue"
)

// A poison write among ten thousand healthy ones, on one partition, where it
// hurts most: it is tried 25 times and dies, its key waits for it, everybody
// else goes on, and after the fix a retry applies it.
func TestAPoisonWriteAmongTenThousandHealthyOnes(t *testing.T) {
	if testing.Short() {
		t.Skip("long")
	}
	t.Parallel()
	p := newPlace(t)
	const n = 10_000
	run := func(poison bool, round int) (rate float64, r *rig, bad queue.ID) {
		r = newRig(t, p, func(c *queue.Config) {
			c.Apply.Partitions, c.Apply.Park = 1, true
			c.Apply.RetryFirst, c.Apply.RetryMost = 20*time.Millisecond, 200*time.Millisecond
		})
		var batch []queue.Write
		for i := range n {
			k := fmt.Sprintf("r%d-%d", round, i%50)
			if poison && k == fmt.Sprintf("r%d-7", round) {
				if i == 7 {
					batch = append(batch, sqlWrite(k, "INSERT INTO q.cure VALUES (1)"))
				}
				batch = append(batch, sqlWrite(k, "INSERT INTO q.cure VALUES (?)", i+100))
			} else {
				batch = append(batch, chainWrite(k, fmt.Sprintf("%s-%d", k, i)))
			}
		}
		r.run(false)
		for len(batch) > 0 {
			m := min(len(batch), 500)
			for _, got := range r.submit(batch[:m]...) {
				if bad == (queue.ID{}) && poison && batch[0].Operation == "" {
					bad = got.ID
				}
				batch = batch[1:]
			}
		}
		began := time.Now()
		r.startApplier(0)
		healthy := n
		if poison {
			healthy -= n / 50
		}
		eventually(t, 2*time.Minute, "the healthy writes are applied", func() bool {
			return p.one(t, fmt.Sprintf("SELECT COUNT(*) FROM q.effects WHERE k LIKE 'r%d-%%'", round)) == fmt.Sprint(healthy)
		})
		st, err := r.svc.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if poison && (st.Applying.Attempts > 25 || st.Applying.Batches > 40) {
			t.Errorf("others paid for it: %+v, %s", st.Applying, queue.Failures(r.svc))
		}
		return float64(healthy) / time.Since(began).Seconds(), r, bad
	}
	plain, calm, _ := run(false, 1)
	calm.stop()
	rate, r, bad := run(true, 2)
	t.Logf("healthy alone %.0f/s, beside a poison write %.0f/s", plain, rate)
	if got := r.settled(bad); got.State != queue.Dead || got.Attempts != 25 {
		t.Fatalf("%+v", got)
	}
	if c := p.one(t, "SELECT COUNT(*) FROM q.effects WHERE k LIKE 'r2-%'"); c != fmt.Sprint(n-n/50) {
		t.Fatalf("%s healthy writes are applied", c)
	}
	p.do(t, "CREATE TABLE q.cure (id INT PRIMARY KEY, n INT AUTO_INCREMENT UNIQUE)")
	if err := r.svc.Retry(t.Context(), boss, bad, []queue.Statement{{SQL: p.sql("INSERT INTO q.cure (id) VALUES (1)")}}); err != nil {
		t.Fatal(err)
	}
	if got := r.settled(bad); got.State != queue.Applied && got.State != queue.Dead {
		t.Fatalf("%+v", got)
	}
	eventually(t, 30*time.Second, "the cured write is applied", func() bool {
		got, err := r.svc.Receipt(t.Context(), bad)
		return err == nil && got.State == queue.Applied
	})
}

// A write during which the connection is lost, every time, is found out and
// quarantined; the ones behind it are applied.
func TestAWriteThatKillsItsConnectionIsQuarantined(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.do(t, "CREATE PROCEDURE q.suicide() BEGIN KILL CONNECTION_ID(); END")
	r := newRig(t, p, func(c *queue.Config) {
		c.Apply.Partitions, c.Apply.Quarantine = 1, 5
	})
	r.run(true)
	r.put(chainWrite("k", "w0"))
	got := r.submit(sqlWrite("bad", "CALL q.suicide()"), chainWrite("k", "w1"))
	if s := r.settled(got[0].ID); s.State != queue.Dead {
		t.Fatalf("%+v", s)
	}
	if s := r.settled(got[1].ID); s.State != queue.Applied {
		t.Fatalf("%+v", s)
	}
}
