package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/state"
)

func TestWhatIsDoneAboutTheRoomOnTheDisk(t *testing.T) {
	t.Parallel()
	const mb = int64(1) << 20
	for _, c := range []struct {
		name        string
		free        int64
		there, runs bool
		want        step
	}{
		{"room for everything", 10_000 * mb, true, true, goOn},
		{"a first start makes the reserve", 10_000 * mb, false, true, fillUp},
		{"too little for a reserve, enough to run", 500 * mb, false, true, goOn},
		{"the reserve is given up first", 31 * mb, true, true, giveUp},
		{"then the store is laid by", 31 * mb, false, true, layBy},
		{"what the reserve gave is enough", 64 * mb, false, true, goOn},
		{"laid by, and still no room", 31 * mb, false, false, goOn},
		{"it does not go back and forth", 63 * mb, false, false, goOn},
		{"there is room again", 64 * mb, false, false, startAgain},
		{"a start on a full disk takes the reserve", 0, true, false, giveUp},
		{"a start with a reserve that was never needed", 40 * mb, true, false, startAgain},
	} {
		if got := decide(c.free, 64*mb, c.there, c.runs); got != c.want {
			t.Errorf("%s: step %d, not %d", c.name, got, c.want)
		}
	}
}

// small is a disk of its own.
func small(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("this process may not mount: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// glut fills a disk to its last byte, and keeps it full, until the returned
// function is called.
func glut(t *testing.T, dir string) (empty func()) {
	t.Helper()
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for chunk := make([]byte, 1<<20); ctx.Err() == nil; {
			if n, err := f.Write(chunk); err != nil && n == 0 {
				if len(chunk) > 4096 {
					chunk = chunk[:len(chunk)/2]
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Millisecond):
				}
			}
		}
	})
	return func() {
		cancel()
		all.Wait()
		_ = f.Close()
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// The disk fills up as fast as it can while documents are written, and stays
// full. The process lives, calls are refused with the reason, what was
// acknowledged is there when there is room, and it goes on by itself.
func TestAFullDiskLaysTheStoreByAndRoomBringsItBack(t *testing.T) {
	t.Parallel()
	dir := small(t, "256m")
	cfg := Config{Name: "node1", Dir: filepath.Join(dir, "control"), Reserve: 8 << 20}
	c := open(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	defer func() { cancel(); <-ran }()

	d := state.NewDoc[[]byte](c, "counted")
	var acked atomic.Int64
	write := func() error {
		next := acked.Load() + 1
		text, _ := json.Marshal(next)
		_, err := d.Change(ctx, state.Fence{}, func(b *[]byte) error {
			*b = append(bytes.Repeat([]byte(" "), int(next*977%20_000)), text...)
			return nil
		})
		if err == nil {
			acked.Store(next)
		}
		return err
	}
	for round := range 10 {
		for range 50 {
			if err := write(); err != nil {
				t.Fatal(err)
			}
		}
		empty := glut(t, dir)
		soon(t, 20*time.Second, func() bool { return errors.Is(write(), ErrFull) })
		soon(t, 20*time.Second, func() bool {
			s, err := c.Status(t.Context())
			return err == nil && s.Full && !s.Quorum
		})
		empty()
		began := time.Now()
		soon(t, 20*time.Second, func() bool { return write() == nil })
		t.Logf("round %d: it goes on %s after there was room", round, time.Since(began).Round(time.Millisecond))
		got, _, err := d.Get(t.Context())
		var n int64
		if err == nil {
			err = json.Unmarshal(got, &n)
		}
		if err != nil || n != acked.Load() {
			t.Errorf("%d was acknowledged, %d is there: %v", acked.Load(), n, err)
		}
	}
}

// A node that starts on a full disk starts without its store.
func TestANodeStartsOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := small(t, "256m")
	cfg := Config{Name: "node1", Dir: filepath.Join(dir, "control"), Reserve: 8 << 20}
	c := open(t, cfg)
	if _, err := c.Put(t.Context(), "a", []byte("x"), 0, state.Fence{}); err != nil {
		t.Fatal(err)
	}
	c.Close()
	empty := glut(t, dir)
	soon(t, 20*time.Second, func() bool {
		free, err := newRoom(cfg.withDefaults(), logTo(t)).free()
		return err == nil && free < 1<<20
	})
	c, err := Begin(cfg, logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- c.Run(ctx) }()
	defer func() { cancel(); <-ran }()
	soon(t, 10*time.Second, func() bool {
		_, err := c.Get(t.Context(), "a")
		return errors.Is(err, ErrFull) && errors.Is(err, state.ErrUnavailable)
	})
	empty()
	soon(t, 20*time.Second, func() bool {
		e, err := c.Get(t.Context(), "a")
		return err == nil && string(e.Value) == "x"
	})
}

func soon(t *testing.T, limit time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s", limit)
		}
	}
}
