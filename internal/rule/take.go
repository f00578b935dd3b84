package rule

import (
	"context"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/event"
)

// placePause is how often the place in the stream is written when no task made
// it necessary. What is read again after a crash is decided the same.
const placePause = time.Second

// take reads the stream from its place and makes tasks.
func (d *desk) take(ctx context.Context) error {
	p, rev, err := d.place.Get(ctx)
	if err != nil {
		return err
	}
	if err := d.find(ctx, &p); err != nil {
		return err
	}
	pages, stop := d.pages(ctx, p.Next)
	defer stop()
	tick := time.NewTicker(placePause)
	defer tick.Stop()
	moved := true
	for {
		var all []due
		now := time.Now()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case page := <-pages:
			if first := page[0].Sequence; first > p.Next && p.Next > 1 {
				d.missed(p.Next, first)
			}
			d.mu.Lock()
			silences := d.silent
			d.mu.Unlock()
			for _, s := range page {
				all = append(all, decide(s.Event, d.Needs.Rules, silences, &p)...)
			}
			p.Next, moved = page[len(page)-1].Sequence+1, true
		case <-tick.C:
			d.mu.Lock()
			silences := d.silent
			d.mu.Unlock()
			before := len(p.Flaps)
			all = calm(now, d.Needs.Rules, silences, &p)
			moved = moved || before != len(p.Flaps)
			if !moved {
				continue
			}
			if err := d.add(ctx, all); err != nil {
				return err
			}
			if rev, err = d.place.Put(ctx, p, rev, d.fence); err != nil {
				return err
			}
			moved = false
			continue
		}
		if err := d.add(ctx, all); err != nil {
			return err
		}
	}
}

// pages reads the stream beside, so that reading does not keep the clock out.
func (d *desk) pages(ctx context.Context, from uint64) (<-chan []event.Stored, func()) {
	ctx, cancel := context.WithCancel(ctx)
	out, done := make(chan []event.Stored), make(chan struct{})
	go func() {
		defer close(done)
		for {
			page, err := d.Source.Read(ctx, from)
			if ctx.Err() != nil {
				return
			}
			if err != nil || len(page) == 0 {
				d.Log.Warn("events cannot be read", "err", err)
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Second):
				}
				continue
			}
			from = page[len(page)-1].Sequence + 1
			select {
			case <-ctx.Done():
				return
			case out <- page:
			}
		}
	}()
	return out, func() { cancel(); <-done }
}

// find looks whether the place means anything in the stream as it is now.
func (d *desk) find(ctx context.Context, p *place) error {
	r, err := d.Source.Range(ctx)
	if err != nil {
		return err
	}
	if p.Generation != r.Generation || p.Next > r.Last+1 {
		if p.Generation != "" {
			d.Log.Warn("the stream of events was made anew; it is read from its beginning", "was", p.Generation, "is", r.Generation)
		}
		p.Generation, p.Next = r.Generation, max(r.First, 1)
	}
	p.Next = max(p.Next, 1)
	return nil
}

// missed tells of events that were removed before they were read.
func (d *desk) missed(from, to uint64) {
	e := event.New(event.EventsMissed, "events", fmt.Sprintf("%d events were removed before the rules had read them", to-from))
	e.ID = event.IDOf("missed", d.Cluster, fmt.Sprint(from), fmt.Sprint(to))
	e.Cluster, e.Node = d.Cluster, d.Node
	d.To.Publish(e.With("from", fmt.Sprint(from)).With("to", fmt.Sprint(to-1)))
}
