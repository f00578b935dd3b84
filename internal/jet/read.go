package jet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/perdure/perdure/internal/queue"
)

const (
	readBatch = 256
	// answerMost is how many messages one question may be answered with: what was
	// asked for and what ends it, with some to spare.
	answerMost = readBatch + 16
	readBytes  = 4 << 20
	// poll is how long a reader sleeps when no tick wakes it, twice as long each
	// time until pollMost. Ticks are best effort; this is what makes them safe to
	// lose. It is short at first because a tick may come before the frame: the
	// copy that answers may lag behind the one that acknowledged.
	poll, pollMost = 100 * time.Millisecond, time.Second
)

// Read implements queue.Log with direct gets of many messages at once. There is
// no consumer to lose, to count against a limit or to reset: each call says
// where it starts.
func (l *Log) Read(ctx context.Context, from uint64) ([]queue.Entry, error) {
	from = max(from, 1)
	pause := poll
	for {
		changed := l.wake.wait()
		entries, err := l.get(ctx, from)
		if err == nil && len(entries) > 0 {
			if entries[0].Seq == from {
				return entries, nil
			}
			return nil, l.hole(ctx, from, entries[0].Seq)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			pause = poll
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
			pause = poll
		case <-time.After(pause):
			pause = min(2*pause, pollMost)
		}
	}
}

// hole explains why the first frame found comes after the one asked for.
func (l *Log) hole(ctx context.Context, from, found uint64) error {
	st, err := l.State(ctx)
	if err != nil {
		return err
	}
	if st.First > from {
		return fmt.Errorf("%w: %d, the oldest is %d", queue.ErrTrimmed, from, st.First)
	}
	return fmt.Errorf("%w: sequences %d to %d", queue.ErrLost, from, found-1)
}

type getRequest struct {
	Seq      uint64 `json:"seq"`
	Batch    int    `json:"batch"`
	MaxBytes int    `json:"max_bytes"`
	NextFor  string `json:"next_by_subj"`
}

func (l *Log) get(ctx context.Context, from uint64) ([]queue.Entry, error) {
	nc := l.srv.nc
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	// One message may be larger than a subscription's default limit of bytes.
	_ = sub.SetPendingLimits(answerMost, -1)
	body, err := json.Marshal(getRequest{Seq: from, Batch: readBatch, MaxBytes: readBytes, NextFor: l.subject})
	if err != nil {
		return nil, err
	}
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+l.cfg.Name, inbox, body); err != nil {
		return nil, err
	}
	limit, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var out []queue.Entry
	for {
		m, err := sub.NextMsgWithContext(limit)
		if err != nil {
			if errors.Is(err, nats.ErrNoResponders) {
				err = queue.ErrUnavailable
			}
			return out, err
		}
		if m.Header.Get("Status") != "" { // 204 end of batch, 404 nothing there
			return out, nil
		}
		seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
		if err != nil {
			return out, fmt.Errorf("reading log %s: %w", l.cfg.Name, err)
		}
		if len(out) > 0 && seq != out[len(out)-1].Seq+1 {
			return out, nil // the next call meets the hole at its start and explains it
		}
		out = append(out, queue.Entry{Seq: seq, Data: m.Data})
	}
}

// wake lets readers sleep until somebody appends.
type wake struct {
	mu sync.Mutex
	ch chan struct{}
}

func newWake() *wake { return &wake{ch: make(chan struct{})} }

func (w *wake) wait() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ch
}

func (w *wake) all() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.ch)
	w.ch = make(chan struct{})
}
