package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/node"
)

// A member's disk is full: it is named so, nobody is sent there, the others go
// on, and when there is room again it comes back without a hand but the one that
// made room.
func TestAMemberWithAFullDiskIsNamedAndComesBack(t *testing.T) {
	if os.Getenv("PERDURE_SOAK") == "" {
		t.Skip("set PERDURE_SOAK: it needs minutes, and the right to mount a small file system")
	}
	t.Parallel()
	small := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", small, "tmpfs", 0, "size=600m"); err != nil {
		t.Skip("this user may not mount a file system:", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(small, syscall.MNT_DETACH) })
	w := &ward{whole: newWhole(t, node.Options{Heal: true}, nil, mysqltest.ComesBack(500*time.Millisecond), mysqltest.Each(func(i int, cfg *mysqld.Config) {
		if i == 2 {
			cfg.Dir = filepath.Join(small, "m3")
		}
	}))}
	w.load = startLoad(t, w.rw, 4, 20*time.Millisecond)
	m3 := w.member("m3")
	ballast := filepath.Join(small, "ballast")
	fill := func() {
		var st syscall.Statfs_t
		if err := syscall.Statfs(small, &st); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(ballast, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		block := make([]byte, 1<<20)
		for {
			if n, err := f.Write(block); err != nil || n < len(block) {
				return
			}
		}
	}
	began := time.Now()
	fill()
	at := w.load.now()
	run(t, w.member("m1").App(t), "create table story.bulk (id int primary key auto_increment, pad longtext)")
	for range 20 { // more than any file has room left for
		run(t, w.member("m1").App(t), "insert into story.bulk (pad) values (repeat('x', 2000000))")
		fill()
	}
	limit := time.Now().Add(4 * time.Minute)
	found := ""
	for found == "" && time.Now().Before(limit) {
		for _, e := range w.events(t, began) {
			if strings.Contains(e.Event.Data.Text, "disk full") {
				found = fmt.Sprintf("%.0f s: %s: %s", e.Event.Time.Sub(began).Seconds(), e.Event.Type, e.Event.Data.Text)
			}
		}
		time.Sleep(time.Second)
	}
	t.Log(found)
	if found == "" {
		t.Error("nobody said that the disk is full")
		t.Log(tail(m3.LogPath(), 30))
	}
	if w.routed(t, "m3") {
		t.Error("a member with a full disk takes clients")
	}
	gap, _ := w.load.gap(at, w.load.now())
	t.Logf("longest gap of the clients while it was full: %.1f s", gap.Seconds())
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	room := time.Now()
	if m3.PID() != 0 {
		w.kill(t, mysqld.ComeBack, "m3")
	} else {
		w.start(t, "m3")
	}
	w.mended(t)
	t.Logf("whole %.1f s after there was room", time.Since(room).Seconds())
	w.diary(t, began)
	w.load.stop()
	sameEverywhere(t, w.three, nil)
	w.load.onEach(t, w.three)
}
