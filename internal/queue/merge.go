package queue

import (
	"slices"
	"strings"
	"sync"
)

// Applying costs the server a fixed price for each statement, several times
// that of one more row. So INSERTs of the same text that follow each other in a
// batch travel as one INSERT of several rows, where nothing can tell the
// difference: each is all of its write, brings one row of plain values, was
// accepted at the same moment (NOW() is the same), and must affect one row or
// may affect any number. Their order stays what it was. If the whole fails,
// the batch is done one by one and every write gets what is its own.

// maxShared bounds the writes of one INSERT: beyond, nothing more is gained.
const maxShared = 500

// spot is where the answer to a write is found.
type spot struct {
	first  int // index of its first statement
	shared int // how many writes the statement is for; 0: only this one
}

// writes adds what records ask for and says where their answers will be.
func (p *packet) writes(items []item) []spot {
	out := make([]spot, len(items))
	for i := 0; i < len(items); {
		n := alike(items[i:])
		if n < 2 {
			out[i] = spot{first: p.write(items[i].rec)}
			i++
			continue
		}
		first := p.write(items[i].rec)
		head := items[i].rec.stmts[0].sql
		row := head[rowOf(head):]
		for _, it := range items[i+1 : i+n] {
			p.b = append(p.b, ',')
			p.fill(row, it.rec.stmts[0].args)
		}
		for j := range n {
			out[i+j] = spot{first: first, shared: n}
		}
		i += n
	}
	return out
}

// alike is how many writes from the front on can share one INSERT.
func alike(items []item) int {
	r := items[0].rec
	if !sharable(r) || rowOf(r.stmts[0].sql) == 0 {
		return 1
	}
	n := 1
	for n < len(items) && n < maxShared {
		o := items[n].rec
		if !sharable(o) || o.stmts[0].sql != r.stmts[0].sql || !o.at.Equal(r.at) {
			break
		}
		n++
	}
	return n
}

func sharable(r *record) bool {
	if r.kind != kindWrite || len(r.stmts) != 1 {
		return false
	}
	s := &r.stmts[0]
	return !s.random && !s.resetID && s.min <= 1 && (s.max < 0 || s.max >= 1)
}

// affected is the rows of one write among the answers to a packet.
func affected(it item, at spot, rows []int64) (int64, error) {
	if at.shared == 0 {
		return check(it.rec, rows[at.first:])
	}
	if n, want := rows[at.first], int64(at.shared); n != want {
		return 0, &rowsError{stmt: 0, got: n, min: want, max: want}
	}
	return 1, nil
}

// rows remembers where the row of values of a statement begins: there are few
// texts, and they come again and again.
var rowsOf struct {
	sync.RWMutex
	at map[string]int
}

// rowOf finds the one row of plain values at the end of an INSERT, 0 if sql is
// anything else.
func rowOf(sql string) int {
	if len(sql) > 4096 {
		return 0
	}
	rowsOf.RLock()
	at, ok := rowsOf.at[sql]
	rowsOf.RUnlock()
	if ok {
		return at
	}
	at = findRow(sql)
	rowsOf.Lock()
	if len(rowsOf.at) >= 1024 || rowsOf.at == nil {
		rowsOf.at = map[string]int{}
	}
	rowsOf.at[sql] = at
	rowsOf.Unlock()
	return at
}

// plainWords are what may stand in a row beside values. All of them are the
// same for every row of a statement as for statements of the same time.
var plainWords = setOf(`NULL TRUE FALSE DEFAULT NOW CURRENT_TIMESTAMP UTC_TIMESTAMP`)

// modes change what an INSERT means for its rows together.
var modes = setOf(`IGNORE DELAYED LOW_PRIORITY HIGH_PRIORITY`)

func findRow(sql string) int {
	toks, err := lex(strings.ReplaceAll(sql, mark, "?"))
	if err != nil || len(toks) < 5 || upperWord(toks[0]) != "INSERT" || modes[upperWord(toks[1])] {
		return 0
	}
	depth := 0
	at := slices.IndexFunc(toks, func(t token) bool {
		depth += level(t)
		w := upperWord(t)
		return depth == 0 && (w == "VALUES" || w == "VALUE" || w == "SELECT" || w == "SET")
	})
	if at < 0 || at+1 >= len(toks) || level(toks[at+1]) != 1 || !strings.HasPrefix(upperWord(toks[at]), "VALUE") {
		return 0
	}
	if slices.ContainsFunc(toks[:at], func(t token) bool { return t.kind == tokPlace }) {
		return 0
	}
	depth = 0
	for i, t := range toks[at+1:] {
		depth += level(t)
		switch {
		case depth == 0 && i != len(toks[at+1:])-1: // another row, an alias, ON DUPLICATE KEY
			return 0
		case t.kind == tokWord && !plainWords[upperWord(t)], t.kind == tokQuoted, t.kind == tokVar, t.kind == tokParam:
			return 0
		}
	}
	if depth != 0 {
		return 0
	}
	return toks[at+1].pos
}

func level(t token) int {
	if t.kind != tokOp {
		return 0
	}
	switch t.text {
	case "(":
		return 1
	case ")":
		return -1
	}
	return 0
}
