package control

import (
	"context"
	"iter"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/perdure/perdure/internal/state"
)

// Watch implements state.Store. It also ends when the store is closed.
//
// It reads what is there, then follows the changes from exactly that revision.
// Whenever the stream breaks (no leader, a lost connection, or a reader so slow
// that etcd has forgotten the changes in between) it begins again, and yields
// only what differs from what it had yielded before.
func (c *Control) Watch(ctx context.Context, prefix string) iter.Seq[state.Entry] {
	return func(yield func(state.Entry) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.closing, cancel)()
		w := watching{yield: yield, seen: map[string]state.Revision{}}
		for ctx.Err() == nil {
			if now, at, err := c.list(ctx, prefix); err == nil {
				if w.catchUp(now); w.ended {
					return
				}
				if c.follow(ctx, &w, prefix, at); w.ended {
					return
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond): // do not hammer a store in trouble
			}
		}
	}
}

// follow yields changes after the revision at until the stream breaks.
func (c *Control) follow(ctx context.Context, w *watching, prefix string, at int64) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// etcd's client puts all watches with equal metadata on one stream, and
	// inside one process that stream has no buffers: cancelling one watch could
	// wait for the reader of another. So each of ours gets a stream.
	ctx = metadata.AppendToOutgoingContext(ctx, "perdure-watch", strconv.FormatUint(c.watches.Add(1), 10))
	// Through a socket, a server that lost its leader must break the stream, so
	// that we turn to another one.
	r := c.current()
	if r == nil {
		return
	}
	defer context.AfterFunc(r.ending, cancel)()
	stream := r.client.Watch(clientv3.WithRequireLeader(ctx), c.cfg.Prefix+prefix,
		clientv3.WithPrefix(), clientv3.WithRev(at+1))
	for r := range stream {
		if r.Err() != nil {
			return
		}
		for _, ev := range r.Events {
			e := c.entry(ev.Kv)
			if ev.Type == clientv3.EventTypeDelete {
				e = state.Entry{Key: e.Key}
			}
			if w.see(e); w.ended {
				return
			}
		}
	}
}

// watching is what one reader of a watch has seen.
type watching struct {
	yield func(state.Entry) bool
	seen  map[string]state.Revision
	ended bool // the reader wants no more
}

// see passes on one change.
func (w *watching) see(e state.Entry) {
	if e.Revision == 0 {
		delete(w.seen, e.Key)
	} else {
		w.seen[e.Key] = e.Revision
	}
	w.ended = !w.yield(e)
}

// catchUp passes on how now differs from what was seen.
func (w *watching) catchUp(now []state.Entry) {
	there := make(map[string]bool, len(now))
	for _, e := range now {
		there[e.Key] = true
		if w.seen[e.Key] == e.Revision {
			continue
		}
		if w.see(e); w.ended {
			return
		}
	}
	for key := range w.seen {
		if there[key] {
			continue
		}
		if w.see(state.Entry{Key: key}); w.ended {
			return
		}
	}
}
