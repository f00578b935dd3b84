package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/mysql"
)

// heldKey is a key whose writes wait in the database: the first has failed and
// will be tried again, or is a dead letter that somebody must look at; the
// others wait behind it, in order. The partition itself has gone on.
type heldKey struct {
	count  int  // rows of this key in queue_held
	flows  bool // its first write succeeded last time: take up many at once
	due    time.Time
	parked bool
}

// atOnce is a due time that has always come.
var atOnce = time.UnixMilli(1)

// loadHeld reads which keys wait, not what they hold.
func (s *session) loadHeld(ctx context.Context, stream uint64, part int) (map[string]*heldKey, error) {
	rows, err := s.conn.QueryContext(ctx, `SELECT h.akey, k.n, h.state, h.next_at FROM perdure.queue_held h
		JOIN (SELECT akey, COUNT(*) n, MIN(seq) seq FROM perdure.queue_held WHERE stream=? AND part=? GROUP BY akey) k ON k.seq=h.seq
		WHERE h.stream=? AND h.part=?`, stream, part, stream, part)
	if err != nil {
		return nil, fmt.Errorf("reading what waits: %w", err)
	}
	defer rows.Close()
	out := map[string]*heldKey{}
	for rows.Next() {
		var key []byte
		var k heldKey
		var state int
		var next int64
		if err := rows.Scan(&key, &k.count, &state, &next); err != nil {
			return nil, err
		}
		k.parked, k.due = state == heldParked, time.UnixMilli(next)
		out[string(key)] = &k
	}
	return out, rows.Err()
}

// noteHeld adds a row that was just committed.
func (p *partition) noteHeld(h heldRow) {
	k := p.held[h.rec.key]
	if k == nil {
		k = &heldKey{due: h.next}
		p.held[h.rec.key] = k
		p.a.notice(Notice{Kind: "held", Write: h.rec.id, Key: h.rec.key, Detail: h.reason})
	}
	k.count++
}

// due is when the next held key wants to be tried; zero when none does.
func (p *partition) due() time.Time {
	var at time.Time
	for _, k := range p.held {
		if !k.parked && (at.IsZero() || k.due.Before(at)) {
			at = k.due
		}
	}
	return at
}

func (p *partition) dueKey() string {
	key, best := "", time.Time{}
	for name, k := range p.held {
		if !k.parked && (best.IsZero() || k.due.Before(best)) {
			key, best = name, k.due
		}
	}
	return key
}

// heldAtOnce is how many writes of one key are taken up in one transaction.
const heldAtOnce = 100

// retryHeld tries the key that is due: its first write, and as many behind it
// as succeed, in one transaction fenced by the position row.
func (p *partition) retryHeld(ctx context.Context) error {
	key := p.dueKey()
	err := p.takeUp(ctx, key)
	if err == nil || mysql.Classify(err) == mysql.Lost {
		return err
	}
	// Nothing was committed. The key waits a little, the session may be fine.
	if k := p.held[key]; k != nil {
		k.due = p.a.now().Add(500 * time.Millisecond)
	}
	if _, rerr := p.s.exec(ctx, []byte("ROLLBACK")); rerr != nil {
		return rerr
	}
	if mysql.Classify(err) == mysql.Conflict || inTheWay(mysql.Number(err)) {
		return nil
	}
	return err
}

// heldWork is one transaction over the waiting writes of a key.
type heldWork struct {
	pk      packet
	ledger  []ledgerRow
	gone    []uint64
	parked  bool
	due     time.Time
	letters []heldRow
}

func (p *partition) takeUp(ctx context.Context, key string) error {
	if err := p.fence(ctx); err != nil {
		return err
	}
	most := 1
	if k := p.held[key]; k != nil && k.flows {
		most = heldAtOnce
	}
	rows, err := p.s.heldRows(ctx, p.a.stream, p.n, key, most)
	if err != nil {
		return err
	}
	items := make([]item, len(rows))
	for i := range rows {
		items[i] = item{seq: rows[i].seq, rec: rows[i].rec}
	}
	done, err := lookLedger(ctx, p.s.conn, items)
	if err != nil {
		return err
	}
	var w heldWork
	for i, h := range rows {
		if l, ok := done[h.rec.id]; ok { // sent twice while it waited
			p.a.duplicate(ctx, items[i], l)
			w.gone = append(w.gone, h.seq)
			continue
		}
		stop, err := p.tryHeld(ctx, &w, h)
		if err != nil {
			return err
		}
		done[h.rec.id] = ledgerEntry{}
		if stop {
			break
		}
	}
	w.pk.ledger(p.a.stream, w.ledger)
	if len(w.gone) > 0 {
		w.pk.add("DELETE FROM perdure.queue_held WHERE stream=", utoa(p.a.stream), " AND part=", itoa(p.n), " AND seq IN (")
		w.pk.numbers(w.gone...)
		w.pk.b = append(w.pk.b, ')')
	}
	if err := p.end(ctx, &w.pk); err != nil {
		return err
	}
	p.settle(ctx, key, w)
	return nil
}

// tryHeld runs one waiting write. stop says that the key waits again.
func (p *partition) tryHeld(ctx context.Context, w *heldWork, h heldRow) (stop bool, err error) {
	var n int64
	why := errors.New(h.reason)
	if h.attempts < p.a.cfg.MaxAttempts {
		if err := p.s.pin(ctx, h.rec.session); err != nil {
			return false, err
		}
		n, why = p.s.one(ctx, h.rec)
	}
	if why == nil {
		w.ledger = append(w.ledger, ledgerRow{id: h.rec.id, seq: h.seq, digest: h.rec.digest(), outcome: ledgerApplied, attempts: h.attempts + 1, affected: n})
		w.gone = append(w.gone, h.seq)
		return false, nil
	}
	if h.attempts < p.a.cfg.MaxAttempts {
		next, ok := p.failure(h, why)
		if !ok {
			if errors.Is(why, errImplicit) {
				p.a.Halt(why.Error())
			}
			return false, why
		}
		h = next
	}
	if h.attempts < p.a.cfg.MaxAttempts {
		w.due = h.next
		w.pk.add("UPDATE perdure.queue_held SET attempts=", itoa(h.attempts), ",next_at=", utoa(uint64(h.next.UnixMilli())), ",error_number=", itoa(h.number),
			",error=")
		w.pk.b = Text(h.reason).appendLiteral(w.pk.b)
		w.pk.b = append(w.pk.b, " WHERE stream="+utoa(p.a.stream)+" AND part="+itoa(p.n)+" AND seq="+utoa(h.seq)...)
		return true, nil
	}
	return p.bury(w, h), nil
}

// bury makes a dead letter of a write, in the transaction that says so in the
// ledger. With the policy to park, its key goes on waiting.
func (p *partition) bury(w *heldWork, h heldRow) (stop bool) {
	park := p.a.cfg.Park
	w.pk.dead(p.a.stream, p.n, h, park, p.a.now())
	w.ledger = append(w.ledger, ledgerRow{id: h.rec.id, seq: h.seq, digest: h.rec.digest(), outcome: ledgerDead, attempts: h.attempts})
	w.letters = append(w.letters, h)
	if !park {
		w.gone = append(w.gone, h.seq)
		return false
	}
	w.parked = true
	w.pk.add("UPDATE perdure.queue_held SET state=", itoa(heldParked), ",attempts=", itoa(h.attempts), " WHERE stream=", utoa(p.a.stream),
		" AND part=", itoa(p.n), " AND seq=", utoa(h.seq))
	return true
}

// settle takes a committed heldWork over.
func (p *partition) settle(ctx context.Context, key string, w heldWork) {
	k := p.held[key]
	k.count -= len(w.gone)
	k.parked, k.due, k.flows = w.parked, w.due, w.due.IsZero()
	if k.due.IsZero() {
		k.due = atOnce // there may be more
	}
	if k.count <= 0 {
		delete(p.held, key)
	}
	gtid := ""
	if len(w.ledger) > 0 {
		gtid = p.s.gtid(ctx)
	}
	for _, l := range w.ledger {
		r := Receipt{ID: l.id, Sequence: l.seq, State: stateOf(l.outcome), Attempts: l.attempts, GTID: gtid}
		if l.outcome == ledgerApplied {
			r.Affected = &l.affected
			p.a.count.applied.Add(1)
		}
		p.a.hub.tell(r)
	}
	for _, h := range w.letters {
		p.a.count.dead.Add(1)
		p.log.WarnContext(ctx, "write became a dead letter", "write", h.rec.id, "key", h.rec.key, "attempts", h.attempts, "err", h.reason)
		p.a.notice(Notice{Kind: "dead", Write: h.rec.id, Key: h.rec.key, Detail: h.reason})
	}
}

// end sends the last packet of a transaction, with COMMIT at its end.
func (p *partition) end(ctx context.Context, pk *packet) error {
	pk.commit(p)
	_, err := p.s.exec(ctx, pk.b)
	if mysql.Number(err) == 1048 { // nothing else in these packets can be NULL
		p.log.WarnContext(ctx, "the server took a transaction back between two packets; nothing of it is committed")
		return errMoved
	}
	return err
}

// fence opens a transaction that only the rightful applier can commit.
func (p *partition) fence(ctx context.Context) error {
	var pk packet
	pk.add("BEGIN")
	p.beat = rand.Uint64() >> 2
	i := pk.add("UPDATE perdure.queue_position SET beat=", utoa(p.beat), " WHERE stream=", utoa(p.a.stream), " AND part=", itoa(p.n),
		" AND seq=", utoa(p.pos), " AND epoch=", i64toa(p.epoch), " AND holder=", utoa(p.a.holder))
	rows, err := p.s.exec(ctx, pk.b)
	if err != nil {
		return err
	}
	if rows[i] != 1 {
		return errMoved
	}
	return nil
}

func (s *session) heldRows(ctx context.Context, stream uint64, part int, key string, most int) ([]heldRow, error) {
	rows, err := s.conn.QueryContext(ctx, `SELECT seq, state, attempts, error_number, error, record FROM perdure.queue_held
		WHERE stream=? AND part=? AND akey=? ORDER BY seq LIMIT ?`, stream, part, []byte(key), most)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []heldRow
	for rows.Next() {
		var h heldRow
		var body []byte
		if err := rows.Scan(&h.seq, &h.state, &h.attempts, &h.number, &h.reason, &body); err != nil {
			return nil, err
		}
		rec, err := decodeRecord(body)
		if err != nil {
			return nil, fmt.Errorf("held write at %d: %w", h.seq, err)
		}
		h.rec = &rec
		out = append(out, h)
	}
	return out, rows.Err()
}

type ledgerEntry struct {
	seq      uint64
	digest   uint64
	outcome  int
	attempts int
	affected int64
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// lookLedger finds which of items the ledger knows.
func lookLedger(ctx context.Context, q querier, items []item) (map[ID]ledgerEntry, error) {
	out := map[ID]ledgerEntry{}
	var args []any
	for _, it := range items {
		if it.rec != nil {
			args = append(args, it.rec.id[:])
		}
	}
	if len(args) == 0 {
		return out, nil
	}
	rows, err := q.QueryContext(ctx, "SELECT id, seq, digest, outcome, attempts, affected FROM perdure.queue_ledger WHERE id IN (?"+
		strings.Repeat(",?", len(args)-1)+")", args...)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var raw []byte
		var e ledgerEntry
		if err := rows.Scan(&raw, &e.seq, &e.digest, &e.outcome, &e.attempts, &e.affected); err != nil {
			return nil, err
		}
		out[ID(raw)] = e
	}
	return out, rows.Err()
}
