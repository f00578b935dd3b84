package queue

import (
	"context"
	"fmt"
)

// A write that takes the applier or the server down with it would do so again
// after every restart, and nothing behind it would ever be applied. So the
// first batch after a claim leaves a trace before it runs: starts, in the
// position row. Any batch that ends, well or with an error, wipes it. What is
// left are batches whose end nobody saw. When there are Quarantine of them in a
// row the write is set aside as a dead letter, unexecuted: losing the link in
// the middle of the same single write that often, without ever succeeding, is
// not an outage.
const (
	// carefulAfter so many, batches have one write, to know which it is.
	carefulAfter = 3
)

func (p *partition) careful() bool { return p.starts >= carefulAfter }

// begin leaves the trace. done says that the write was quarantined instead.
func (p *partition) begin(ctx context.Context, it item) (done bool, err error) {
	if p.starts >= p.a.cfg.Quarantine && it.rec.kind == kindWrite && p.held[it.rec.key] == nil {
		p.log.ErrorContext(ctx, "write quarantined", "write", it.rec.id, "starts", p.starts)
		h := heldRow{
			seq: it.seq, rec: it.rec, attempts: p.a.cfg.MaxAttempts, next: atOnce,
			reason: fmt.Sprintf("the connection was lost %d times in a row while this write was applied; it was not tried again", p.starts),
		}
		return true, p.aside(ctx, it, h)
	}
	var pk packet
	i := pk.add("UPDATE perdure.queue_position SET starts=starts+1 WHERE stream=", utoa(p.a.stream), " AND part=", itoa(p.n),
		" AND seq=", utoa(p.pos), " AND holder=", utoa(p.a.holder))
	rows, err := p.s.exec(ctx, pk.b)
	if err == nil && rows[i] != 1 {
		err = errMoved
	}
	if err == nil {
		p.fresh = false
		p.starts++
	}
	return false, err
}

// forgive wipes the trace after an end that was seen. If that fails the trace
// stays, and the next batch that ends wipes it.
func (p *partition) forgive() {
	if p.s == nil || p.starts == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.a.cfg.StatementLimit)
	defer cancel()
	_, err := p.s.exec(ctx, []byte("ROLLBACK;UPDATE perdure.queue_position SET starts=0 WHERE stream="+utoa(p.a.stream)+
		" AND part="+itoa(p.n)+" AND holder="+utoa(p.a.holder)))
	if err == nil {
		p.starts = 0
	}
}
