package node_test

import (
	"database/sql"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/group"
	"github.com/perdure/perdure/internal/mysql/mysqld"
)

// What happens to single members, while four clients write through the proxy.
func TestAGroupMendsItsMembers(t *testing.T) {
	t.Parallel()
	nurse(t, []mishap{
		{"a member crashes and comes back", crashes, false},
		{"a member has transactions of its own, which are saved to a file", ownTransactions, false},
		{"a server does not let the node in", deniesUs, false},
		{"a member that was given up fetches what it missed", fetchesAfterAll, false},
		{"a member hangs until it is expelled, and goes on", hangs, true},
		{"what repairs left behind, and a recovery account nobody knows", leftovers, true},
		{"settings that keep a member out", drifted, true},
		{"a member cannot apply what the others did", cannotApply, true},
		{"binary logs that are needed are gone", purged, true},
		{"a member recovers with an account that was changed", stuckRecovery, true},
		{"a member that lags takes no clients", lags, true},
		{"a member that is read-only takes no writes", readOnly, true},
		{"two members in trouble at once", twoAtOnce, true},
		{"a member dies while it is rebuilt under load", diesInRepair, true},
		{"a member dies while another is restarted by a plan", diesInPlan, true},
		{"a member that fails again and again is for a human", failsAgain, true},
	})
}

// kill -9: expelled early, because the timeout is flipped; back by itself.
func crashes(t *testing.T, w *ward) {
	began := time.Now()
	w.kill(t, mysqld.ComeBack, "m3")
	w.told(t, began, "member.crashed", "m3")
	expel := w.told(t, began, "healing.acts", "expels dead members at once", "m3")
	out := w.told(t, began, "healing.acts", "as patient as it was")
	back := w.told(t, began, "member.rejoined", "m3")
	w.operation(t, began, "rejoin")
	t.Logf("crash: timeout flipped after %.1f s, expelled after %.1f s, back after %.1f s",
		expel.Time.Sub(began).Seconds(), out.Time.Sub(began).Seconds(), back.Time.Sub(began).Seconds())
	if d := out.Time.Sub(began); d > 20*time.Second { // without healing it is about 22, on a quiet machine
		t.Errorf("expelled only after %s: no earlier than without healing", d)
	}
}

// A group once went on without m3, which has nothing that the others have not. What
// it fetches from now on is the group's: were it killed on its way, that must not pass
// for its own.
func fetchesAfterAll(t *testing.T, w *ward) {
	m3 := w.member("m3")
	o, err := w.node.Member(t.Context(), "stop", "m3", api.Ask{})
	w.node.done(t, o, err)
	has := one(t, m3.Root(t), "select replace(@@global.gtid_executed, char(10), '')")
	mark := func(edit func(*group.Known)) {
		t.Helper()
		if err := w.node.GivenUp(t.Context(), func(k *group.Known) {
			if k.Name == "m3" {
				edit(k)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	mark(func(k *group.Known) { k.GivenUp = has })
	c := session(t, m3, "lock tables story.acked read") // it gets no further than that
	if o, err = w.node.Member(t.Context(), "start", "m3", api.Ask{}); err != nil {
		t.Fatal(err)
	}
	sees(t, w.member("m1"), time.Minute, "RECOVERING", 1)
	mark(func(k *group.Known) {
		if k.GivenUp != "" {
			t.Errorf("m3 fetches from the group and is still given up, as of %s", k.GivenUp)
		}
	})
	if _, err := c.ExecContext(t.Context(), "unlock tables"); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	w.node.done(t, o, nil)
}

func ownTransactions(t *testing.T, w *ward) {
	began := time.Now()
	m3 := w.member("m3")
	w.paused(t, func() {
		run(t, m3.Root(t), "stop group_replication", "set global read_only = off",
			"insert into story.acked (id, pad) values (-1, 'only here, ünd readable')", "insert into story.acked (id) values (-2)", "set global super_read_only = on")
	})
	w.told(t, began, "healing.acts", "a member is rebuilt", "(errant transactions)")
	o := w.operation(t, began, "rebuild")
	if o.State != "done" {
		t.Fatalf("%s: %s\n%s", o.State, o.Error, story(o))
	}
	says(t, note(o, "salvage", "m3"), "2 transactions that only it has are saved in ")
	_, path, _ := strings.Cut(note(o, "salvage", "m3"), "saved in ")
	saved, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	says(t, string(saved), "### INSERT INTO `story`.`acked`", "only here", "@2=-2", "GTID_NEXT")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v %v", path, info.Mode(), err)
	}
	says(t, note(o, "provision", "m3"), "cloned", "MB/s")
	w.told(t, began, "member.rebuilt", "m3")
	if n := one(t, m3.Root(t), "select count(*) from story.acked where id < 0"); n != "0" {
		t.Errorf("%s rows of its own are still there", n)
	}
	t.Log(story(o))
}

// The account of the node has another password on one server.
func deniesUs(t *testing.T, w *ward) {
	began := time.Now()
	m2 := w.member("m2")
	was := one(t, m2.Root(t), "select hex(authentication_string) from mysql.user where user = 'perdure'")
	// Behind the group's back, and the sessions that are open are ended.
	c := session(t, m2, "set sql_log_bin = 0", "alter user perdure identified by 'Another-1-Password'")
	cut := func() {
		rows, err := c.QueryContext(t.Context(), "select id from information_schema.processlist where user = 'perdure'")
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for rows.Next() {
			var id string
			_ = rows.Scan(&id)
			ids = append(ids, id)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			_, _ = c.ExecContext(t.Context(), "kill "+id)
		}
	}
	cut()
	asks := w.told(t, began, "healing.asks", "m2", "Access denied", "password")
	t.Logf("asked after %.1f s: %s", asks.Time.Sub(began).Seconds(), asks.Text)
	if st, err := w.node.Status(t.Context()); err != nil || !strings.Contains(st.Asking, "m2") {
		t.Errorf("status asks %q, %v", st.Asking, err)
	}
	if w.routed(t, "m2") {
		t.Error("a server nobody can look into takes clients")
	}
	if _, err := c.ExecContext(t.Context(), "alter user perdure identified with caching_sha2_password as 0x"+was); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	w.told(t, began, "healing.answered")
}

func hangs(t *testing.T, w *ward) {
	began := time.Now()
	m2 := w.member("m2")
	if err := m2.Freeze(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m2.Thaw() }()
	w.told(t, began, "member.suspect", "m2")
	if w.routed(t, "m2") {
		t.Error("a member that hangs takes clients")
	}
	out := w.told(t, began, "member.expelled", "m2")
	thawed := time.Now()
	if err := m2.Thaw(); err != nil {
		t.Fatal(err)
	}
	back := w.told(t, thawed, "member.rejoined", "m2")
	t.Logf("hang: expelled after %.1f s; back %.1f s after it went on", out.Time.Sub(began).Seconds(), back.Time.Sub(thawed).Seconds())
}

// Somebody forced a majority by hand and left the switch set: the next START of
// that server would fail. And its recovery channel is gone, its clients shut out.
func leftovers(t *testing.T, w *ward) {
	began := time.Now()
	m1 := w.member("m1")
	w.paused(t, func() {
		w.kill(t, mysqld.StayDown, "m2", "m3")
		sees(t, m1, time.Minute, "UNREACHABLE", 2)
		run(t, m1.Root(t), "set global group_replication_force_members = '"+w.spec["m1"].GroupAddress+"'")
		t.Logf("forced by hand after %.1f s", time.Since(began).Seconds())
	})
	w.start(t, "m2", "m3")
	w.told(t, began, "member.rejoined", "m2")
	w.told(t, began, "member.rejoined", "m3")
	second := time.Now()
	w.paused(t, func() {
		run(t, w.member("m2").Root(t), "alter user perdure_recovery_1 identified by 'Nobody-1-Knows'")
		run(t, m1.Root(t), "stop group_replication", "reset replica all for channel 'group_replication_recovery'", "set global offline_mode = on")
		if one(t, m1.Root(t), "select @@group_replication_force_members") == "" {
			t.Error("nothing is left behind: this proves nothing")
		}
	})
	if o := w.operation(t, second, "rejoin"); o.State != "done" {
		t.Fatalf("%s: %s\n%s", o.State, o.Error, story(o))
	}
}

func drifted(t *testing.T, w *ward) {
	began := time.Now()
	m3 := w.member("m3")
	w.paused(t, func() {
		run(t, m3.Root(t), "stop group_replication", "set persist group_replication_enforce_update_everywhere_checks = off", "set persist group_replication_single_primary_mode = on",
			"set persist group_replication_group_seeds = '127.0.0.1:1'", "set global group_replication_member_expel_timeout = 77")
	})
	o := w.operation(t, began, "rejoin")
	if o.State != "done" {
		t.Fatalf("%s: %s\n%s", o.State, o.Error, story(o))
	}
	says(t, note(o, "configure", "m3"), "settings changed")
	t.Log(note(o, "configure", "m3"))
}

func cannotApply(t *testing.T, w *ward) {
	began := time.Now()
	unlogged(t, w.member("m3"), "create table story.only_here (id int primary key)")
	run(t, w.member("m1").App(t), "create table story.only_here (id int primary key)")
	w.told(t, began, "member.error", "m3")
	acts := w.told(t, began, "healing.acts", "a member is rebuilt", "(different data)")
	t.Logf("rebuilt by its cause after %.1f s: %s", acts.Time.Sub(began).Seconds(), acts.Text)
	o := w.operation(t, began, "rebuild")
	if o.State != "done" {
		t.Fatalf("%s: %s\n%s", o.State, o.Error, story(o))
	}
	w.mended(t)
	run(t, w.member("m1").App(t), "drop table story.only_here")
}

func purged(t *testing.T, w *ward) {
	began := time.Now()
	w.paused(t, func() {
		run(t, w.member("m3").Root(t), "stop group_replication")
		time.Sleep(time.Second) // clients write what it will miss
		for _, n := range []string{"m1", "m2"} {
			db := w.member(n).Root(t)
			run(t, db, "flush binary logs")
			run(t, db, "purge binary logs to '"+newestBinlog(t, db)+"'")
		}
	})
	o := w.operation(t, began, "rejoin")
	if o.State != "done" {
		t.Fatalf("%s: %s\n%s", o.State, o.Error, story(o))
	}
	for _, s := range o.Steps {
		t.Log(s.Name, s.Member, s.Note)
	}
	w.told(t, began, "plan.step-done", "provision m3", "cloned")
}

func newestBinlog(t *testing.T, db *sql.DB) (name string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "show binary logs")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var size, encrypted string
		if err := rows.Scan(&name, &size, &encrypted); err != nil {
			t.Fatal(err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return name
}

// Somebody starts it by hand, and its account is not what it was.
func stuckRecovery(t *testing.T, w *ward) {
	began := time.Now()
	m3 := w.member("m3")
	w.paused(t, func() {
		run(t, m3.Root(t), "stop group_replication")
		run(t, w.member("m1").Root(t), "alter user perdure_recovery_3 identified by 'Nobody-1-Knows'")
		run(t, m3.Root(t), "start group_replication")
	})
	acts := w.told(t, began, "healing.acts", "m3 is RECOVERING", "gets nothing", "(credentials)")
	back := w.told(t, began, "member.rejoined", "m3")
	t.Logf("acted after %.1f s, back after %.1f s", acts.Time.Sub(began).Seconds(), back.Time.Sub(began).Seconds())
}

func lags(t *testing.T, w *ward) {
	began := time.Now()
	c := session(t, w.member("m3"), "lock tables story.acked read")
	defer func() { _ = c.Close() }()
	waitUntil(t, 40*time.Second, "m3 takes no clients", func() bool { return !w.routed(t, "m3") })
	away := time.Since(began)
	w.told(t, began, "member.lagging", "m3")
	if _, err := c.ExecContext(t.Context(), "unlock tables"); err != nil {
		t.Fatal(err)
	}
	free := time.Now()
	waitUntil(t, time.Minute, "m3 takes clients again", func() bool { return w.routed(t, "m3") })
	t.Logf("without clients %.1f s after its applier stopped, with clients %.1f s after it went on", away.Seconds(), time.Since(free).Seconds())
	w.told(t, began, "member.caught-up", "m3")
}

func readOnly(t *testing.T, w *ward) {
	began := time.Now()
	m2 := w.member("m2")
	writes := func() bool {
		p, err := w.node.Client.Proxy(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range p.Members {
			if m.Name == "m2" {
				return m.Writes
			}
		}
		return false
	}
	run(t, m2.Root(t), "set global super_read_only = on")
	waitUntil(t, 3*time.Second, "m2 takes no writes", func() bool { return !writes() })
	t.Logf("no writes go there after %.2f s", time.Since(began).Seconds())
	w.told(t, began, "member.read-only", "m2")
	run(t, m2.Root(t), "set global read_only = off")
	waitUntil(t, 3*time.Second, "m2 takes writes again", writes)
}

// One member has a history of its own, another is killed meanwhile.
func twoAtOnce(t *testing.T, w *ward) {
	began := time.Now()
	w.paused(t, func() {
		run(t, w.member("m3").Root(t), "stop group_replication", "set global read_only = off", "insert into story.acked (id) values (-3)", "set global super_read_only = on")
	})
	w.told(t, began, "healing.acts", "a member is rebuilt")
	w.kill(t, mysqld.ComeBack, "m2") // two of the group were left: no majority
	w.told(t, began, "group.quorum-lost")
}

// The member that is rebuilt is killed in the middle of its copy.
func diesInRepair(t *testing.T, w *ward) {
	began := time.Now()
	m3 := w.member("m3")
	w.paused(t, func() {
		run(t, m3.Root(t), "stop group_replication", "set global read_only = off", "insert into story.acked (id) values (-4)", "set global super_read_only = on")
	})
	w.told(t, began, "plan.step-begun", "provision m3")
	w.kill(t, mysqld.ComeBack, "m3")
	w.told(t, began, "member.rejoined", "m3")
}

// A rolling restart, and another member dies: a majority of two is gone.
func diesInPlan(t *testing.T, w *ward) {
	began := time.Now()
	o, err := w.node.Client.Group(t.Context(), "restart", api.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	w.told(t, began, "plan.step-begun", "handover m1")
	w.kill(t, mysqld.ComeBack, "m3")
	o, err = w.node.end(t, o, nil)
	t.Logf("%v: %s: %s\n%s", err, o.State, o.Error, story(o))
}

// Something else has taken the port of its group: no remedy helps. After three
// tries a human is asked; when its server was restarted, healing tries again.
func failsAgain(t *testing.T, w *ward) {
	began := time.Now()
	m3 := w.member("m3")
	var taken net.Listener
	w.paused(t, func() {
		run(t, m3.Root(t), "stop group_replication")
		var err error
		if taken, err = net.Listen("tcp", w.spec["m3"].GroupAddress); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = taken.Close() }()
	limit := time.Now().Add(5 * time.Minute)
	for !slices.ContainsFunc(w.events(t, began), func(e api.Event) bool { return e.Event.Type == "perdure.healing.asks" }) {
		if time.Now().After(limit) {
			t.Fatal("nobody is asked")
		}
		time.Sleep(200 * time.Millisecond)
	}
	asks := w.told(t, began, "healing.asks", "rejoin m3 failed 3 times")
	t.Logf("asked after %.0f s: %s", asks.Time.Sub(began).Seconds(), asks.Text)
	_ = taken.Close()
	w.kill(t, mysqld.ComeBack, "m3")
	w.told(t, began, "healing.answered")
}
