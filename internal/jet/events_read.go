package jet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/perdure/perdure/internal/event"
)

// StoredEvent is an event with the place it has in the stream.
type StoredEvent = event.Stored

// gather is how long a reader that was woken waits for more. Asking costs the
// store as much as ten events, and nobody needs to know sooner.
const gather = 80 * time.Millisecond

// Range says what the stream holds now. It waits for a stream that was not
// found yet until ctx ends.
func (v *Events) Range(ctx context.Context) (event.Range, error) {
	if err := v.wait(ctx); err != nil {
		return event.Range{}, err
	}
	info, err := v.stream.Info(ctx)
	if err != nil {
		return event.Range{}, fmt.Errorf("events: %w", err)
	}
	r := event.Range{
		Generation: info.Config.Metadata[generationKey], First: info.State.FirstSeq, Last: info.State.LastSeq,
		Oldest: info.State.FirstTime, Bytes: int64(info.State.Bytes), //nolint:gosec // bounded by MaxBytes
	}
	if info.State.Msgs == 0 {
		r.First, r.Oldest = r.Last+1, time.Time{}
	}
	return r, nil
}

func (v *Events) wait(ctx context.Context) error {
	select {
	case <-v.opened:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("events: the store is not open (%w): %w", v.Trouble(), context.Cause(ctx))
	}
}

// Read returns events from a sequence on, in order, as many as come in one
// answer. It waits until there is at least one. Events that were removed by
// age or size are skipped: then the first one's sequence is greater than from.
func (v *Events) Read(ctx context.Context, from uint64) ([]StoredEvent, error) {
	if err := v.wait(ctx); err != nil {
		return nil, err
	}
	from = max(from, 1)
	for first := true; ; first = false {
		if !first { // what comes in a burst is read together
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(gather):
			}
		}
		changed := v.wake.wait()
		found, err := v.get(ctx, from, readBatch)
		if err == nil && len(found) > 0 {
			return found, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		pause := time.Second // ticks are best effort, this is what makes them safe to lose
		if err != nil {
			pause = 200 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
		case <-time.After(pause):
		}
	}
}

// Query chooses events of the past.
type Query struct {
	Match event.Matcher `json:"match"`
	Since time.Time     `json:"since,omitzero"`
	From  uint64        `json:"from,omitempty"`  // a sequence; 0: from the oldest
	Limit int           `json:"limit,omitempty"` // the newest so many; default 100, at most 10000
}

// List returns the newest events that fit, in order. It looks backwards no
// further than it must.
func (v *Events) List(ctx context.Context, q Query) ([]StoredEvent, error) {
	r, err := v.Range(ctx)
	if err != nil {
		return nil, err
	}
	if q.Limit <= 0 {
		q.Limit = 100
	}
	q.Limit = min(q.Limit, 10000)
	first := max(r.First, q.From)
	var out []StoredEvent
	for end := r.Last + 1; end > first && len(out) < q.Limit; {
		begin := max(first, end-min(end, readBatch))
		page, err := v.page(ctx, begin, end)
		if err != nil {
			return nil, err
		}
		var fits []StoredEvent
		for _, s := range page {
			if s.Event.ID != "" && q.Match.Matches(s.Event) && !s.Event.Time.Before(q.Since) {
				fits = append(fits, s)
			}
		}
		out = append(fits, out...)
		// Events are stored in the order of their times, give or take the time
		// they waited in a spool.
		if len(page) > 0 && !q.Since.IsZero() && page[len(page)-1].Event.Time.Before(q.Since.Add(-time.Hour)) {
			break
		}
		end = begin
	}
	return out[max(0, len(out)-q.Limit):], nil
}

// page returns the events in [begin, end).
func (v *Events) page(ctx context.Context, begin, end uint64) ([]StoredEvent, error) {
	var out []StoredEvent
	for begin < end {
		found, err := v.get(ctx, begin, int(end-begin)) //nolint:gosec // at most readBatch
		if err != nil {
			return nil, fmt.Errorf("events: %w", err)
		}
		if len(found) == 0 {
			return out, nil
		}
		for _, s := range found {
			if s.Sequence < end {
				out = append(out, s)
			}
		}
		begin = found[len(found)-1].Sequence + 1
	}
	return out, nil
}

// Follow calls each with every event from a sequence on that fits, as they
// come, until ctx ends or each returns an error.
func (v *Events) Follow(ctx context.Context, from uint64, match event.Matcher, each func(StoredEvent) error) error {
	for {
		found, err := v.Read(ctx, from)
		if err != nil {
			return err
		}
		for _, s := range found {
			from = s.Sequence + 1
			if s.Event.ID == "" || !match.Matches(s.Event) {
				continue
			}
			if err := each(s); err != nil {
				return err
			}
		}
	}
}

// get asks for many messages at once, without a consumer that could be lost.
func (v *Events) get(ctx context.Context, from uint64, limit int) ([]StoredEvent, error) {
	nc := v.srv.nc
	inbox := nc.NewRespInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	_ = sub.SetPendingLimits(answerMost, -1)
	body, err := json.Marshal(getRequest{Seq: from, Batch: limit, MaxBytes: readBytes, NextFor: v.subjects()})
	if err != nil {
		return nil, err
	}
	if err := nc.PublishRequest("$JS.API.DIRECT.GET."+v.cfg.Name, inbox, body); err != nil {
		return nil, err
	}
	try, cancel := context.WithTimeout(ctx, v.cfg.AckTimeout)
	defer cancel()
	var out []StoredEvent
	for {
		m, err := sub.NextMsgWithContext(try)
		if err != nil {
			if errors.Is(err, nats.ErrNoResponders) {
				err = errors.New("the store of events does not answer")
			}
			return out, err
		}
		if m.Header.Get("Status") != "" { // 204 end of batch, 404 nothing there
			return out, nil
		}
		seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
		if err != nil {
			return out, fmt.Errorf("reading events: %w", err)
		}
		s := StoredEvent{Sequence: seq}
		if err := json.Unmarshal(m.Data, &s.Event); err != nil {
			// Its place is kept, so that readers get past it.
			v.log.Warn("an event in the store cannot be read", "sequence", seq, "err", err)
		}
		out = append(out, s)
	}
}
