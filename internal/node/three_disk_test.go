package node_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
)

// The disk of the event store is full. A member is killed and healed all the
// same, the proxy goes on, an alarm says what is wrong, and what happened is
// stored once there is room.
func TestAFullDiskOfEventsStopsNeitherHealingNorQueries(t *testing.T) {
	if os.Getenv("PERDURE_SOAK") == "" {
		t.Skip("PERDURE_SOAK runs it: it takes a minute, and may mount a small disk")
	}
	servers := mysqltest.Start(t, 3, mysqltest.ComesBack(time.Second))
	h := newThree(t, servers)
	n := h.add()
	disk := filepath.Join(n.data, "streams")
	if err := os.MkdirAll(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=700m"); err != nil {
		t.Skipf("this process may not mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	h.run(n)
	h.up(n)
	o, err := n.Apply(t.Context(), h.wish("m1", "m2", "m3"))
	if err == nil {
		o, err = n.Wait(t.Context(), o, func(api.Operation) {})
	}
	if err != nil || o.State != "done" {
		t.Fatalf("%v, %s", err, o.Error)
	}
	ackedTable(t, servers[0])
	l := startLoad(t, n.rw, 4, 10*time.Millisecond)

	empty := fillUp(t, disk)
	at := l.now()
	if err := servers[2].Kill(mysqld.ComeBack); err != nil {
		t.Fatal(err)
	}
	h.eventually(20*time.Second, "the member is missed", func() error { return h.level(n, "degraded") })
	healed := h.eventually(2*time.Minute, "the member is back", func() error { return h.level(n, "ok") })
	fired := h.eventually(30*time.Second, "an alarm says so", func() error { return alarmed(h, n, "events-waiting", "ALARM") })
	gap, _ := l.gap(at, l.now())
	errs, text := l.errors(at)
	empty()
	h.eventually(90*time.Second, "the alarm is over", func() error { return alarmed(h, n, "events-waiting", "OK") })
	h.eventually(20*time.Second, "what happened is stored", func() error {
		found, err := n.Events(t.Context(), []string{"member.crashed", "member.rejoined"}, nil, 100)
		if err == nil && len(found) < 2 {
			err = fmt.Errorf("%d events", len(found))
		}
		return err
	})
	l.stop()
	l.onEach(t, servers)
	t.Logf("with a full disk of events: healed after %.1f s, alarm %.1f s after that at the latest, longest pause of the proxy %s, %d errors %s", healed.Seconds(), fired.Seconds(), gap.Round(time.Millisecond), errs, text)
	if gap > 15*time.Second {
		t.Errorf("the proxy paused for %s", gap)
	}
}

// fillUp fills a disk to its last byte, once, until the returned function is
// called.
func fillUp(t *testing.T, dir string) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 1<<20); err == nil; {
		_, err = f.Write(chunk)
	}
	_ = f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// The disk of a whole node is full: its alarm is told by the room that was kept
// for it; when that is gone too the node goes on without its stores, its proxy
// serves and status says what is wrong. It may even be started like that. When
// there is room all of it is back by itself.
func TestANodeWhoseDiskIsFullServesAndComesBack(t *testing.T) {
	if os.Getenv("PERDURE_SOAK") == "" {
		t.Skip("PERDURE_SOAK runs it: it takes a minute, and has to mount a small disk")
	}
	servers := mysqltest.Start(t, 3)
	h := newThree(t, servers)
	n := h.add()
	if err := os.MkdirAll(n.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", n.data, "tmpfs", 0, "size=1200m"); err != nil {
		t.Skipf("this process may not mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(n.data, syscall.MNT_DETACH) })
	h.run(n)
	h.up(n)
	o, err := n.Apply(t.Context(), h.wish("m1", "m2", "m3"))
	if err == nil {
		o, err = n.Wait(t.Context(), o, func(api.Operation) {})
	}
	if err != nil || o.State != "done" {
		t.Fatalf("%v, %s", err, o.Error)
	}
	ackedTable(t, servers[0])
	l := startLoad(t, n.rw, 4, 10*time.Millisecond)
	h.sleepLoad(l, 3*time.Second)
	at := l.now()
	base := l.rate(0, at)

	first := fillUp(t, n.data)
	fired := h.eventually(30*time.Second, "an alarm says so", func() error { return alarmed(h, n, "disk-full", "ALARM") })
	rest := filepath.Join(n.data, "more")
	if err := os.Mkdir(rest, 0o700); err != nil {
		t.Fatal(err)
	}
	second := fillUp(t, rest) // what the control store gave up
	h.eventually(20*time.Second, "status says so", func() error {
		st, err := n.Status(t.Context())
		if err == nil && !strings.Contains(st.Control, "the disk of this node is full") {
			err = fmt.Errorf("%q", st.Control)
		}
		return err
	})
	h.sleepLoad(l, 5*time.Second)
	if !n.alive() {
		t.Fatal("the node ended")
	}
	gap, _ := l.gap(at, l.now())
	during := l.rate(at, l.now())
	errs, text := l.errors(at)

	n.kill()
	from := l.now()
	h.run(n)
	h.up(n)
	h.eventually(20*time.Second, "its proxy serves after a start on a full disk", func() error {
		if l.count(from, l.now()) == 0 {
			return errors.New("no write was acknowledged")
		}
		return nil
	})
	served := l.now() - from
	second()
	first()
	back := h.eventually(30*time.Second, "the control store is back", func() error { return h.level(n, "ok") })
	h.eventually(90*time.Second, "the alarm is over", func() error { return alarmed(h, n, "disk-full", "OK") })
	h.eventually(20*time.Second, "both are told", func() error {
		found, err := n.Events(t.Context(), []string{"alarm.firing", "alarm.resolved"}, nil, 1000)
		kinds := map[string]bool{}
		for _, e := range found {
			if e.Event.Subject == "alarm/disk-full" {
				kinds[e.Event.Type] = true
			}
		}
		if err == nil && len(kinds) < 2 {
			err = fmt.Errorf("%v", kinds)
		}
		return err
	})
	l.stop()
	l.onEach(t, servers)
	t.Logf("with a full disk: alarm after %.1f s; %.0f writes/s before and %.0f/s meanwhile, longest pause %s, %d errors %s; started on a full disk it served after %s; back %.1f s after there was room",
		fired.Seconds(), base, during, gap.Round(time.Millisecond), errs, text, served.Round(time.Millisecond), back.Seconds())
	if gap > 3*time.Second || errs > 0 || during < base/2 {
		t.Error("the proxy did not go on as before")
	}
}

// alive tells whether a node's process is there.
func (s *serving) alive() bool {
	select {
	case <-s.gone:
		return false
	default:
		return true
	}
}

func (h *three) level(s *serving, want string) error {
	st, err := s.Status(h.t.Context())
	if err == nil && st.Level != want {
		err = errors.New(st.Summary)
	}
	return err
}

func alarmed(h *three, s *serving, rule, state string) error {
	all, err := s.Alarms(h.t.Context())
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Rule == rule {
			if a.State == state {
				return nil
			}
			return errors.New(a.State + ": " + a.Text)
		}
	}
	return fmt.Errorf("there is no alarm %s", rule)
}
