package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

// A write that meets a full disk ends etcd, and with it the process it is in, the
// proxy too. So the store never gets there: it keeps blocks for what it writes
// next, and a file that is nothing but room. When the disk is nearly full that
// file is removed, and the store goes on in its place, long enough for alarms to
// be told. If that room goes too, the store is laid by until there is some again:
// the node goes on without it, as it does without a majority.

// room is the disk below the embedded store.
type room struct {
	dir      string
	reserve  int64 // size of the file that is nothing but room; 0 switches all of it off
	log      *slog.Logger
	prepared int64 // size of the database when blocks were kept for it last
	told     bool  // that there is no room for the reserve
	root     bool  // this process may fill the disk to its last block

	near  atomic.Bool   // so little is free that every change looks first
	tight chan struct{} // one token: there is no room, look at once
}

func newRoom(cfg Config, log *slog.Logger) *room {
	r := &room{dir: cfg.Dir, reserve: cfg.Reserve, log: log, root: os.Geteuid() == 0, tight: make(chan struct{}, 1)}
	if cfg.Sync == ToMemory || r.reserve < 0 {
		r.reserve = 0
	}
	return r
}

// step is what to do about the room on the disk.
type step int

const (
	goOn       step = iota
	giveUp          // remove the reserve
	layBy           // stop the store
	startAgain      // start it
	fillUp          // make the reserve
)

// decide says what to do. The reserve is only made where much more than it is
// free: the log of the write queue refuses writes while less than 256 MiB are.
func decide(free, reserve int64, there, runs bool) step {
	low := reserve / 2
	switch {
	case free < low && there:
		return giveUp
	case free < low && runs:
		return layBy
	case free >= low && !runs && (there || free >= reserve):
		return startAgain
	case !there && free >= 8*reserve:
		return fillUp
	}
	return goOn
}

// pause is how long until the next look: shorter than a fast disk needs to fill
// up, and seldom where there is plenty.
func (r *room) pause() time.Duration {
	const (
		fastest  = 4 << 30 // bytes a second
		shortest = 25 * time.Millisecond
		longest  = 2 * time.Second
	)
	free, err := r.free()
	if err != nil || r.reserve == 0 {
		return longest
	}
	return min(max(time.Duration(float64(free)/fastest*float64(time.Second)), shortest), longest)
}

// stays tells whether the room for a start is there still a moment later: a start
// that meets a full disk ends the process, too.
func (r *room) stays(ctx context.Context) bool {
	free, err := r.free()
	if err != nil || free >= 8*r.reserve {
		return err == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(300 * time.Millisecond):
	}
	now, err := r.free()
	return err == nil && now >= r.reserve/2 && now > free/2
}

// check refuses a change while there is no room for it: what a change makes etcd
// write may end the process there.
func (r *room) check() error {
	if r == nil || r.reserve == 0 || !r.near.Load() {
		return nil
	}
	if free, err := r.free(); err != nil || free >= r.reserve/2 {
		return nil //nolint:nilerr // then it is not known to be full
	}
	select {
	case r.tight <- struct{}{}:
	default:
	}
	return unavailable(ErrFull)
}

// keepRoom does what the room on the disk asks for, and starts the store if it
// does not run and may.
func (c *Control) keepRoom() error {
	c.changing.Lock()
	defer c.changing.Unlock()
	for {
		if c.closing.Err() != nil {
			return errClosed
		}
		runs := c.current() != nil
		s := goOn
		if c.room.reserve > 0 {
			free, err := c.room.free()
			if err != nil {
				return err
			}
			c.room.near.Store(free < 8*c.room.reserve)
			s = decide(free, c.room.reserve, c.room.there(), runs)
		} else if !runs {
			s = startAgain
		}
		switch s {
		case giveUp:
			if err := c.room.giveUp(); err != nil {
				return err
			}
			continue // is that enough?
		case layBy:
			c.log.Error("the disk is full: this node goes on without its control store: it heals nothing and changes nothing, queries run", "dir", c.cfg.Dir)
			c.replace(nil, ErrFull).stop(ErrFull)
			return nil
		case startAgain:
			if c.room.reserve > 0 && !c.room.stays(c.closing) {
				if !runs && c.reason() == nil {
					c.replace(nil, ErrFull)
				}
				return nil // whoever fills the disk took it; the next look tells
			}
			r, err := c.start()
			if err != nil && c.reason() != nil { // the room is gone again; it is tried again
				c.log.Warn("the control store does not start again yet", "err", err)
				return nil
			}
			if err != nil {
				return err
			}
			c.replace(r, nil)
			c.room.prepared = 0
			continue
		case fillUp:
			c.room.fillUp()
		case goOn:
			if !runs && c.reason() == nil {
				c.log.Error("the disk is full: this node begins without its control store", "dir", c.cfg.Dir)
				c.replace(nil, ErrFull)
			}
		}
		if r := c.current(); r != nil {
			c.room.prepare(r.etcd.Server.Backend().Size())
		}
		return nil
	}
}

func (r *room) file() string { return filepath.Join(r.dir, "reserve") }

func (r *room) there() bool {
	st, err := os.Stat(r.file())
	return err == nil && st.Size() > 0
}

// free is what this process may still write on the disk.
func (r *room) free() (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(r.dir, &s); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", r.dir, err)
	}
	if r.root {
		return int64(s.Bfree) * s.Bsize, nil //nolint:gosec // of a disk
	}
	return int64(s.Bavail) * s.Bsize, nil //nolint:gosec // of a disk
}

func (r *room) giveUp() error {
	r.log.Error("the disk is nearly full: the control store uses its reserve now", "dir", r.dir, "bytes", r.reserve)
	if err := os.Remove(r.file()); err != nil {
		return fmt.Errorf("give up the reserve of the control store: %w", err)
	}
	return nil
}

// fillUp makes the reserve. Without one the store is laid by sooner.
func (r *room) fillUp() {
	err := allocate(r.file(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, growSize, r.reserve)
	if err != nil {
		_ = os.Remove(r.file())
	}
	if err != nil && !r.told {
		r.told = true
		r.log.Warn("the control store has no reserve for a full disk", "err", err)
	}
}

// ahead is how much the database grows at once.
const ahead = 16 << 20

// prepare keeps blocks for the database: its file has holes, and grows.
func (r *room) prepare(size int64) {
	if r.reserve == 0 || size == r.prepared {
		return
	}
	db := filepath.Join(r.dir, "etcd", "member", "snap", "db")
	if err := allocate(db, os.O_RDWR, keepSize, size+ahead); err == nil || !errors.Is(err, syscall.ENOSPC) {
		r.prepared = size // or this file system cannot
	}
}
