package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// command carries out what an operator decided about a dead letter. The order
// came through the log like a write, so it has its place among the writes of
// its key, it happens once, and any node could give it.
func (p *partition) command(ctx context.Context, it item) error {
	var pk packet
	pk.add("BEGIN")
	i := pk.position(p, it.seq, it.mark)
	rows, err := p.s.exec(ctx, pk.b)
	if err != nil {
		return err
	}
	if rows[i] != 1 {
		return errMoved
	}
	var at uint64
	var parked bool
	// A letter of a log that was lost is like one whose key went on.
	err = p.s.conn.QueryRowContext(ctx, "SELECT seq, parked AND stream=? AND part=? FROM perdure.queue_dead WHERE id=? FOR UPDATE",
		p.a.stream, p.n, it.rec.id[:]).Scan(&at, &parked)
	if errors.Is(err, sql.ErrNoRows) { // somebody was faster
		_, err := p.s.exec(ctx, []byte("COMMIT"))
		return err
	}
	if err != nil {
		return err
	}
	var end packet
	end.add("DELETE FROM perdure.queue_dead WHERE id=")
	end.b = Bytes(it.rec.id[:]).appendLiteral(end.b)
	if it.rec.kind == kindDiscard {
		return p.discard(ctx, &end, it, at, parked)
	}
	return p.retake(ctx, &end, it, at, parked)
}

func (p *partition) discard(ctx context.Context, pk *packet, it item, at uint64, parked bool) error {
	pk.add("UPDATE perdure.queue_ledger SET outcome=", itoa(ledgerDiscarded), " WHERE id=")
	pk.b = Bytes(it.rec.id[:]).appendLiteral(pk.b)
	if parked {
		pk.add("DELETE FROM perdure.queue_held WHERE stream=", utoa(p.a.stream), " AND part=", itoa(p.n), " AND seq=", utoa(at))
	}
	if err := p.end(ctx, pk); err != nil {
		return err
	}
	if k := p.held[it.rec.key]; parked && k != nil {
		k.parked, k.due = false, atOnce
		if k.count--; k.count <= 0 {
			delete(p.held, it.rec.key)
		}
	}
	p.a.hub.tell(Receipt{ID: it.rec.id, State: Discarded})
	return nil
}

// retake puts a dead letter back in front of its key: at its own place where
// the key is parked, at this place in the order where the key went on.
func (p *partition) retake(ctx context.Context, pk *packet, it item, at uint64, parked bool) error {
	rec := *it.rec
	rec.kind = kindWrite
	pk.add("DELETE FROM perdure.queue_ledger WHERE outcome=", itoa(ledgerDead), " AND id=")
	pk.b = Bytes(rec.id[:]).appendLiteral(pk.b)
	if parked {
		pk.add("UPDATE perdure.queue_held SET state=", itoa(heldWaiting), ",attempts=0,next_at=1,record=")
		pk.b = Bytes(rec.append(nil)).appendLiteral(pk.b)
		pk.b = append(pk.b, " WHERE stream="+utoa(p.a.stream)+" AND part="+itoa(p.n)+" AND seq="+utoa(at)...)
	} else {
		pk.hold(p.a.stream, p.n, []heldRow{{seq: it.seq, rec: &rec, next: atOnce, reason: "retried by " + clip(rec.by)}})
	}
	if err := p.end(ctx, pk); err != nil {
		return err
	}
	k := p.held[rec.key]
	if k == nil {
		k = &heldKey{}
		p.held[rec.key] = k
	}
	if !parked {
		k.count++
	}
	if parked || k.count == 1 {
		k.parked, k.due = false, atOnce
	}
	return nil
}

// duplicate tells whoever waits for a write that came twice what became of it
// the first time, and says aloud when the two were not the same.
func (a *Applier) duplicate(ctx context.Context, it item, l ledgerEntry) {
	a.count.duplicates.Add(1)
	if d := it.rec.digest(); l.digest != 0 && d != l.digest {
		a.log.WarnContext(ctx, "two different writes came with one id; the second was left out", "write", it.rec.id, "key", it.rec.key)
		a.notice(Notice{Kind: "id-reused", Write: it.rec.id, Key: it.rec.key, Detail: fmt.Sprintf("the first is at %d, the second at %d", l.seq, it.seq)})
	}
	r := Receipt{ID: it.rec.id, Sequence: l.seq, State: stateOf(l.outcome), Attempts: l.attempts, Duplicate: true}
	if l.outcome == ledgerApplied {
		r.Affected = &l.affected
	}
	if l.outcome != 0 {
		a.hub.tell(r)
	}
}
