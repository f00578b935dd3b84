package node_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysql/mysqld"
)

// What happens to a group as a whole, while four clients write through the proxy.
func TestAGroupMendsItself(t *testing.T) {
	t.Parallel()
	nurse(t, []mishap{
		{"a human's wish beside a plan is refused, and a plan is aborted", humansBesidePlans, false},
		{"the majority is killed: the rest goes on, and all come back", majorityDown, true},
		{"a transaction that nobody can apply", poison, false},
		{"all are killed, and none of them holds everything", nobodyHoldsAll, false},
		{"the majority hangs: a human is asked, and then not any more", majorityHangs, true},
		{"the majority comes back with more than the rest: they start together", majorityBackWithMore, true},
		{"all are killed at once", allDown, true},
		{"all are killed, and one does not come back: a human is asked", oneStaysDown, true},
		{"all are killed under load, again and again", allDownAgain, true},
	})
}

// The order matters: the two that died are still starting when the rest goes on.
func majorityDown(t *testing.T, w *ward) {
	began := time.Now()
	w.kill(t, mysqld.StayDown, "m2", "m3")
	lost := w.told(t, began, "group.quorum-lost")
	acts := w.told(t, began, "healing.acts", "goes on without the lost majority", "proven down")
	on := w.told(t, began, "group.quorum-regained")
	o := w.operation(t, began, "force")
	if o.State != "done" {
		t.Fatalf("%s: %s\n%s", o.State, o.Error, story(o))
	}
	t.Logf("majority lost seen after %.1f s, acted after %.1f s, the rest commits after %.1f s", lost.Time.Sub(began).Seconds(), acts.Time.Sub(began).Seconds(), on.Time.Sub(began).Seconds())
	w.start(t, "m2", "m3")
	if on.Time.Sub(began) > 25*time.Second {
		t.Log(tail(w.member("m1").LogPath(), 60))
	}
}

// They hang, so nobody knows whether they run: only a human may say.
func majorityHangs(t *testing.T, w *ward) {
	began := time.Now()
	thaw := func() {
		for _, n := range []string{"m2", "m3"} {
			_ = w.member(n).Thaw()
		}
	}
	defer thaw()
	for _, n := range []string{"m2", "m3"} {
		if err := w.member(n).Freeze(); err != nil {
			t.Fatal(err)
		}
	}
	asks := w.told(t, began, "healing.asks", "not proven down: m2 is UNREACHABLE", "perdure group force --accept-loss m2,m3")
	t.Logf("asked after %.1f s: %s", asks.Time.Sub(began).Seconds(), asks.Text)
	if one(t, w.member("m1").Root(t), "select @@group_replication_force_members") != "" {
		t.Error("it was forced")
	}
	thaw()
	w.told(t, began, "healing.answered")
}

// The rest of a group that lost its majority lacks what those that are back have:
// forcing it would lose that.
func majorityBackWithMore(t *testing.T, w *ward) {
	began := time.Now()
	st, err := w.node.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.paused(t, func() {
		w.kill(t, mysqld.StayDown, "m2", "m3")
		sees(t, w.member("m1"), time.Minute, "UNREACHABLE", 2)
		w.start(t, "m2", "m3")
		run(t, w.member("m2").Root(t), "set global super_read_only = off")
		c := session(t, w.member("m2"), fmt.Sprintf("set gtid_next = '%s:910000000'", st.Cluster.Group), "insert into story.acked (n, id) values (910000000, -1010)",
			"set gtid_next = automatic", "set global super_read_only = on")
		_ = c.Close()
	})
	w.told(t, began, "healing.acts", "910000000", "that the rest lacks")
	if o := w.operation(t, began, "regroup"); o.State != "done" {
		t.Fatalf("%s: %s\n%s", o.State, o.Error, story(o))
	}
	w.mended(t)
	for _, m := range w.three {
		if n := one(t, m.Root(t), "select count(*) from story.acked where id = -1010"); n != "1" {
			t.Errorf("%s lost what m2 had", m.Name())
		}
	}
	run(t, w.member("m1").App(t), "delete from story.acked where id < 0")
}

func allDown(t *testing.T, w *ward) {
	began := time.Now()
	w.kill(t, mysqld.ComeBack, "m1", "m2", "m3")
	w.told(t, began, "healing.acts", "the group is started again")
	back := w.told(t, began, "group.bootstrapped")
	t.Logf("a group again after %.1f s", back.Time.Sub(began).Seconds())
}

func oneStaysDown(t *testing.T, w *ward) {
	began := time.Now()
	w.kill(t, mysqld.StayDown, "m1", "m2", "m3")
	w.start(t, "m1", "m2")
	asks := w.told(t, began, "healing.asks", "m3 is DOWN", "perdure group start --accept-loss")
	t.Log(asks.Text)
	w.start(t, "m3")
	w.told(t, began, "healing.answered")
	w.told(t, began, "group.bootstrapped")
}

// It depends on microseconds whether somebody holds everything; either way the
// group starts by itself.
func allDownAgain(t *testing.T, w *ward) {
	for i := range 5 {
		began := time.Now()
		w.kill(t, mysqld.ComeBack, "m1", "m2", "m3")
		w.told(t, began, "group.gone")
		w.mended(t)
		merged := ""
		for _, e := range w.events(t, began) {
			if strings.Contains(e.Event.Data.Text, "fetched ") {
				merged = e.Event.Data.Text
			}
		}
		t.Logf("%d: whole after %.1f s %s", i+1, time.Since(began).Seconds(), merged)
	}
}

// Two changes of one table on two members at once, straight to the servers: both
// succeed, and no member can apply the other's.
//
// Clients pause meanwhile: what one of the two members acknowledges after its
// own change is on that member alone, and ends in the file that is saved of it.
func poison(t *testing.T, w *ward) {
	began := time.Now()
	w.load.idle.Store(true)
	defer w.load.idle.Store(false)
	run(t, w.member("m1").App(t), "create table story.poisoned (id int primary key)", "insert into story.poisoned values (1)")
	time.Sleep(500 * time.Millisecond) // what clients had begun has ended
	caughtUp(t, w.three)
	var both sync.WaitGroup
	gate := make(chan struct{})
	for _, n := range []string{"m1", "m2"} {
		c := session(t, w.member(n), "select 1")
		both.Go(func() {
			<-gate
			if _, err := c.ExecContext(t.Context(), "alter table story.poisoned add column v int"); err != nil {
				t.Logf("%s: %v", n, err)
			}
			_ = c.Close()
		})
	}
	close(gate)
	both.Wait()
	w.told(t, began, "member.error")
	w.load.idle.Store(false)
	acts := w.told(t, began, "healing.acts")
	t.Logf("after %.1f s: %s", acts.Time.Sub(began).Seconds(), acts.Text)
	w.mended(t)
	for _, n := range []string{"m1", "m2", "m3"} {
		if got := one(t, w.member(n).Root(t), "select count(*) from information_schema.columns where table_schema = 'story' and table_name = 'poisoned'"); got != "2" {
			t.Errorf("%s has %s columns", n, got)
		}
	}
	run(t, w.member("m1").App(t), "drop table story.poisoned")
}

// What kill -9 of all members in the same instant can leave: each has a
// transaction of the group that the others lack.
func nobodyHoldsAll(t *testing.T, w *ward) {
	began := time.Now()
	st, err := w.node.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.paused(t, func() {
		w.kill(t, mysqld.StayDown, "m1", "m2", "m3")
		w.start(t, "m1", "m2", "m3")
		for i, n := range []string{"m1", "m2", "m3"} {
			run(t, w.member(n).Root(t), "set global super_read_only = off", "set global read_only = off")
			c := session(t, w.member(n), fmt.Sprintf("set gtid_next = '%s:%d'", st.Cluster.Group, 900_000_000+i),
				fmt.Sprintf("insert into story.acked (n, id) values (%d, %d)", 900_000_000+i, -1000-i), "set gtid_next = automatic", "set global super_read_only = on")
			_ = c.Close()
		}
	})
	o := w.operation(t, began, "start-group")
	if o.State != "done" {
		t.Fatalf("%s: %s\n%s", o.State, o.Error, story(o))
	}
	merged := 0
	for _, s := range o.Steps {
		if s.Name == "merge" {
			merged++
			t.Logf("%s: %s (%.1f s)", s.Member, s.Note, s.End.Sub(s.Begin).Seconds())
		}
	}
	if merged != 2 {
		t.Errorf("%d steps merged\n%s", merged, story(o))
	}
	w.mended(t)
	for _, n := range []string{"m1", "m2", "m3"} {
		db := w.member(n).Root(t)
		if got := one(t, db, "select count(*) from story.acked where id between -1002 and -1000"); got != "3" {
			t.Errorf("%s has %s of the 3 rows", n, got)
		}
		if got := one(t, db, "select count(*) from performance_schema.replication_connection_configuration where channel_name = 'perdure_fetch'"); got != "0" {
			t.Errorf("%s still has the channel", n)
		}
	}
	run(t, w.member("m1").App(t), "delete from story.acked where id < 0")
}

// While a plan runs nobody else changes anything; what runs can be taken back,
// as long as there is a way.
func humansBesidePlans(t *testing.T, w *ward) {
	o, err := w.node.Member(t.Context(), "stop", "m3", api.Ask{})
	w.node.done(t, o, err)
	// Its data cannot be replaced quickly, nor can it join while its tables are
	// locked: the plan waits, and is aborted.
	o, err = w.node.Member(t.Context(), "start", "m3", api.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.node.Member(t.Context(), "stop", "m2", api.Ask{})
	refused(t, err, "another plan is running: bring m3 back into the group", "Nothing was changed")
	_, err = w.node.Client.Group(t.Context(), "stop", api.Ask{})
	refused(t, err, "another plan is running", "Nothing was changed")
	_, err = w.node.SetGroup(t.Context(), api.SetGroup{ExpelTimeout: new(7)})
	refused(t, err, "another plan is running", "Nothing was changed")
	o, err = w.node.Abort(t.Context(), o.ID)
	if err != nil {
		t.Fatal(err)
	}
	if o, err = w.node.end(t, o, nil); err != nil || o.State != "undone" && o.State != "done" {
		t.Fatalf("%v: %s: %s\n%s", err, o.State, o.Error, story(o))
	}
	t.Logf("%s: %s\n%s", o.State, o.Error, story(o))
	if o.State == "undone" {
		says(t, o.Error, "aborted by admin")
		sees(t, w.member("m1"), 10*time.Second, "ONLINE", 2)
	}
	_, err = w.node.Abort(t.Context(), o.ID)
	refused(t, err, "has ended", "nothing to take back")
	if o, err = w.node.Member(t.Context(), "start", "m3", api.Ask{}); err == nil {
		w.node.done(t, o, err)
	}
}
