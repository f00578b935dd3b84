package queue

import (
	"context"
	"fmt"
	"slices"

	"github.com/perdure/perdure/internal/mysql"
)

// plan is a batch sorted into what runs and what waits behind a held key.
type plan struct {
	run    []item
	behind []heldRow
}

// sort puts writes of held keys behind them. A second record of one write in
// the same batch is left out: the ledger would refuse it.
func (p *partition) sort(items []item) plan {
	var pl plan
	seen := make(map[ID]bool, len(items))
	for _, it := range items {
		if it.rec == nil || seen[it.rec.id] {
			continue
		}
		seen[it.rec.id] = true
		if p.held[it.rec.key] != nil {
			pl.behind = append(pl.behind, heldRow{seq: it.seq, rec: it.rec})
			continue
		}
		pl.run = append(pl.run, it)
	}
	return pl
}

// fast applies a batch in one transaction of two packets: the position and all
// statements; then, their effects known, the ledger and COMMIT. On an error the
// transaction is open or gone, and committing says which packet it was.
func (p *partition) fast(ctx context.Context, items []item) (committing bool, err error) {
	if err := p.s.pin(ctx, p.session(items[0])); err != nil {
		return false, err
	}
	last := items[len(items)-1]
	pl := p.sort(items)
	var pk packet
	pk.b = make([]byte, 0, 4096)
	pk.add("BEGIN")
	position := pk.position(p, last.seq, last.mark)
	pk.add("SAVEPOINT g")
	spots := pk.writes(pl.run)
	// The savepoint is gone if a statement committed on its own.
	pk.add("RELEASE SAVEPOINT g")
	if len(pk.b) > p.s.maxSize {
		return false, fmt.Errorf("batch of %d bytes: %w", len(pk.b), errPacket)
	}
	rows, err := p.s.exec(ctx, pk.b)
	if err != nil {
		return false, err
	}
	if len(rows) != pk.n {
		return false, answers(len(rows), pk.n)
	}
	if rows[position] != 1 {
		return false, errMoved
	}
	ledger := make([]ledgerRow, len(pl.run))
	for i, it := range pl.run {
		n, err := affected(it, spots[i], rows)
		if err != nil {
			return false, err
		}
		ledger[i] = ledgerRow{id: it.rec.id, seq: it.seq, digest: it.rec.digest(), outcome: ledgerApplied, attempts: 1, affected: n}
	}
	if err := p.finish(ctx, ledger, pl.behind); err != nil {
		return true, err
	}
	p.applied(ctx, items, ledger, pl.behind)
	return false, nil
}

var errPacket = mysql.ErrTooLarge

// answers: a procedure that selects answers with more, or less, than one count
// of rows, and nobody could tell which count is whose.
func answers(got, want int) error {
	return fmt.Errorf("%d answers to %d statements; a procedure must not return rows: it %w", got, want, errRows)
}

// check adds up the rows a write affected and compares them with what it expects.
func check(r *record, rows []int64) (int64, error) {
	var sum int64
	for i, s := range r.stmts {
		n := rows[i]
		if n < s.min || s.max >= 0 && n > s.max {
			return 0, &rowsError{stmt: i, got: n, min: s.min, max: s.max}
		}
		sum += n
	}
	return sum, nil
}

// finish is the second packet.
func (p *partition) finish(ctx context.Context, ledger []ledgerRow, held []heldRow) error {
	var pk packet
	pk.ledger(p.a.stream, ledger)
	pk.hold(p.a.stream, p.n, held)
	return p.end(ctx, &pk)
}

// applied notes a committed batch and tells those who wait.
func (p *partition) applied(ctx context.Context, items []item, ledger []ledgerRow, held []heldRow) {
	for _, h := range held {
		p.noteHeld(h)
	}
	p.a.count.applied.Add(int64(len(ledger)))
	p.a.count.batches.Add(1)
	var out []Receipt
	if p.a.hub.any(items) {
		gtid := p.s.gtid(ctx)
		for _, l := range ledger {
			out = append(out, Receipt{ID: l.id, Sequence: l.seq, State: stateOf(l.outcome), Attempts: l.attempts, Affected: &l.affected, GTID: gtid})
		}
	}
	p.commit(items, out)
}

// gtid is the set of all that is committed on this member, which includes what
// this session committed last. Empty if the server does not say.
func (s *session) gtid(ctx context.Context) string {
	var set string
	_ = s.conn.QueryRowContext(ctx, "SELECT @@global.gtid_executed").Scan(&set)
	return set
}

// oneByOne applies a batch with a savepoint before each write. A write that
// fails is taken back alone and set aside with the key it belongs to; all
// others, and the position, commit as usual.
func (p *partition) oneByOne(ctx context.Context, items []item) error {
	last := items[len(items)-1]
	pl := p.sort(items)
	var pk packet
	pk.add("BEGIN")
	position := pk.position(p, last.seq, last.mark)
	pk.add("SAVEPOINT g")
	rows, err := p.s.exec(ctx, pk.b)
	if err != nil {
		return err
	}
	if rows[position] != 1 {
		return errMoved
	}
	ledger, held, err := p.sift(ctx, pl)
	if err != nil {
		return p.giveUp(ctx, err)
	}
	if _, err := p.s.exec(ctx, []byte("RELEASE SAVEPOINT g")); err != nil {
		if mysql.Number(err) == 1305 {
			p.a.Halt(errImplicit.Error())
			return errImplicit
		}
		return err
	}
	if err := p.finish(ctx, ledger, held); err != nil {
		return p.afterFinish(ctx, items, err)
	}
	p.applied(ctx, items, ledger, held)
	return nil
}

// chunk is how many writes sift sends at once. Most are innocent, and a round
// trip for each would hold up everybody behind a single bad one.
const chunk = 32

// sift runs what it can and sorts out what fails on its own account. The error
// is one that says nothing about any write.
func (p *partition) sift(ctx context.Context, pl plan) (ledger []ledgerRow, held []heldRow, err error) {
	held = pl.behind
	failed := map[string]bool{}
	for rest := pl.run; len(rest) > 0; {
		some := rest[:min(len(rest), chunk)]
		rest = rest[len(some):]
		some = slices.DeleteFunc(slices.Clone(some), func(it item) bool {
			if failed[it.rec.key] {
				held = append(held, heldRow{seq: it.seq, rec: it.rec})
			}
			return failed[it.rec.key]
		})
		rows, err := p.s.together(ctx, some)
		if err == nil {
			ledger = append(ledger, rows...)
			continue
		}
		if faultOf(err) == notItsFault {
			return nil, nil, err
		}
		for _, it := range some {
			if failed[it.rec.key] {
				held = append(held, heldRow{seq: it.seq, rec: it.rec})
				continue
			}
			rows, err := p.s.together(ctx, []item{it})
			if err == nil {
				ledger = append(ledger, rows...)
				continue
			}
			h, ok := p.failure(heldRow{seq: it.seq, rec: it.rec}, err)
			if !ok {
				return nil, nil, err
			}
			failed[it.rec.key] = true
			held = append(held, h)
		}
	}
	return ledger, held, nil
}

// one runs a write behind a savepoint and takes it back if it fails.
func (s *session) one(ctx context.Context, r *record) (int64, error) {
	rows, err := s.together(ctx, []item{{rec: r}})
	if err != nil {
		return 0, err
	}
	return rows[0].affected, nil
}

// together runs writes behind one savepoint, in one packet, and takes all of
// them back if one fails. An error that is no write's fault leaves the
// transaction as it is.
func (s *session) together(ctx context.Context, items []item) ([]ledgerRow, error) {
	var pk packet
	pk.add("SAVEPOINT w")
	spots := pk.writes(items)
	rows, err := s.exec(ctx, pk.b)
	if err == nil && len(rows) != pk.n {
		err = answers(len(rows), pk.n)
	}
	var out []ledgerRow
	for i := 0; i < len(items) && err == nil; i++ {
		var n int64
		n, err = affected(items[i], spots[i], rows)
		out = append(out, ledgerRow{id: items[i].rec.id, seq: items[i].seq, digest: items[i].rec.digest(), outcome: ledgerApplied, attempts: 1, affected: n})
	}
	if err == nil {
		return out, nil
	}
	if faultOf(err) == notItsFault {
		return nil, err
	}
	if _, back := s.exec(ctx, []byte("ROLLBACK TO SAVEPOINT w")); back != nil {
		if mysql.Number(back) == 1305 {
			return nil, errImplicit
		}
		return nil, back
	}
	return nil, err
}

// giveUp leaves a one-by-one that cannot go on for reasons outside its writes.
func (p *partition) giveUp(ctx context.Context, err error) error {
	switch decide(err, false, 1, p.tries) {
	case halt:
		p.a.Halt(err.Error())
		return err
	case again:
		if _, rerr := p.s.exec(ctx, []byte("ROLLBACK")); rerr != nil {
			return rerr
		}
		return p.pause(ctx)
	}
	return err
}

// afterFinish treats errors of the ledger and COMMIT of a one-by-one.
func (p *partition) afterFinish(ctx context.Context, items []item, err error) error {
	what := decide(err, true, len(items), p.tries)
	if what == reconnect {
		return err
	}
	if _, rerr := p.s.exec(ctx, []byte("ROLLBACK")); rerr != nil {
		return rerr
	}
	switch what {
	case known:
		return p.skipKnown(ctx, items)
	case halve:
		p.size = max(1, len(items)/2)
		return nil
	case reject:
		return p.setAside(ctx, items[0], err)
	}
	return p.pause(ctx)
}

// setAside holds a single write that cannot be committed, without running it.
func (p *partition) setAside(ctx context.Context, it item, why error) error {
	h, ok := p.failure(heldRow{seq: it.seq, rec: it.rec}, why)
	if !ok {
		h = heldRow{seq: it.seq, rec: it.rec, attempts: 1, number: mysql.Number(why), reason: why.Error(), next: p.a.now().Add(p.a.cfg.retry.after(1))}
	}
	return p.aside(ctx, it, h)
}

func (p *partition) aside(ctx context.Context, it item, h heldRow) error {
	var pk packet
	pk.add("BEGIN")
	position := pk.position(p, it.seq, it.mark)
	rows, err := p.s.exec(ctx, pk.b)
	if err != nil {
		return err
	}
	if rows[position] != 1 {
		return errMoved
	}
	if err := p.finish(ctx, nil, []heldRow{h}); err != nil {
		return err
	}
	p.applied(ctx, []item{it}, nil, []heldRow{h})
	return nil
}

// failure turns an error of one write into a row that waits, or says that it
// was not the write's.
func (p *partition) failure(h heldRow, err error) (heldRow, bool) {
	switch faultOf(err) {
	case counts:
		h.attempts++
		p.a.count.attempts.Add(1)
	case waits:
	default:
		return h, false
	}
	h.number, h.reason = mysql.Number(err), err.Error()
	h.next = p.a.now().Add(p.a.cfg.retry.after(h.attempts))
	return h, true
}

// skipKnown finds which writes of a batch the ledger has, and leaves them out:
// they were sent twice, or are in the log twice.
func (p *partition) skipKnown(ctx context.Context, items []item) error {
	found, err := lookLedger(ctx, p.s.conn, items)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("the ledger refused a write that it does not hold: %w", errMoved)
	}
	for i := range p.pending[:len(items)] {
		it := &p.pending[i]
		if it.rec == nil {
			continue
		}
		l, ok := found[it.rec.id]
		if !ok {
			continue
		}
		p.a.duplicate(ctx, *it, l)
		it.rec = nil
	}
	return nil
}
