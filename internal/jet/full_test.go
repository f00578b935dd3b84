package jet_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/queue"
)

// full fills the file system of dir to its last byte until the returned
// function is called.
func full(t *testing.T, dir string) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 64<<10); err == nil; {
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

func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("this process may not mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// A disk fills up faster than the reserve is looked at. What was acknowledged
// is there afterwards, and the log goes on by itself once there is room.
func TestALogGoesOnAfterItsDiskWasFull(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t)
	s := open(t, jet.Config{Dir: filepath.Join(dir, "jet"), MaxStore: 40 << 20, Reserve: -1})
	l, err := s.OpenLog(t.Context(), jet.LogConfig{Name: "w", MaxBytes: 30 << 20, AckTimeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	acked := map[uint64]bool{}
	put := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		n, err := l.Append(ctx, make([]byte, 20_000))
		if err == nil {
			acked[n] = true
		}
		return err
	}
	for range 20 {
		if err := put(5 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	empty := full(t, dir)
	refused := 0
	for range 20 {
		err := put(400 * time.Millisecond)
		if err != nil && !errors.Is(err, queue.ErrFull) && !errors.Is(err, queue.ErrInDoubt) && !errors.Is(err, queue.ErrUnavailable) {
			t.Error(err)
		}
		if err != nil {
			refused++
		}
	}
	empty()
	began := time.Now()
	if err := put(30 * time.Second); err != nil {
		t.Fatal("with room again:", err)
	}
	t.Logf("%d of 20 refused on a full disk; going on %s after there was room", refused, time.Since(began).Round(time.Millisecond))
	if refused == 0 {
		t.Error("a full disk took everything")
	}
	for seq := range acked {
		if e, err := l.Read(t.Context(), seq); err != nil || len(e[0].Data) != 20_000 {
			t.Errorf("frame %d was acknowledged and is not there: %v", seq, err)
		}
	}
}

// In a cluster the others go on, and the node whose disk was full joins them
// again without anybody starting it anew.
func TestANodeJoinsAgainAfterItsDiskWasFull(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	dir := smallDisk(t)
	tr.cfgs[1].Dir, tr.cfgs[1].Reserve, tr.cfgs[1].MaxStore = filepath.Join(dir, "jet"), -1, 40<<20
	tr.start(0, 1, 2)
	logs := make([]*jet.Log, 3)
	for i, s := range tr.srv {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		var err error
		logs[i], err = s.OpenLog(ctx, jet.LogConfig{Name: "w", Replicas: 3, MaxBytes: 30 << 20, AckTimeout: time.Second})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(n int, limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		_, err := logs[n].Append(ctx, make([]byte, 20_000))
		return err
	}
	empty := full(t, dir)
	for range 20 {
		if err := put(0, 60*time.Second); err != nil {
			t.Fatal("two of three nodes have room:", err)
		}
	}
	empty()
	tr.srv[2].Close() // now the disk of the second node counts
	began := time.Now()
	for put(0, time.Second) != nil {
		if time.Since(began) > time.Minute {
			t.Fatal("it does not store for the majority")
		}
		_, _ = logs[1].State(t.Context()) // as metrics do
	}
	t.Logf("it stores for the majority again %s after there was room", time.Since(began).Round(time.Millisecond))
}
