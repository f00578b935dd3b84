package consistency

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/perdure/perdure/internal/pause"
)

// Sizes of slices, in rows.
const (
	firstSlice   = 2000
	smallSlice   = 1000
	largestSlice = 200_000
	// leaf is how many rows a member's part may have to be read row by row.
	leaf = 400
	// parts is into how many slices a different one is divided.
	parts = 16
)

// scan compares the rows of one table.
type scan struct {
	*run
	*table
	hash      string // expression for a row
	found     int    // rows that differ
	undecided int
	full      bool   // found is all this table may have
	to        key    // how far it is compared but for the rows that wait
	counted   uint64 // rows up to there
	waiting   []*suspect
	looked    time.Time // at those that wait
	sought    time.Time // for errant transactions, because a member is late
}

// table compares one table. What goes wrong with it is a remark, and the audit
// goes on; an error ends the audit.
func (r *run) table(ctx context.Context, t tableName) error {
	const tries = 3
	changes := 0
	for try := 0; try < tries; try++ {
		before := r.at.Key
		err := r.tableOnce(ctx, t)
		if !slices.Equal(r.at.Key, before) {
			try = 0 // it gets on
		}
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case changed(err) || errors.Is(err, errChanged):
			r.at = place{Table: t.String()} // from its beginning, as it is now
			if changes++; changes >= tries {
				try = tries
			}
		case busy(err):
		case denied(err):
			r.report.remark(Remark{
				Kind: Denied, Subject: t.String(), Text: fmt.Sprintf("%s could not be read: %v", t, err),
				SQL: "GRANT SELECT ON " + t.quoted() + " TO the account of the audit",
			})
			return nil
		case lost(err):
			if e := r.members(ctx); e != nil {
				return e
			}
		default:
			r.report.remark(Remark{Kind: Incomplete, Subject: t.String(), Text: fmt.Sprintf("%s was not compared to its end: %v", t, err)})
			return nil
		}
		r.cfg.Log.Debug("a table is compared again", "audit", r.report.ID, "table", t.String(), "err", err)
		if err := pause.For(ctx, time.Second); err != nil {
			return err
		}
	}
	r.report.remark(Remark{Kind: Incomplete, Subject: t.String(), Text: fmt.Sprintf("%s was not compared to its end: it was changed, locked or out of reach %d times", t, tries)})
	return nil
}

func (r *run) tableOnce(ctx context.Context, t tableName) error {
	began := time.Now()
	alike, exists, err := r.sameDefinition(ctx, t)
	if err != nil || !exists || !alike {
		return err
	}
	described, why, err := describe(ctx, r.sessions[0], t.schema, t.name)
	if err != nil {
		return err
	}
	if err := r.rest(ctx, min(time.Since(began), r.cfg.Slice)); err != nil {
		return err
	}
	if why != "" {
		r.report.remark(Remark{Kind: NotComparable, Subject: t.String(), Text: fmt.Sprintf("%s cannot be compared: %s", t, why)})
		return nil
	}
	r.pace.row = 0
	s := &scan{run: r, table: described, hash: hash(described.columns)}
	r.back()
	if r.at.Definition != s.definition {
		r.at = place{Table: t.String(), Definition: s.definition}
	}
	s.to = r.at.Key
	if err := s.rows(ctx); err != nil {
		return err
	}
	now, err := definition(ctx, r.sessions[0], t)
	if err == nil && now != s.definition {
		return errChanged // a column that came meanwhile was not compared
	}
	return err
}

// rows walks along the key from where the audit is to the end. Rows that are not
// the same everywhere are looked at again while it goes on: under load some are on
// their way in every slice, and an audit that waited for each would not end.
func (s *scan) rows(ctx context.Context) error {
	n := firstSlice
	for last := false; !last && !s.full; {
		began := time.Now()
		to, err := s.boundary(ctx, s.sessions[0], s.to, nil, n)
		if err != nil && !slow(err) {
			return err
		}
		if slow(err) {
			if n = max(n/4, 1); n == 1 {
				return err
			}
			continue
		}
		last = to == nil
		sums, err := s.sums(ctx, s.to, to)
		if err != nil {
			return err
		}
		took := time.Since(began)
		s.report.Slices++
		s.report.Rows += sums[0].rows
		s.counted += sums[0].rows
		cost := s.pace.cost(sums[0].rows, took)
		if !equalSums(sums) {
			s.report.Unequal++
			if err := s.narrow(ctx, s.to, to, sums, 0); err != nil {
				return err
			}
		}
		s.to = to
		s.settle()
		n = resize(n, max(cost, took/8), s.cfg.Slice)
		if err := s.rest(ctx, cost); err != nil {
			return err
		}
		if err := s.yield(ctx); err != nil {
			return err
		}
		if err := s.lookSoon(ctx); err != nil {
			return err
		}
		if err := s.keep(ctx); err != nil {
			return err
		}
	}
	return s.lookToTheEnd(ctx)
}

// resize chooses the next slice so that it costs about as much time as it shall.
func resize(n int, took, want time.Duration) int {
	factor := float64(want) / float64(max(took, time.Millisecond))
	factor = min(max(factor, 0.3), 1.6)
	return min(max(int(float64(n)*factor), smallSlice), largestSlice)
}

// boundary finds the n-th row behind from, not behind to; nil if there are not
// so many.
func (s *scan) boundary(ctx context.Context, at *session, from, to key, n int) (key, error) {
	rows, err := at.query(ctx, fmt.Sprintf("SELECT %s%s%s%s%s LIMIT 1 OFFSET %d", hint, s.keyExprs(), s.from(), s.within(from, to), s.inOrder(), n-1))
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return s.scanKey(rows[0])
}

var hint = fmt.Sprintf("/*+ MAX_EXECUTION_TIME(%d) */ ", sliceLimit.Milliseconds())

// sum is what a member has in a slice. slow: more than it can read in time.
type sum struct {
	rows uint64
	hash string
	slow bool
}

func equalSums(sums []sum) bool {
	for _, m := range sums {
		if m.slow || m != sums[0] {
			return false
		}
	}
	return true
}

// sums asks all members for a slice at once. Each answers from one snapshot of
// its own.
func (s *scan) sums(ctx context.Context, from, to key) ([]sum, error) {
	ask := fmt.Sprintf("SELECT %sCOUNT(*), HEX(BIT_XOR(CAST(UNHEX(%s) AS BINARY(32))))%s%s", hint, s.hash, s.from(), s.within(from, to))
	answers := each(ctx, s.sessions, func(ctx context.Context, m *session) (sum, error) {
		rows, err := m.query(ctx, ask)
		if slow(err) {
			return sum{slow: true}, nil
		}
		if err != nil {
			return sum{}, err
		}
		n, err := strconv.ParseUint(rows[0][0], 10, 64)
		return sum{rows: n, hash: rows[0][1]}, err
	})
	out := make([]sum, len(answers))
	for i, a := range answers {
		out[i] = a.said
	}
	return out, firstError(answers)
}

// narrow finds the rows of a slice that is not equal: by sifting it, or in
// smaller slices where there are too many. The member that has most there says
// where to divide, so that every part is small on all of them in the end.
func (s *scan) narrow(ctx context.Context, from, to key, sums []sum, depth int) error {
	most, rows, tooMany := 0, uint64(0), false
	for i, m := range sums {
		if m.slow {
			m.rows, tooMany = largestSlice, true
		}
		if m.rows > rows {
			most, rows = i, m.rows
		}
	}
	if rows <= leaf {
		return s.leaf(ctx, from, to)
	}
	if depth > 20 {
		return errors.New("a slice grew faster than it could be divided")
	}
	if !tooMany && rows <= 2*largestSlice {
		sifted, err := s.sift(ctx, from, to, rows)
		if sifted || err != nil {
			return err
		}
	}
	step := int(max(rows/parts, leaf/2))
	for last := false; !last && !s.full; {
		next, err := s.boundary(ctx, s.sessions[most], from, to, step)
		if err != nil {
			return err
		}
		if last = next == nil; last {
			next = to
		}
		began := time.Now()
		sums, err := s.sums(ctx, from, next)
		if err != nil {
			return err
		}
		if err := s.rest(ctx, s.pace.cost(sums[most].rows, time.Since(began))); err != nil {
			return err
		}
		if !equalSums(sums) {
			if err := s.narrow(ctx, from, next, sums, depth+1); err != nil {
				return err
			}
		}
		if err := s.lookSoon(ctx); err != nil {
			return err
		}
		from = next
	}
	return nil
}
