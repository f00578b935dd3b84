package queue

import (
	"errors"
	"fmt"

	"github.com/perdure/perdure/internal/mysql"
)

// act is what to do after a batch failed.
type act int

const (
	// reconnect: leave the session, wait, ask the route again. Whether the
	// batch took effect is read from the position row, never guessed.
	reconnect act = iota
	// again: the transaction is gone; the same batch once more.
	again
	// redo: one write after the other behind savepoints, to find whose fault it was.
	redo
	// halve: the same in smaller transactions.
	halve
	// known: some of the batch is in the ledger already; leave it out.
	known
	// reject: this single write cannot be committed; set it aside.
	reject
	// halt: something happened that must not go on without a person.
	halt
)

var (
	errRows     = errors.New("affected another number of rows than it must")
	errMoved    = errors.New("the position row is not where this applier left it")
	errImplicit = errors.New("a statement committed by itself; what came before it in its transaction is in the database without a ledger row")
)

// rowsError is errRows with figures.
type rowsError struct {
	stmt     int
	got      int64
	min, max int64
}

func (e *rowsError) Error() string {
	want := fmt.Sprintf("%d to %d", e.min, e.max)
	switch {
	case e.max < 0:
		want = fmt.Sprintf("at least %d", e.min)
	case e.min == e.max:
		want = fmt.Sprint(e.min)
	}
	return fmt.Sprintf("statement %d affected %d rows, expected %s", e.stmt+1, e.got, want)
}
func (e *rowsError) Unwrap() error { return errRows }

// patience is how often a batch is tried as it is before the writes in it are
// looked at one by one, or split.
const patience = 3

// decide says what to do about a batch of size writes that failed with err for
// the tries-th time; committing tells that all its statements had passed.
func decide(err error, committing bool, size, tries int) act {
	n := mysql.Number(err)
	switch {
	case errors.Is(err, errImplicit):
		return halt
	case errors.Is(err, errMoved):
		return reconnect
	case errors.Is(err, errRows):
		return redo
	case committing && n == 1062:
		return known
	}
	switch mysql.Classify(err) {
	case mysql.Conflict:
		if tries >= patience && size > 1 {
			return halve
		}
		return again
	case mysql.TooLarge:
		return orIfSingle(size, halve, reject)
	case mysql.Statement, mysql.Schema:
		if committing {
			return orIfSingle(size, halve, reject)
		}
		return redo
	case mysql.Unknown:
		if n == 0 {
			return reconnect
		}
		if committing {
			return orIfSingle(size, halve, reject)
		}
		return redo
	case mysql.Transient:
		if inTheWay(n) {
			if tries < patience {
				return again
			}
			return redo
		}
	}
	return reconnect
}

func orIfSingle(size int, many, single act) act {
	if size > 1 {
		return many
	}
	return single
}

// inTheWay: transient errors that concern what one write touches, not the
// server: a lock, a time limit. After some patience such a write is set aside,
// without an attempt counted, so that it does not hold up others.
func inTheWay(n int) bool {
	switch n {
	case 1205, 1206, 1223, 1317, 3024, 3572, 1412, 1615:
		return true
	}
	return false
}

// fault is what an error of one write, alone behind its savepoint, means.
type fault int

const (
	notItsFault fault = iota // the transaction cannot go on; nothing is said about the write
	counts                   // an attempt is used up
	waits                    // set aside without an attempt
)

func faultOf(err error) fault {
	n := mysql.Number(err)
	if errors.Is(err, errRows) {
		return counts
	}
	switch mysql.Classify(err) {
	case mysql.Statement, mysql.Schema, mysql.TooLarge:
		return counts
	case mysql.Unknown:
		if n != 0 {
			return counts
		}
	case mysql.Transient:
		if inTheWay(n) {
			return waits
		}
	}
	return notItsFault
}
