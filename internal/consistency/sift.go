package consistency

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sizes of what is sifted: how many rows one heap has on average, and how many
// rows of unequal heaps are worth reading at once.
const (
	heapRows  = 16
	mostHeaps = 4096
	mostRead  = 5000
)

// sift finds the rows of a slice that are not the same everywhere: each member
// puts its rows into heaps, by their key, and says what is in each; then it lists
// the rows of those heaps that are not equal. That reads the slice twice, however
// many rows differ. It tells that it did not where too many do.
func (s *scan) sift(ctx context.Context, from, to key, rows uint64) (sifted bool, err error) {
	n := min(max(rows/heapRows, 64), mostHeaps)
	heap := fmt.Sprintf("CRC32(CONCAT_WS(',', %s)) %% %d", s.keyExprs(), n)
	began := time.Now()
	ask := fmt.Sprintf("SELECT %s%s AS heap, COUNT(*), HEX(BIT_XOR(CAST(UNHEX(%s) AS BINARY(32))))%s%s GROUP BY heap",
		hint, heap, s.hash, s.from(), s.within(from, to))
	heaps := each(ctx, s.sessions, func(ctx context.Context, m *session) (map[string]string, error) {
		rows, err := m.query(ctx, ask)
		out := make(map[string]string, len(rows))
		for _, row := range rows {
			out[row[0]] = row[1] + " " + row[2]
		}
		return out, err
	})
	if err := firstError(heaps); err != nil {
		return false, unlessSlow(err)
	}
	if err := s.rest(ctx, s.pace.cost(rows, time.Since(began))); err != nil {
		return false, err
	}
	unequal := map[string]bool{}
	for _, a := range heaps {
		for id, has := range a.said {
			for _, b := range heaps {
				if b.said[id] != has {
					unequal[id] = true
				}
			}
		}
	}
	if len(unequal) == 0 { // what was on its way has arrived
		return true, nil
	}
	if uint64(len(unequal))*rows > n*mostRead && rows > leaf {
		return false, nil
	}
	began = time.Now()
	listed := s.within(from, to) + " AND "
	if from == nil && to == nil {
		listed = " WHERE "
	}
	listed += fmt.Sprintf("%s IN (%s)", heap, strings.Join(sortedNumbers(unequal), ", "))
	complete, err := s.compare(ctx, listed, 2*mostRead)
	if err != nil || !complete {
		return false, unlessSlow(err)
	}
	return true, s.rest(ctx, s.pace.cost(rows, time.Since(began)))
}

// unlessSlow is for statements that a smaller slice makes faster.
func unlessSlow(err error) error {
	if slow(err) {
		return nil
	}
	return err
}

func sortedNumbers(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for id := range set {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// leaf compares a small slice row by row.
func (s *scan) leaf(ctx context.Context, from, to key) error {
	const limit = 4 * leaf
	complete, err := s.compare(ctx, s.within(from, to), limit)
	if err != nil || complete {
		return err
	}
	// It grew since it was counted.
	sums := make([]sum, len(s.sessions))
	for i := range sums {
		sums[i].rows = limit
	}
	return s.narrow(ctx, from, to, sums, 10)
}

// compare reads the rows that are meant on all members, and suspects those that are
// not the same. It tells whether there were no more than limit.
func (s *scan) compare(ctx context.Context, where string, limit int) (complete bool, err error) {
	ask := "SELECT " + hint + s.keyExprs() + ", " + s.hash + s.from() + where + s.inOrder() + " LIMIT " + strconv.Itoa(limit)
	keys := map[string]key{}
	answers := s.hashes(ctx, ask, keys)
	if err := firstError(answers); err != nil {
		return false, err
	}
	for _, a := range answers {
		if len(a.said) == limit {
			return false, nil
		}
	}
	var found []*suspect
	for id, k := range keys {
		c := &suspect{key: k, seen: map[string][]string{}}
		if !c.see(s.sessions, func(i int) string { return answers[i].said[id] }) {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b *suspect) int { return slices.Compare(a.key, b.key) })
	return true, s.suspect(ctx, found)
}

// hashes asks all members for rows: what identifies the row, and its hash. The
// keys are added to keys.
func (s *scan) hashes(ctx context.Context, ask string, keys map[string]key) []answer[map[string]string] {
	rows := each(ctx, s.sessions, func(ctx context.Context, m *session) ([][]string, error) { return m.query(ctx, ask) })
	out := make([]answer[map[string]string], len(rows))
	for i, a := range rows {
		out[i] = answer[map[string]string]{map[string]string{}, a.err}
		for _, row := range a.said {
			id := strings.Join(row[:len(s.key)], "\x00")
			out[i].said[id] = row[len(s.key)]
			if _, known := keys[id]; known {
				continue
			}
			k, err := s.scanKey(row)
			if err != nil {
				out[i].err = err
				break
			}
			keys[id] = k
		}
	}
	return out
}
