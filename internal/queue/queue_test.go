package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/queue"
)

// TestQueue plays stories that do not harm the server, side by side on one, each
// in a schema of its own.
func TestQueue(t *testing.T) {
	t.Parallel()
	m := mysqltest.Start(t, 1)[0]
	m.OpenForWrites(t)
	for _, story := range []struct {
		name string
		play func(*testing.T, *place)
	}{
		{"an accepted write is applied and says so", anAcceptedWriteIsAppliedAndSaysSo},
		{"values arrive as they were sent", valuesArriveAsTheyWereSent},
		{"time and chance are those of acceptance", timeAndChanceAreThoseOfAcceptance},
		{"retries of one id take effect once", retriesOfOneIDTakeEffectOnce},
		{"many clients keep the order of every key", manyClientsKeepTheOrderOfEveryKey},
		{"errors of a statement end in dead letters", errorsOfAStatementEndInDeadLetters},
		{"a dead letter is retried edited and discarded", aDeadLetterIsRetriedEditedAndDiscarded},
		{"a parked key waits and goes on in order", aParkedKeyWaitsAndGoesOnInOrder},
		{"a locked row holds up its key alone", aLockedRowHoldsUpItsKeyAlone},
		{"the older of two appliers is fenced", theOlderOfTwoAppliersIsFenced},
		{"paused means accepted and not applied", pausedMeansAcceptedAndNotApplied},
		{"a log that lost its end is not applied over", aLogThatLostItsEndIsNotAppliedOver},
		{"the ledger is pruned by the age of ids", theLedgerIsPrunedByTheAgeOfIDs},
		{"inserts travel together and fail alone", insertsTravelTogetherAndFailAlone},
	} {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			story.play(t, placeOn(t, m))
		})
	}
}

func anAcceptedWriteIsAppliedAndSaysSo(t *testing.T, p *place) {
	r := newRig(t, p)
	r.run(true)
	got := r.put(chainWrite("a", "w1"))
	if got.State != queue.Applied || got.Affected == nil || *got.Affected != 2 || got.Sequence == 0 {
		t.Fatalf("%+v", got)
	}
	if got.GTID == "" {
		t.Error("no GTID to wait for")
	}
	again, err := r.svc.Receipt(t.Context(), got.ID)
	if err != nil || again.State != queue.Applied || *again.Affected != 2 {
		t.Fatalf("%+v %v", again, err)
	}
	_, err = r.svc.Receipt(t.Context(), queue.NewID(time.Now()))
	if p := (*queue.Problem)(nil); !errors.As(err, &p) || p.Status != 404 {
		t.Fatal("an id nobody sent:", err)
	}
}

func valuesArriveAsTheyWereSent(t *testing.T, p *place) {
	r := newRig(t, p)
	r.run(true)
	nasty := "'\"\\\x00\n\r\x1a%_`;--é😀"[:14]
	got := r.put(queue.Write{Key: "k", Statements: []queue.Statement{{
		SQL:  "INSERT INTO q.things (id, name, at, d, b, j) VALUES (?, ?, ?, ?, ?, ?)",
		Args: []any{json.Number("7"), nasty[:9], "2024-02-29 12:00:00.5", json.Number("-12.50"), []byte{0, 255, 39}, `{"a":"\"'"}`},
	}}})
	if got.State != queue.Applied {
		t.Fatalf("%+v", got)
	}
	var name, at, d, j string
	var b []byte
	if err := r.place.root.QueryRow(p.sql("SELECT name, CAST(at AS CHAR), d, b, j FROM q.things WHERE id=7")).Scan(&name, &at, &d, &b, &j); err != nil {
		t.Fatal(err)
	}
	if name != nasty[:9] || at != "2024-02-29 12:00:00.500000" || d != "-12.50" || string(b) != "\x00\xff'" || j != `{"a": "\"'"}` {
		t.Errorf("%q %q %q %q %q", name, at, d, b, j)
	}
}

func timeAndChanceAreThoseOfAcceptance(t *testing.T, p *place) {
	r := newRig(t, p)
	r.run(false)
	before := time.Now().UTC().Add(-time.Millisecond)
	id := r.submit(sqlWrite("k", "INSERT INTO q.things (id, name, at, r) VALUES (1, 'x', NOW(6), RAND())"))[0].ID
	after := time.Now().UTC()
	eventually(t, 5*time.Second, "a moment has passed", func() bool { return time.Since(after) > 300*time.Millisecond })
	r.startApplier(0)
	if got := r.settled(id); got.State != queue.Applied {
		t.Fatalf("%+v", got)
	}
	text := r.place.one(t, "SELECT CAST(at AS CHAR) FROM q.things")
	at, err := time.Parse("2006-01-02 15:04:05.000000", text)
	if err != nil || at.Before(before) || at.After(after) {
		t.Fatalf("%s is not between %s and %s", text, before, after)
	}
}

func retriesOfOneIDTakeEffectOnce(t *testing.T, p *place) {
	r := newRig(t, p)
	r.run(true)
	w := chainWrite("a", "w1")
	w.ID = queue.NewID(time.Now()).String()
	first := r.put(w)
	again := r.put(w)
	if again.State != queue.Applied || !again.Duplicate || again.Sequence != first.Sequence {
		t.Fatalf("%+v then %+v", first, again)
	}
	other := chainWrite("a", "w2")
	other.ID = w.ID
	_, err := r.svc.Submit(t.Context(), boss, []queue.Write{other})
	if p := (*queue.Problem)(nil); !errors.As(err, &p) || p.Kind != "id-reused" || p.Status != 409 {
		t.Fatal("another write under the same id:", err)
	}
	// Other nodes do not remember; their copies reach the log and the ledger.
	for _, w := range []queue.Write{w, other} {
		node, err := queue.New(r.cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = node.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		out, err := node.Submit(t.Context(), boss, []queue.Write{w, chainWrite("a", fmt.Sprint("n", time.Now().UnixNano()))})
		if err != nil {
			t.Fatal(err)
		}
		r.settled(out[1].ID)
	}
	if n := r.place.one(t, "SELECT COUNT(*) FROM q.effects WHERE wid IN ('w1','w2')"); n != "1" {
		t.Fatalf("%s effects", n)
	}
	found := false
	for len(r.notices) > 0 {
		found = found || (<-r.notices).Kind == "id-reused"
	}
	if !found {
		t.Error("nobody was told of the reused id")
	}
}

func manyClientsKeepTheOrderOfEveryKey(t *testing.T, p *place) {
	r := newRig(t, p)
	r.run(true)
	j := newJudge()
	var wg sync.WaitGroup
	for c := range 16 {
		wg.Go(func() {
			for i := range 60 {
				k := fmt.Sprintf("c%d-%d", c, i%3)
				wid := fmt.Sprintf("%s-%d", k, i)
				if _, err := r.svc.Submit(t.Context(), boss, []queue.Write{chainWrite(k, wid)}); err != nil {
					t.Error(err)
					return
				}
				j.acked(k, wid)
			}
		})
	}
	wg.Wait()
	r.put(chainWrite("end", "end"))
	j.acked("end", "end")
	r.drained(time.Minute)
	if v := j.check(t, r.place); v != (verdict{acked: 16*60 + 1}) {
		t.Fatal(v)
	}
}

// drained waits until all that is in the log is applied or set aside.
func (r *rig) drained(limit time.Duration) {
	r.t.Helper()
	eventually(r.t, limit, "the queue is drained", func() bool {
		st, err := r.svc.Status(r.t.Context())
		return err == nil && st.Applying != nil && st.Applying.Working && st.Applying.BehindFrames == 0
	})
}

// Every error a statement can bring upon itself: the write is tried 25 times
// and becomes a dead letter, the key goes on, and other writes of the same
// batch are not touched.
func errorsOfAStatementEndInDeadLetters(t *testing.T, p *place) {
	r := newRig(t, p, func(c *queue.Config) { c.Apply.RetryFirst, c.Apply.RetryMost = 200*time.Microsecond, time.Millisecond })
	r.place.do(t, "INSERT INTO q.account VALUES (1, 10)")
	r.place.do(t, "INSERT INTO q.parent VALUES (1)")
	r.place.do(t, "INSERT INTO q.child VALUES (1, 1)")
	r.place.do(t, "CREATE TRIGGER q.boom BEFORE INSERT ON q.parent FOR EACH ROW IF NEW.id = 99 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT='no'; END IF")
	r.run(true)
	cases := []struct {
		number int
		write  queue.Write
	}{
		{1048, sqlWrite("", "INSERT INTO q.parent VALUES (NULL)")},
		{1054, sqlWrite("", "UPDATE q.parent SET nosuch = 1")},
		{1062, sqlWrite("", "INSERT INTO q.account VALUES (1, 1)")},
		{1064, sqlWrite("", "INSERT INTO q.parent VALUES (1")},
		{1136, sqlWrite("", "INSERT INTO q.parent VALUES (1, 2)")},
		{1142, sqlWrite("", "INSERT INTO `mysql` VALUES (1)")}, // no such table in no schema: 1046
		{1146, sqlWrite("", "INSERT INTO q.nosuch VALUES (1)")},
		{1264, sqlWrite("", "INSERT INTO q.things (id, name, u) VALUES (5, 'x', 300)")},
		{1292, sqlWrite("", "INSERT INTO q.things (id, name, at) VALUES (6, 'x', 'never')")},
		{1305, sqlWrite("", "INSERT INTO q.parent VALUES ( q.nosuch())")},
		{1364, sqlWrite("", "INSERT INTO q.things (id) VALUES (7)")},
		{1366, sqlWrite("", "INSERT INTO q.things (id, name, u) VALUES (8, 'x', 'abc')")},
		{1406, sqlWrite("", "INSERT INTO q.things (id, name) VALUES (9, 'much too long')")},
		{1451, sqlWrite("", "DELETE FROM q.parent WHERE id = 1")},
		{1452, sqlWrite("", "INSERT INTO q.child VALUES (2, 77)")},
		{1644, sqlWrite("", "INSERT INTO q.parent VALUES (99)")},
		{1690, sqlWrite("", "UPDATE q.account SET balance = 9223372036854775807 + id")},
		{3140, sqlWrite("", "INSERT INTO q.things (id, name, j) VALUES (10, 'x', '{')")},
		{3819, sqlWrite("", "UPDATE q.account SET balance = balance - 100 WHERE id = 1")},
		{0, queue.Write{Operation: "withdraw", Params: map[string]json.RawMessage{"id": json.RawMessage("404"), "amount": json.RawMessage("1")}}},
	}
	var writes []queue.Write
	for i, c := range cases {
		if c.write.Operation == "" {
			c.write.Key = fmt.Sprint("bad", i)
		}
		writes = append(writes, chainWrite("good", fmt.Sprint("g", i)), c.write)
	}
	got := r.submit(writes...)
	for i, c := range cases {
		if s := r.settled(got[2*i].ID); s.State != queue.Applied {
			t.Fatalf("a good write became %+v", s)
		}
		s := r.settled(got[2*i+1].ID)
		if s.State != queue.Dead || s.Attempts != 25 {
			t.Errorf("%d: %+v", c.number, s)
			continue
		}
		d, err := r.svc.DeadLetter(t.Context(), got[2*i+1].ID)
		if err != nil {
			t.Fatal(err)
		}
		if d.Number != c.number && c.number != 1142 {
			t.Errorf("expected error %d, got %d: %s", c.number, d.Number, d.Error)
		}
	}
	if n := r.place.one(t, "SELECT n FROM q.chain WHERE k='good'"); n != fmt.Sprint(len(cases)) {
		t.Errorf("%s good writes applied", n)
	}
	list, err := r.svc.DeadLetters(t.Context(), time.Time{}, 0)
	list = slices.DeleteFunc(list, func(d queue.DeadLetter) bool {
		return !slices.ContainsFunc(got, func(g queue.Receipt) bool { return g.ID == d.ID })
	})
	if err != nil || len(list) != len(cases) {
		t.Fatalf("%d dead letters, %v", len(list), err)
	}
}

func aDeadLetterIsRetriedEditedAndDiscarded(t *testing.T, p *place) {
	r := newRig(t, p)
	r.run(true)
	bad := r.put(sqlWrite("k", "INSERT INTO q.later VALUES (1)"))
	if bad.State != queue.Dead {
		t.Fatalf("%+v", bad)
	}
	if got := r.put(sqlWrite("k", "INSERT INTO q.parent VALUES (5)")); got.State != queue.Applied {
		t.Fatal("the key did not go on:", got)
	}
	r.place.do(t, "CREATE TABLE q.later (id INT PRIMARY KEY)")
	if err := r.svc.Retry(t.Context(), boss, bad.ID, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the retried write is applied", func() bool {
		got, err := r.svc.Receipt(t.Context(), bad.ID)
		return err == nil && got.State == queue.Applied
	})
	bad = r.put(sqlWrite("k", "INSERT INTO q.later VALUES (1)"))
	err := r.svc.Retry(t.Context(), boss, bad.ID, []queue.Statement{{SQL: "DROP TABLE q.later"}})
	if p := (*queue.Problem)(nil); !errors.As(err, &p) || p.Kind != "refused-sql" {
		t.Fatal("an edited write goes around the guard:", err)
	}
	if err := r.svc.Retry(t.Context(), boss, bad.ID, []queue.Statement{{SQL: r.place.sql("INSERT INTO q.later VALUES (?)"), Args: []any{2}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the edited write is applied", func() bool {
		got, err := r.svc.Receipt(t.Context(), bad.ID)
		return err == nil && got.State == queue.Applied
	})
	if n := r.place.one(t, "SELECT COUNT(*) FROM q.later"); n != "2" {
		t.Fatal(n)
	}
	bad = r.put(sqlWrite("k", "INSERT INTO q.later VALUES (1)"))
	if err := r.svc.Discard(t.Context(), boss, bad.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "it is discarded", func() bool {
		got, err := r.svc.Receipt(t.Context(), bad.ID)
		return err == nil && got.State == queue.Discarded
	})
	if err := r.svc.Discard(t.Context(), queue.Caller{Name: "clerk"}, bad.ID); err == nil {
		t.Fatal("a token without the right operates the queue")
	}
}

func aParkedKeyWaitsAndGoesOnInOrder(t *testing.T, p *place) {
	r := newRig(t, p, func(c *queue.Config) { c.Apply.Park = true })
	r.run(true)
	r.place.do(t, "ALTER TABLE q.effects ADD CONSTRAINT c CHECK (wid <> 'w2')")
	ids := r.submit(chainWrite("k", "w1"), chainWrite("k", "w2"), chainWrite("k", "w3"), chainWrite("other", "o1"))
	r.settled(ids[3].ID)
	if got := r.settled(ids[1].ID); got.State != queue.Dead {
		t.Fatalf("%+v", got)
	}
	ids = append(ids, r.submit(chainWrite("k", "w4"))...)
	r.put(chainWrite("other", "o2"))
	r.drained(time.Minute)
	if n := r.place.one(t, "SELECT n FROM q.chain WHERE k='k'"); n != "1" {
		t.Fatalf("%s writes of a parked key were applied", n)
	}
	r.place.do(t, "ALTER TABLE q.effects DROP CONSTRAINT c")
	if err := r.svc.Retry(t.Context(), boss, ids[1].ID, nil); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{2, 4} {
		if got := r.settled(ids[i].ID); got.State != queue.Applied {
			t.Fatalf("%+v", got)
		}
	}
	if h := r.place.one(t, "SELECT h FROM q.chain WHERE k='k'"); h != chainOf([]string{"w1", "w2", "w3", "w4"}) {
		t.Fatal("not in order")
	}
	// Discarding opens a parked key as well.
	r.place.do(t, "ALTER TABLE q.effects ADD CONSTRAINT c CHECK (wid <> 'w5')")
	ids = r.submit(chainWrite("k", "w5"), chainWrite("k", "w6"))
	r.settled(ids[0].ID)
	if err := r.svc.Discard(t.Context(), boss, ids[0].ID); err != nil {
		t.Fatal(err)
	}
	if got := r.settled(ids[1].ID); got.State != queue.Applied {
		t.Fatalf("%+v", got)
	}
}

func aLockedRowHoldsUpItsKeyAlone(t *testing.T, p *place) {
	r := newRig(t, p, func(c *queue.Config) { c.Apply.Partitions = 1 })
	r.place.do(t, "INSERT INTO q.account VALUES (1, 10), (2, 10)")
	r.run(true)
	tx, err := r.place.root.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(p.sql("UPDATE q.account SET balance = 11 WHERE id = 1")); err != nil {
		t.Fatal(err)
	}
	ids := r.submit(
		sqlWrite("locked", "UPDATE q.account SET balance = balance + 5 WHERE id = 1"),
		sqlWrite("free", "UPDATE q.account SET balance = balance + 5 WHERE id = 2"))
	if got := r.settled(ids[1].ID); got.State != queue.Applied {
		t.Fatalf("%+v", got)
	}
	got, err := r.svc.Receipt(t.Context(), ids[0].ID)
	if err != nil || got.State != queue.Queued || got.Attempts != 0 {
		t.Fatalf("%+v %v", got, err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := r.settled(ids[0].ID); got.State != queue.Applied || got.Attempts != 1 {
		t.Fatalf("%+v", got)
	}
	if b := r.place.one(t, "SELECT SUM(balance) FROM q.account"); b != "31" {
		t.Fatal(b)
	}
}

func TestAReadOnlyDatabaseIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, newPlace(t))
	r.run(true)
	r.put(chainWrite("k", "w0"))
	r.place.do(t, "SET GLOBAL super_read_only = ON")
	id := r.submit(chainWrite("k", "w1"))[0].ID
	eventually(t, 10*time.Second, "status names the trouble", func() bool {
		st, _ := r.svc.Status(t.Context())
		return st.Applying != nil && len(st.Applying.Troubles) > 0 && strings.Contains(strings.Join(st.Applying.Troubles, " "), "read")
	})
	r.place.do(t, "SET GLOBAL read_only = OFF")
	if got := r.settled(id); got.State != queue.Applied || got.Attempts != 1 {
		t.Fatalf("%+v", got)
	}
}

func TestKilledFrozenAndAbsentServersAreWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, newPlace(t), func(c *queue.Config) { c.Apply.StatementLimit = 2 * time.Second })
	r.run(true)
	j := newJudge()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				k := fmt.Sprintf("c%d-%d", c, i%5)
				wid := fmt.Sprintf("%s-%d", k, i)
				if _, err := r.svc.Submit(t.Context(), boss, []queue.Write{chainWrite(k, wid)}); err != nil {
					t.Error(err)
					return
				}
				j.acked(k, wid)
				time.Sleep(time.Millisecond)
			}
		})
	}
	pause := func(d time.Duration) { // traffic goes on meanwhile
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	m := r.place.member
	for range 2 {
		pause(300 * time.Millisecond)
		if err := m.Kill(mysqld.StayDown); err != nil {
			t.Fatal(err)
		}
		pause(200 * time.Millisecond)
		if err := m.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.OpenForWrites(t)
		pause(300 * time.Millisecond)
		if err := m.Freeze(); err != nil {
			t.Fatal(err)
		}
		pause(2500 * time.Millisecond)
		if err := m.Thaw(); err != nil {
			t.Fatal(err)
		}
	}
	pause(300 * time.Millisecond)
	eventually(t, time.Minute, "there was traffic", func() bool { return j.count() >= 500 })
	cancel()
	wg.Wait()
	r.drained(90 * time.Second)
	v := j.check(t, r.place)
	db := m.Root(t)
	t.Log(v)
	if v.lost+v.twice+v.strange+v.disorder != 0 || v.acked < 500 {
		t.Fatal(v)
	}
	var dead int
	if err := db.QueryRow("SELECT COUNT(*) FROM perdure.queue_dead").Scan(&dead); err != nil || dead != 0 {
		t.Fatal(dead, err)
	}
}

func theOlderOfTwoAppliersIsFenced(t *testing.T, p *place) {
	r := newRig(t, p)
	r.run(false)
	stopOld := r.startApplier(1)
	j := newJudge()
	feed := func(n int, from string) {
		for i := range n {
			k := fmt.Sprint("k", i%7)
			wid := fmt.Sprint(from, i)
			r.submit(chainWrite(k, wid))
			j.acked(k, wid)
		}
	}
	feed(100, "a")
	second, err := queue.New(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- second.Applier.Run(ctx, 2) }()
	feed(300, "b")
	applied := func(n int) {
		eventually(t, time.Minute, "all are applied", func() bool {
			return r.place.one(t, "SELECT COUNT(*) FROM q.effects") == fmt.Sprint(n)
		})
	}
	applied(400)
	// On a busy machine the second may claim when all that is done. Then the older
	// one hears of it with the next write, and not before.
	n := 400
	eventually(t, 30*time.Second, "the older one met the fence", func() bool {
		for len(r.notices) > 0 {
			if (<-r.notices).Kind == "fenced" {
				return true
			}
		}
		feed(1, fmt.Sprint("c", n, "-"))
		n++
		return false
	})
	applied(n)
	if err := stopOld(); !errors.Is(err, queue.ErrFenced) {
		t.Errorf("the older one ended with: %v", err)
	}
	cancel()
	<-done
	if v := j.check(t, r.place); v != (verdict{acked: n}) {
		t.Fatal(v)
	}
	// An epoch that is over gets nothing done at all.
	if err := r.svc.Applier.Run(t.Context(), 1); !errors.Is(err, queue.ErrFenced) {
		t.Fatal(err)
	}
}

func pausedMeansAcceptedAndNotApplied(t *testing.T, p *place) {
	r := newRig(t, p)
	r.run(true)
	r.put(chainWrite("k", "w0"))
	if err := r.svc.Pause(t.Context(), boss); err != nil {
		t.Fatal(err)
	}
	id := r.submit(chainWrite("k", "w1"))[0].ID
	got, err := r.svc.SubmitAndWait(t.Context(), boss, []queue.Write{chainWrite("k", "w2")}, 100*time.Millisecond)
	if err != nil || got[0].State != queue.Queued {
		t.Fatal(got, err)
	}
	st, err := r.svc.Status(t.Context())
	if err != nil || len(st.Applying.HeldBack) != 1 || st.Applying.BehindFrames == 0 {
		t.Fatalf("%+v %v", st.Applying, err)
	}
	if n := r.place.one(t, "SELECT COUNT(*) FROM q.effects"); n != "1" {
		t.Fatal(n)
	}
	if err := r.svc.Resume(t.Context(), boss); err != nil {
		t.Fatal(err)
	}
	if got := r.settled(id); got.State != queue.Applied {
		t.Fatalf("%+v", got)
	}
}

func aLogThatLostItsEndIsNotAppliedOver(t *testing.T, p *place) {
	r := newRig(t, p, func(c *queue.Config) { c.Apply.Partitions = 1 })
	r.run(true)
	r.put(chainWrite("k", "w1"))
	r.stop()
	st, err := r.log.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Of this log alone: the other stories have theirs on the same server.
	r.place.do(t, "UPDATE perdure.queue_position SET mark = mark + 1 WHERE stream = ?", st.Generation)
	again := newRig(t, r.place)
	again.cfg.Log, again.cfg.Seal = r.log, r.keys
	svc, err := queue.New(again.cfg)
	if err != nil {
		t.Fatal(err)
	}
	again.svc = svc
	again.run(true)
	for {
		select {
		case n := <-again.notices:
			if n.Kind == "lost" {
				return
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nobody noticed")
		}
	}
}

func theLedgerIsPrunedByTheAgeOfIDs(t *testing.T, p *place) {
	r := newRig(t, p, func(c *queue.Config) { c.Window = time.Hour; c.Apply.Keep = time.Millisecond })
	r.run(true)
	r.put(chainWrite("k", "w1"))
	old := queue.NewID(time.Now().Add(-3 * time.Hour))
	r.place.do(t, "INSERT INTO perdure.queue_ledger VALUES (?, 1, 1, 0, 1, 1, 1)", old[:])
	n, err := r.svc.Prune(t.Context())
	if err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if n := r.place.one(t, "SELECT COUNT(*) FROM perdure.queue_ledger WHERE id=?", old[:]); n != "0" {
		t.Fatal(n)
	}
	w := chainWrite("k", "w2")
	w.ID = old.String()
	_, err = r.svc.Submit(t.Context(), boss, []queue.Write{w})
	if p := (*queue.Problem)(nil); !errors.As(err, &p) || p.Kind != "id-too-old" {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the log is trimmed", func() bool {
		r.put(chainWrite("k", fmt.Sprint(time.Now().UnixNano())))
		// Partitions without writes follow once nothing new came for a second.
		time.Sleep(1200 * time.Millisecond)
		keep, err := r.svc.Applier.Trim(t.Context())
		st, serr := r.log.State(t.Context())
		return err == nil && serr == nil && keep > 1 && st.First == keep
	})
	if got := r.put(chainWrite("k", "after")); got.State != queue.Applied {
		t.Fatal(got)
	}
}

// Hundreds of single-row INSERTs go to the server as a few of many rows. Nobody
// may notice: not the order, not the receipts, not a trigger, not the ones that
// fail by their own fault.
func insertsTravelTogetherAndFailAlone(t *testing.T, p *place) {
	p.do(t, "CREATE TABLE q.seen (n INT AUTO_INCREMENT PRIMARY KEY, id INT NOT NULL, before_it INT NOT NULL)")
	p.do(t, "CREATE TRIGGER q.t AFTER INSERT ON q.things FOR EACH ROW INSERT INTO "+p.schema+".seen (id, before_it) VALUES (NEW.id, (SELECT COUNT(*) FROM "+p.schema+".things))")
	r := newRig(t, p, func(c *queue.Config) { c.Apply.Partitions, c.Apply.MaxAttempts = 1, 2 })
	r.run(false)
	const n = 300
	bad := map[int]int{50: 1048, 100: 1062, 150: 1406, 299: 1264}
	var writes []queue.Write
	for i := range n {
		values := []any{i, "x"}
		text := "INSERT INTO q.things (id, name, at) VALUES (?, ?, NOW(6))"
		switch bad[i] {
		case 1048:
			values[1] = nil
		case 1062:
			values[0] = 10
		case 1406:
			values[1] = "longer than ten"
		case 1264:
			values[0] = 1 << 40
		}
		writes = append(writes, sqlWrite(fmt.Sprint("k", i), text, values...))
	}
	got := r.submit(writes...)
	r.startApplier(0)
	for i, g := range got {
		s := r.settled(g.ID)
		if bad[i] != 0 {
			if s.State != queue.Dead || !strings.Contains(s.Error, fmt.Sprint(bad[i])) {
				t.Errorf("write %d: %+v", i, s)
			}
			continue
		}
		if s.State != queue.Applied || s.Affected == nil || *s.Affected != 1 {
			t.Errorf("write %d: %+v", i, s)
		}
	}
	if c := p.one(t, "SELECT COUNT(*) FROM q.things"); c != fmt.Sprint(n-len(bad)) {
		t.Errorf("%s rows", c)
	}
	if c := p.one(t, "SELECT COUNT(*) FROM (SELECT before_it, ROW_NUMBER() OVER (ORDER BY n) AS r FROM q.seen) AS s WHERE before_it <> r"); c != "0" {
		t.Errorf("%s rows met another number of rows before them than if they had come alone", c)
	}
	if c := p.one(t, "SELECT COUNT(*) FROM (SELECT id, LAG(id) OVER (ORDER BY n) AS last FROM q.seen) AS s WHERE last > id"); c != "0" {
		t.Errorf("%s rows out of order", c)
	}
}
