package node_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/alarm"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/notify"
	"github.com/perdure/perdure/internal/topology"
)

// promised is how long after a fault was detected people have heard of it.
const promised = 3 * time.Second

// soak tells whether the long version of a test is wanted.
func soaking() bool { return os.Getenv("PERDURE_SOAK") != "" }

// One real cluster, a real mail server, a real web server, real commands: what
// is told, how fast, and what no bad receiver or hook can do to the rest. The
// chapters build on each other.
func TestItTells(t *testing.T) {
	t.Parallel()
	w := newNoticed(t)
	defer howLong(t)()
	t.Run("a killed member is told in time, exactly as configured", w.killIsTold)
	t.Run("what the files of deploy ask for is exported", w.watchedAsFilesSay)
	t.Run("readiness and life", w.readiness)
	t.Run("bad hooks hurt nobody", w.badHooks)
	t.Run("a thousand flaps are a few messages", w.flaps)
	t.Run("receivers that are down get it later", w.receiversDown)
	t.Run("a watcher that dies", w.watcherDies)
	t.Run("the killed member is back, and its alarms are over", w.isBack)
	t.Run("advice", w.advice)
	if soaking() { // minutes
		t.Run("alarms", w.alarms)
	}
}

// howLong says how long all of it took.
func howLong(t *testing.T) func() {
	began := time.Now()
	return func() { t.Logf("all of it took %.1f s", time.Since(began).Seconds()) }
}

// killIsTold kills a member and measures, from the moment Perdure had seen it,
// when each was told. The member starts again and is left alone until isBack.
func (w *noticed) killIsTold(t *testing.T) {
	rounds := 1
	if soaking() {
		rounds = 5
	}
	for i := range rounds {
		if i > 0 {
			w.back(t, "m3")
		}
		w.kill(t)
	}
	killed := time.Now()
	for _, on := range []string{"member-away/m3", "no-spare"} {
		t.Logf("%s is on %.1f s later", on, w.alarmIs(t, on, alarm.Alarm, time.Minute).Sub(killed).Seconds())
	}
	if err := w.site.servers["m3"].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (w *noticed) isBack(t *testing.T) {
	w.back(t, "m3")
	for _, over := range []string{"member-away/m3", "no-spare"} {
		w.alarmIs(t, over, alarm.OK, time.Minute)
	}
}

func (w *noticed) kill(t *testing.T) {
	t.Helper()
	before, fair := time.Now(), mysqltest.StartFair()
	if err := w.site.servers["m3"].Kill(mysqld.StayDown); err != nil {
		t.Fatal(err)
	}
	seen := w.told(t, event.MemberCrashed, before, time.Minute)
	detected := seen.Event.Time
	limit := promised + 2*time.Second // measured below; this is to see how late it is
	var web, deploy received
	var noted string
	eventually(t, limit, "the web server has it", func() bool {
		got := w.web.got("/ops", event.MemberCrashed, before)
		if len(got) > 0 {
			web = got[0]
		}
		return len(got) > 0
	})
	mailed := eventually(t, limit, "the mail server has it", func() bool {
		for _, m := range w.mail.Got() {
			if m.Header.Get("X-Perdure-Event") == seen.Event.ID {
				return true
			}
		}
		return false
	})
	eventually(t, limit, "the hook ran", func() bool {
		found, _ := filepath.Glob(filepath.Join(w.hooks, "*.event"))
		for _, f := range found {
			b, _ := os.ReadFile(f)
			if strings.Contains(string(b), seen.Event.ID) {
				noted = f
			}
		}
		return noted != ""
	})
	eventually(t, limit, "the http hook ran", func() bool {
		got := w.web.got("/deploy", event.MemberCrashed, before)
		if len(got) > 0 {
			deploy = got[0]
		}
		return len(got) > 0
	})
	st, err := os.Stat(noted)
	if err != nil {
		t.Fatal(err)
	}
	ran := time.Unix(0, st.Sys().(*syscall.Stat_t).Ctim.Nano())
	t.Logf("killed, %.2f s later detected; from then on: webhook %.2f s, mail %.2f s, command %.2f s, http hook %.2f s", detected.Sub(before).Seconds(),
		web.at.Sub(detected).Seconds(), mailed.Sub(detected).Seconds(), ran.Sub(detected).Seconds(), deploy.at.Sub(detected).Seconds())
	for what, at := range map[string]time.Time{"webhook": web.at, "mail": mailed, "command": ran, "http hook": deploy.at} {
		if late := at.Sub(detected); fair.Of(late) > promised {
			t.Errorf("%s came %.2f s after the crash was detected", what, late.Seconds())
		}
	}
	w.exactly(t, seen.Event.ID, web, deploy, noted)
}

// exactly compares what arrived with the file.
func (w *noticed) exactly(t *testing.T, id string, web, deploy received, noted string) {
	t.Helper()
	for _, r := range []received{web, deploy} {
		if err := notify.Verify(w.secret, r.header, r.body, time.Now()); err != nil {
			t.Errorf("%s: the signature: %v", r.path, err)
		}
		if r.event.ID != id || r.event.Member != "m3" || r.event.Severity != event.Critical || r.event.Cluster != "shop" || r.event.Labels["zone"] != "c" {
			t.Errorf("%s: %s", r.path, r.body)
		}
	}
	if web.header.Get("X-Team") != "dba" || web.header.Get("Content-Type") != event.ContentType {
		t.Errorf("headers %v", web.header)
	}
	mails := 0
	for _, m := range w.mail.Got() {
		if m.Header.Get("X-Perdure-Event") != id {
			continue
		}
		mails++
		if !m.TLS || m.User != "perdure" || m.From != "perdure@example.com" || strings.Join(m.To, " ") != "dba@example.com night@example.com" {
			t.Errorf("the mail went %+v", m)
		}
		says(t, m.Subject(), "[shop] CRITICAL member.crashed: m3 went away while its group counted on it")
		says(t, m.Body, "zone         c", "127.0.0.1:"+port(w.site.servers["m3"].Address()))
	}
	if mails != 1 {
		t.Errorf("%d mails about one crash: the rule for another zone must not fit", mails)
	}
	b, err := os.ReadFile(noted)
	if err != nil {
		t.Fatal(err)
	}
	var e event.Event
	if err := json.Unmarshal(b, &e); err != nil || e.ID != id || e.Member != "m3" {
		t.Errorf("the command read %s, %v", b, err)
	}
	env, err := os.ReadFile(strings.TrimSuffix(noted, ".event") + ".env")
	if err != nil {
		t.Fatal(err)
	}
	uid := fmt.Sprint(os.Geteuid())
	if os.Geteuid() == 0 {
		uid = "65534"
	}
	says(t, string(env), "args: 2 <one two; $HOME>\n"+uid+"\n", "API_KEY=s3cret-t0ken", "PERDURE_KIND=member.crashed", "PERDURE_MEMBER=m3", "PERDURE_ATTEMPT=1")
	if strings.Contains(string(env), "PERDURE_TEST") || strings.Contains(string(env), "GOFLAGS") {
		t.Errorf("the command got the node's environment: %s", env)
	}
	eventually(t, time.Minute, "the receipt is kept, without the secret", func() bool {
		all, err := w.Deliveries(t.Context(), "hook/note", "done", 10)
		return err == nil && len(all) > 0 && all[0]["receipt"] == "noted with ***"
	})
}

func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// badHooks runs one that hangs, one that fails and one that talks without end,
// and looks at everything else meanwhile.
func (w *noticed) badHooks(t *testing.T) {
	before := time.Now()
	run(t, w.servers[1].Root(t), "SET GLOBAL super_read_only = ON")
	w.until(t, 10*time.Second, "m2 is read-only", func(v *topology.View) bool { m, _ := v.Member("m2"); return !m.Writable })
	run(t, w.servers[1].Root(t), "SET GLOBAL read_only = OFF")

	// While they run: views are made, clients are served, messages arrive.
	ctx, cancel := context.WithCancel(t.Context())
	worst := make(chan time.Duration, 1)
	go func() {
		longest := time.Duration(0)
		for ctx.Err() == nil {
			began, fair := time.Now(), mysqltest.StartFair()
			if _, err := w.Status(ctx); err == nil {
				longest = max(longest, fair.Of(time.Since(began)))
			}
			age := time.Since(w.Watch().View().At)
			longest = max(longest, fair.Of(age))
			time.Sleep(20 * time.Millisecond)
		}
		worst <- longest
	}()
	tested, err := w.TestNotify(t.Context(), "ops")
	if err != nil || tested["error"] != nil {
		t.Errorf("a message while hooks are bad: %v, %v", tested, err)
	}
	limit := 25 * time.Second
	eventually(t, limit, "the hook that hangs is a dead letter", w.dead(t, "hook/hang", "did not end within 1s"))
	eventually(t, limit, "the hook that fails is a dead letter", w.dead(t, "hook/fail", "exit status 3"))
	eventually(t, limit, "the hook that talks is done", func() bool {
		all, err := w.Deliveries(t.Context(), "hook/talk", "done", 10)
		if err != nil || len(all) == 0 {
			return false
		}
		receipt, _ := all[0]["receipt"].(string)
		if len(receipt) > 5<<10 || !strings.Contains(receipt, "bytes more") {
			t.Errorf("%d bytes of its output were kept: %.60s", len(receipt), receipt)
		}
		return true
	})
	cancel()
	for name, want := range map[string]int{"hang": 2, "fail": 2, "talk": 1} {
		if got := lines(filepath.Join(w.hooks, name+".runs")); got != want {
			t.Errorf("%s ran %d times, not %d", name, got, want)
		}
	}
	for _, kind := range []event.Kind{event.HookFailed, event.HookDead, event.HookDone} {
		w.told(t, kind, before, 30*time.Second) // the task is stored first, its event published after that
	}
	longest := <-worst
	t.Logf("all three were over after %.1f s; meanwhile status answered, and Views were made, within %s", time.Since(before).Seconds(), longest.Round(time.Millisecond))
	if longest > time.Second {
		t.Errorf("bad hooks delayed a status or a View by %s", longest)
	}
	if left := running(w.hooks); left != "" {
		t.Errorf("a hook is still running: %s", left)
	}
}

func (w *noticed) dead(t *testing.T, target, why string) func() bool {
	return func() bool {
		all, err := w.Deliveries(t.Context(), target, "dead", 10)
		if err != nil || len(all) == 0 {
			return false
		}
		says(t, fmt.Sprint(all[0]), why)
		return true
	}
}

// running finds a process whose command line has a path.
func running(path string) string {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		b, _ := os.ReadFile(f)
		if strings.Contains(string(b), path) {
			return f + ": " + strings.ReplaceAll(string(b), "\x00", " ")
		}
	}
	return ""
}

// flaps pauses and resumes the queue a thousand times.
func (w *noticed) flaps(t *testing.T) {
	before := time.Now()
	for range 500 {
		if err := w.SteerQueue(t.Context(), "pause"); err != nil {
			t.Fatal(err)
		}
		if err := w.SteerQueue(t.Context(), "resume"); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(before)
	eventually(t, 30*time.Second, "all of it is stored", func() bool {
		all, err := w.Events(t.Context(), []string{"queue.*"}, nil, 2000)
		return err == nil && len(all) >= 1000
	})
	eventually(t, time.Minute, "somebody is told that it flaps", func() bool { return len(w.web.got("/ops", event.NotifyFlapping, before)) == 1 })
	// The rules have read all of them when they have read one that came later.
	probe := time.Now()
	run(t, w.servers[1].Root(t), "SET GLOBAL super_read_only = ON")
	w.told(t, event.MemberReadOnly, probe, time.Minute)
	run(t, w.servers[1].Root(t), "SET GLOBAL read_only = OFF")
	eventually(t, time.Minute, "the event after the flaps reached its hooks", func() bool { return lines(filepath.Join(w.hooks, "fail.runs")) > 2 })
	got := 0
	for _, kind := range []event.Kind{event.QueueStopped, event.QueueResumed, event.NotifyFlapping, event.NotifyCalm} {
		got += len(w.web.got("/ops", kind, before))
	}
	t.Logf("1000 flaps in %.1f s: %d messages", took.Seconds(), got)
	if got != 21 { // twenty, and one that says that there are more
		t.Errorf("1000 flaps became %d messages", got)
	}
}

// receiversDown lets something happen while nobody listens.
func (w *noticed) receiversDown(t *testing.T) {
	away := 3 * time.Second
	if soaking() {
		away = time.Minute
	}
	w.webGate.shut()
	w.smtp.shut()
	before := time.Now()
	run(t, w.servers[0].Root(t), "SET GLOBAL super_read_only = ON")
	seen := w.told(t, event.MemberReadOnly, before, 10*time.Second)
	run(t, w.servers[0].Root(t), "SET GLOBAL read_only = OFF")
	if wait := away - time.Since(before); wait > 0 {
		<-time.After(wait) // this is the outage, not a wait for luck
	}
	w.webGate.open(t)
	w.smtp.open(t)
	open := time.Now()
	limit := 40 * time.Second // the longest pause between attempts, and its jitter
	web := eventually(t, limit, "the web server has it", func() bool { return len(w.web.got("/ops", event.MemberReadOnly, before)) > 0 })
	mail := eventually(t, limit, "the mail server has it", func() bool {
		for _, m := range w.mail.Got() {
			if m.Header.Get("X-Perdure-Event") == seen.Event.ID {
				return true
			}
		}
		return false
	})
	t.Logf("down for %.0f s; webhook %.1f s, mail %.1f s after they were back", away.Seconds(), web.Sub(open).Seconds(), mail.Sub(open).Seconds())
	if n := len(w.web.got("/ops", event.MemberReadOnly, before)); n != 1 {
		t.Errorf("it came %d times", n)
	}
}
