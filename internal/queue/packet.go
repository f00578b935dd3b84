package queue

import (
	"encoding/hex"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// packet is SQL under construction: several statements that travel, and are
// answered, together.
type packet struct {
	b    []byte
	n    int       // statements so far
	time time.Time // what the session's clock was set to last
}

// add puts a statement at the end and gives its index among the answers.
func (p *packet) add(parts ...string) int {
	if len(p.b) > 0 {
		p.b = append(p.b, ';')
	}
	for _, s := range parts {
		p.b = append(p.b, s...)
	}
	p.n++
	return p.n - 1
}

// position moves the partition's row from one sequence to another, if nobody
// else has, and answers one row then.
func (p *packet) position(w *partition, to, mark uint64) int {
	w.beat = rand.Uint64() >> 2
	return p.add("UPDATE perdure.queue_position SET seq=", utoa(to), ",mark=", utoa(mark), ",starts=0,beat=", utoa(w.beat), " WHERE stream=",
		utoa(w.a.stream), " AND part=", itoa(w.n), " AND seq=", utoa(w.pos), " AND epoch=", strconv.FormatInt(w.epoch, 10),
		" AND holder=", utoa(w.a.holder))
}

// commit ends the transaction that position or fence began in an earlier packet,
// if it is still that one. Should the server have taken it back in between, as
// a group does with a transaction that loses a conflict, what came after would
// be a transaction of its own: the ledger would say applied of writes that were
// not. Then beat is not ours, NULL is refused, and COMMIT is not reached.
func (p *packet) commit(w *partition) {
	p.add("UPDATE perdure.queue_position SET beat=IF(beat=", utoa(w.beat), ",beat,NULL) WHERE stream=", utoa(w.a.stream), " AND part=", itoa(w.n))
	p.add("COMMIT")
}

// write adds what a record asks for and gives the index of its first statement.
// The session's clock, and the seeds of RAND() where it is used, are those of
// the record: applied again elsewhere it does the same.
func (p *packet) write(r *record) int {
	if !r.at.Equal(p.time) {
		us := r.at.UnixMicro()
		p.add("SET timestamp=", strconv.FormatInt(us/1e6, 10), ".", pad6(us%1e6))
		p.time = r.at
	}
	for i := range r.stmts {
		if r.stmts[i].random {
			p.add("SET rand_seed1=", utoa(uint64(r.id[8])<<16|uint64(r.id[9])<<8|uint64(r.id[10])),
				",rand_seed2=", utoa(uint64(r.id[11])<<16|uint64(r.id[12])<<8|uint64(r.id[13])))
			break
		}
	}
	for i := range r.stmts {
		if r.stmts[i].resetID {
			p.add("DO LAST_INSERT_ID(0)")
			break
		}
	}
	first := p.n
	for i := range r.stmts {
		p.add()
		p.fill(r.stmts[i].sql, r.stmts[i].args)
	}
	return first
}

// fill adds text with values in the place of its marks.
func (p *packet) fill(text string, args []Value) {
	for _, v := range args {
		at := strings.IndexByte(text, 0)
		p.b = append(p.b, text[:at]...)
		p.b = v.appendLiteral(p.b)
		text = text[at+1:]
	}
	p.b = append(p.b, text...)
}

// ledger adds the rows that say what became of writes.
func (p *packet) ledger(stream uint64, rows []ledgerRow) {
	if len(rows) == 0 {
		return
	}
	p.add("INSERT INTO perdure.queue_ledger (id,stream,seq,digest,outcome,attempts,affected) VALUES ")
	for i, r := range rows {
		if i > 0 {
			p.b = append(p.b, ',')
		}
		p.b = append(p.b, "(x'"...)
		p.b = hex.AppendEncode(p.b, r.id[:])
		p.b = append(p.b, "',"...)
		p.numbers(stream, r.seq, r.digest, uint64(r.outcome), uint64(r.attempts), uint64(r.affected))
		p.b = append(p.b, ')')
	}
}

func (p *packet) numbers(list ...uint64) {
	for i, n := range list {
		if i > 0 {
			p.b = append(p.b, ',')
		}
		p.b = strconv.AppendUint(p.b, n, 10)
	}
}

type ledgerRow struct {
	id       ID
	seq      uint64
	digest   uint64
	outcome  int
	attempts int
	affected int64
}

type heldRow struct {
	seq      uint64
	rec      *record
	state    int
	attempts int
	next     time.Time
	number   int
	reason   string
}

const (
	heldWaiting = 0
	heldParked  = 1 // its write is a dead letter and the key waits for a person
)

// hold adds rows of writes that are set aside in the database, in order.
func (p *packet) hold(stream uint64, part int, rows []heldRow) {
	if len(rows) == 0 {
		return
	}
	p.add("INSERT INTO perdure.queue_held (stream,part,seq,akey,id,state,attempts,next_at,error_number,error,record) VALUES ")
	for i, r := range rows {
		if i > 0 {
			p.b = append(p.b, ',')
		}
		p.b = append(p.b, '(')
		p.numbers(stream, uint64(part), r.seq)
		p.b = append(p.b, ',')
		p.b = Bytes([]byte(r.rec.key)).appendLiteral(p.b)
		p.b = append(p.b, ',')
		p.b = Bytes(r.rec.id[:]).appendLiteral(p.b)
		p.b = append(p.b, ',')
		p.numbers(uint64(r.state), uint64(r.attempts), uint64(max(0, r.next.UnixMilli())), uint64(r.number))
		p.b = append(p.b, ',')
		p.b = Text(r.reason).appendLiteral(p.b)
		p.b = append(p.b, ',')
		p.b = Bytes(r.rec.append(nil)).appendLiteral(p.b)
		p.b = append(p.b, ')')
	}
}

// dead adds a dead letter.
func (p *packet) dead(stream uint64, part int, r heldRow, parked bool, now time.Time) {
	park := "0"
	if parked {
		park = "1"
	}
	p.add("REPLACE INTO perdure.queue_dead (id,stream,part,seq,akey,operation,parked,attempts,error_number,error,died_at,record) VALUES (")
	p.b = Bytes(r.rec.id[:]).appendLiteral(p.b)
	p.b = append(p.b, ',')
	p.numbers(stream, uint64(part), r.seq)
	p.b = append(p.b, ',')
	p.b = Bytes([]byte(r.rec.key)).appendLiteral(p.b)
	p.b = append(p.b, ',')
	p.b = Text(r.rec.operation).appendLiteral(p.b)
	p.b = append(p.b, ',')
	p.b = append(p.b, park...)
	p.b = append(p.b, ',')
	p.numbers(uint64(r.attempts), uint64(r.number))
	p.b = append(p.b, ',')
	p.b = Text(r.reason).appendLiteral(p.b)
	p.b = append(p.b, ',')
	p.numbers(uint64(now.UnixMilli()))
	p.b = append(p.b, ',')
	p.b = Bytes(r.rec.append(nil)).appendLiteral(p.b)
	p.b = append(p.b, ')')
}

func utoa(u uint64) string { return strconv.FormatUint(u, 10) }

func pad6(n int64) string {
	s := strconv.FormatInt(n, 10)
	return "000000"[len(s):] + s
}
