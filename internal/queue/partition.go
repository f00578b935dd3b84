package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/mysql"
)

// item is one record on its way to the database.
type item struct {
	seq  uint64
	mark uint64
	rec  *record // nil: nothing to do, the position may move here
	size int64
}

// partition applies the writes of its keys, strictly one after the other. It
// has one session at a time, and nothing of it is shared.
type partition struct {
	a   *Applier
	n   int
	log *slog.Logger
	in  chan item

	pos     uint64 // what the database has, as far as we know
	mark    uint64
	epoch   int64
	claimed bool   // by this holder, at least once
	starts  int    // first batches begun and never ended, see poison.go
	fresh   bool   // no transaction since the claim
	beat    uint64 // what the row's beat is in the transaction at hand
	s       *session

	pending []item // taken from in, not known to be committed
	held    map[string]*heldKey
	counted int // of held, as it is in the applier's sum
	size    int // of the next batch
	tries   int // of the batch at hand
}

var errRewind = errors.New("the database is behind what was applied before: reading the log again")

// open connects and claims. It does not wait.
func (p *partition) open(ctx context.Context) error {
	s, err := connect(ctx, p.a.route, p.a.cfg.StatementLimit)
	if err != nil {
		return err
	}
	c, err := s.claim(ctx, p.a.stream, p.n, p.a.epoch, p.a.holder, p.claimed)
	if err == nil {
		err = s.relax(ctx)
	}
	if err == nil {
		p.held, err = s.loadHeld(ctx, p.a.stream, p.n)
	}
	if err != nil {
		s.close()
		return err
	}
	if p.claimed && c.seq < p.pos {
		s.close()
		return fmt.Errorf("partition %d: %w (at %d, was at %d)", p.n, errRewind, c.seq, p.pos)
	}
	p.pos, p.mark, p.epoch, p.starts = c.seq, c.mark, c.epoch, c.starts
	p.claimed, p.fresh, p.tries = true, true, 0
	for len(p.pending) > 0 && p.pending[0].seq <= p.pos {
		p.done(p.pending[:1])
		p.pending = p.pending[1:]
	}
	p.s = s
	p.a.position[p.n].Store(p.pos)
	return nil
}

// run works until ctx ends or another applier has taken over. While the
// database is away it asks again, at first quickly and at most every five
// seconds, for as long as it takes.
func (p *partition) run(ctx context.Context) error {
	wait := backoff{50 * time.Millisecond, 5 * time.Second}
	for failed := 0; ; failed++ {
		err := p.spell(ctx, func() { failed = 0 })
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, ErrFenced) || errors.Is(err, errRewind) {
			return err
		}
		p.a.trouble(p.n, err)
		if failed == 0 {
			p.log.WarnContext(ctx, "applying waits for the database", "err", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait.after(failed)):
		}
	}
}

// spell is one session, from claim to loss.
func (p *partition) spell(ctx context.Context, working func()) (err error) {
	if p.s == nil {
		if err := p.open(ctx); err != nil {
			return err
		}
	}
	p.a.trouble(p.n, nil)
	// A session ends when the route points elsewhere, even in the middle of a
	// statement that a frozen server will never answer.
	ctx, cancel := p.a.follow(ctx, p.s.member)
	defer func() {
		cancel()
		if mysql.Classify(err) == mysql.Lost {
			p.s.abandon()
		} else {
			p.s.close()
		}
		p.s = nil
	}()
	for {
		if err := p.fill(ctx); err != nil {
			return err
		}
		if err := p.a.gate.enter(ctx); err != nil {
			return err
		}
		p.look()
		err = p.step(ctx)
		p.a.gate.leave()
		p.look()
		p.countHeld()
		if err != nil {
			return err
		}
		working()
	}
}

// fill waits for something to do and takes what is there, up to a batch.
func (p *partition) fill(ctx context.Context) error {
	if len(p.pending) == 0 && p.due().IsZero() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case it := <-p.in:
			p.pending = append(p.pending, it)
		}
	} else if len(p.pending) == 0 {
		t := time.NewTimer(time.Until(p.due()))
		defer t.Stop()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case it := <-p.in:
			p.pending = append(p.pending, it)
		case <-t.C:
		}
	}
	for len(p.pending) < p.a.cfg.Batch {
		select {
		case it := <-p.in:
			p.pending = append(p.pending, it)
		default:
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// look keeps the age of the oldest write in hand for status.
func (p *partition) look() {
	at := int64(0)
	for _, it := range p.pending {
		if it.rec != nil {
			at = it.rec.at.UnixMicro()
			break
		}
	}
	p.a.oldest[p.n].Store(at)
}

func (p *partition) countHeld() {
	p.a.heldKeys.Add(int64(len(p.held) - p.counted))
	p.counted = len(p.held)
}

// step does one thing: a key whose wait is over, or the next batch.
func (p *partition) step(ctx context.Context) error {
	if due := p.due(); !due.IsZero() && !time.Now().Before(due) {
		return p.ended(p.retryHeld(ctx))
	}
	items := p.next()
	if len(items) == 0 {
		return nil
	}
	if i := slices.IndexFunc(items, func(it item) bool { return it.rec != nil }); p.fresh && i >= 0 {
		if done, err := p.begin(ctx, items[i]); done || err != nil {
			return p.ended(err)
		}
	}
	if r := items[0].rec; r != nil && r.kind != kindWrite {
		if err := p.command(ctx, items[0]); err != nil {
			return p.ended(err)
		}
		p.commit(items[:1], nil)
		return nil
	}
	committing, err := p.fast(ctx, items)
	if err == nil {
		p.size = min(p.size*2, p.a.cfg.Batch)
		return nil
	}
	return p.ended(p.recover(ctx, items, committing, err))
}

// ended looks at why a step failed: only a lost connection leaves a first
// batch under suspicion.
func (p *partition) ended(err error) error {
	if err != nil && mysql.Classify(err) != mysql.Lost {
		p.forgive()
	}
	return err
}

// next is the front of what is pending: a batch of writes, or one command.
func (p *partition) next() []item {
	most := p.size
	if p.careful() {
		most = 1
	}
	var bytes int64
	for i, it := range p.pending {
		command := it.rec != nil && it.rec.kind != kindWrite
		if i > 0 && (command || i >= most || bytes+it.size > p.a.cfg.BatchBytes || p.session(it) != p.session(p.pending[0])) {
			return p.pending[:i]
		}
		if command {
			return p.pending[:1]
		}
		bytes += it.size
	}
	return p.pending
}

func (p *partition) session(it item) byte {
	if it.rec == nil {
		return currentSession
	}
	return it.rec.session
}

// recover does what decide says about a batch that failed.
func (p *partition) recover(ctx context.Context, items []item, committing bool, err error) error {
	p.tries++
	what := decide(err, committing, len(items), p.tries)
	p.a.count.failure(what, mysql.Number(err))
	if p.tries == 10 {
		p.a.trouble(p.n, err) // worth seeing; the next commit takes it away
	}
	if what != reconnect {
		if _, rerr := p.s.exec(ctx, []byte("ROLLBACK")); rerr != nil {
			return rerr
		}
	}
	switch what {
	case again:
		return p.pause(ctx)
	case halve:
		p.size = max(1, len(items)/2)
		return nil
	case known:
		return p.skipKnown(ctx, items)
	case redo:
		return p.oneByOne(ctx, items)
	case reject:
		return p.setAside(ctx, items[0], err)
	case halt:
		p.a.Halt(err.Error())
		return err
	}
	return err
}

// pause keeps a conflict from meeting itself again at once.
func (p *partition) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(backoff{2 * time.Millisecond, time.Second}.after(p.tries + p.n%3)):
		return nil
	}
}

// commit notes that items, at the front of pending, are in the database.
func (p *partition) commit(items []item, receipts []Receipt) {
	last := items[len(items)-1]
	p.pos, p.mark = last.seq, last.mark
	if p.tries >= 10 {
		p.a.trouble(p.n, nil)
	}
	p.tries, p.starts, p.fresh = 0, 0, false
	p.a.position[p.n].Store(p.pos)
	p.done(items)
	p.pending = p.pending[len(items):]
	if len(p.pending) == 0 {
		p.pending = nil // the array may be large
	}
	for _, r := range receipts {
		p.a.hub.tell(r)
	}
}

// done gives back the memory that the dispatcher counts.
func (p *partition) done(items []item) {
	var bytes, writes int64
	for _, it := range items {
		bytes += it.size
		if it.size > 0 { // a marker has none; a write that was left out has lost its record
			writes++
		}
	}
	p.a.inHand.Add(-writes)
	p.a.budget.Release(bytes)
}
