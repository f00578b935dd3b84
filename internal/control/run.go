package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrStopped says that the embedded store ended by itself: another node removed
// this one, or its files cannot be written.
var ErrStopped = errors.New("the embedded control store stopped by itself")

// lookAfter is how often Run looks. What it finds is never urgent; a disk that
// fills up is looked at as often as it takes.
const lookAfter = 2 * time.Second

// Run looks after the embedded store until ctx ends: it gives nodes that have
// caught up their vote, makes room in its files, and lays the store by while the
// disk is full. The store answers without it.
func (c *Control) Run(ctx context.Context) error {
	look, room := time.NewTicker(lookAfter), time.NewTimer(0)
	defer look.Stop()
	defer room.Stop()
	var tight chan struct{}
	if c.room == nil {
		room.Stop()
	} else {
		tight = c.room.tight
	}
	var settled *engine
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.closing.Done():
			return errClosed
		case <-c.stopped():
			if c.closing.Err() != nil {
				return errClosed
			}
			return ErrStopped
		case <-tight:
			if err := c.keepRoom(); err != nil && c.closing.Err() == nil {
				return err
			}
			continue
		case <-room.C:
			if err := c.keepRoom(); err != nil && c.closing.Err() == nil {
				return err
			}
			room.Reset(c.room.pause())
			continue
		case <-look.C:
		}
		r := c.current()
		if r == nil || r.etcd == nil {
			continue
		}
		if settled != r && c.settle(ctx, r) { // Ready may never have been called, or have given up
			settled = r
		}
		c.promote(ctx, r)
		if err := c.makeRoom(ctx, r); err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "the control store is short of room", "err", err)
		}
	}
}

// settle tells the others where this node is, once they answer.
func (c *Control) settle(ctx context.Context, r *engine) bool {
	if r.etcd.Server.Leader() == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.CallLimit)
	defer cancel()
	return c.moved(ctx) == nil
}

// promote gives a vote to a node that has caught up. Only the leader knows
// which have; the others would be refused.
func (c *Control) promote(ctx context.Context, r *engine) {
	if r.etcd.Server.Leader() != r.etcd.Server.MemberID() {
		return
	}
	for _, m := range r.etcd.Server.Cluster().Members() {
		if !m.IsLearner {
			continue
		}
		ctx, r, done, err := c.begin(ctx)
		if err != nil {
			return
		}
		if _, err = r.client.MemberPromote(ctx, uint64(m.ID)); err == nil {
			c.log.InfoContext(ctx, "a node of the control store has caught up and votes", "node", m.Name)
		}
		done() // refused: not in step yet, asked again at the next look
	}
}

// makeRoom forgets old states when half of the quota is used. Without it a
// burst of large documents would fill the quota between two of etcd's own
// rounds, and then etcd refuses every change until a human comes.
func (c *Control) makeRoom(ctx context.Context, r *engine) error {
	files := r.etcd.Server.Backend()
	full := r.full()
	if !full && files.Size() < c.cfg.Quota/2 {
		return nil
	}
	ctx, _, done, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer done()

	// A watch that is later than this begins again; it loses nothing.
	_, err = r.client.Compact(ctx, r.etcd.Server.KV().Rev(), clientv3.WithCompactPhysical())
	if err != nil && !compacted(err) {
		return fmt.Errorf("forget old states: %w", translate(ctx, err))
	}
	// What is in use is known as of the last write, and when it is full there is
	// none: then the files are written anew to know.
	if full || files.SizeInUse() < files.Size()/2 {
		before := files.Size()
		if err := r.etcd.Server.Defragment(); err != nil {
			return fmt.Errorf("shrink the files: %w", err)
		}
		c.log.InfoContext(ctx, "shrank the files of the control store", "from", before, "to", files.Size())
	}
	if !full {
		return nil
	}
	if files.SizeInUse() > c.cfg.Quota*3/4 {
		return fmt.Errorf("documents fill %d of %d bytes, and nothing can be written: raise the quota", files.SizeInUse(), c.cfg.Quota)
	}
	_, err = r.client.AlarmDisarm(ctx, &clientv3.AlarmMember{
		MemberID: uint64(r.etcd.Server.MemberID()), Alarm: etcdserverpb.AlarmType_NOSPACE,
	})
	return translate(ctx, err)
}

// full reports whether etcd refuses changes because this node is full.
func (r *engine) full() bool {
	for _, a := range r.etcd.Server.Alarms() {
		if a.Alarm == etcdserverpb.AlarmType_NOSPACE && a.MemberID == uint64(r.etcd.Server.MemberID()) {
			return true
		}
	}
	return false
}
