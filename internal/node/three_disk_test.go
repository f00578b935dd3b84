package node_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

	ballast, err := os.Create(filepath.Join(disk, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 1<<20); err == nil; {
		_, err = ballast.Write(chunk)
	}
	_ = ballast.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	at := l.now()
	if err := servers[2].Kill(mysqld.ComeBack); err != nil {
		t.Fatal(err)
	}
	h.eventually(20*time.Second, "the member is missed", func() error { return h.level(n, "degraded") })
	healed := h.eventually(2*time.Minute, "the member is back", func() error { return h.level(n, "ok") })
	fired := h.eventually(30*time.Second, "an alarm says so", func() error { return alarmed(h, n, "events-waiting", "ALARM") })
	gap, _ := l.gap(at, l.now())
	errs, text := l.errors(at)
	if err := os.Remove(ballast.Name()); err != nil {
		t.Fatal(err)
	}
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
