package consistency

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// suspect is a row that was not the same on all members.
type suspect struct {
	key key
	// seen is what each member, by name, had at some look. Once all have one
	// value in common the row is no suspect: it was on its way.
	seen map[string][]string
}

// maxSeen bounds what is remembered of a row that changes at every look.
const maxSeen = 32

// maxUndecided is how many rows of a table that change all the time are worth
// the seconds that the tries to prove something about them take.
const maxUndecided = 10

// none is what a member has where the row is not.
const none = ""

// see notes what the members have, and tells whether they agree now or had one
// value in common.
func (c *suspect) see(members []*session, value func(i int) string) (agreed bool) {
	for i, m := range members {
		v := value(i)
		if known := c.seen[m.Name]; !slices.Contains(known, v) {
			if len(known) == maxSeen {
				known = known[1:]
			}
			c.seen[m.Name] = append(known, v)
		}
	}
	for _, v := range c.seen[members[0].Name] {
		all := true
		for _, m := range members[1:] {
			all = all && slices.Contains(c.seen[m.Name], v)
		}
		if all {
			return true
		}
	}
	return false
}

// moved tells whether every member showed the row with more than one value.
func (c *suspect) moved() bool {
	for _, known := range c.seen {
		if len(known) < 2 {
			return false
		}
	}
	return true
}

// leaf compares a small slice row by row.
func (s *scan) leaf(ctx context.Context, from, to key) error {
	const limit = 4 * leaf
	ask := fmt.Sprintf("SELECT %s%s, %s%s%s%s LIMIT %d", hint, s.keyExprs(), s.hash, s.from(), s.within(from, to), s.inOrder(), limit)
	keys := map[string]key{}
	answers := s.hashes(ctx, ask, keys)
	if err := firstError(answers); err != nil {
		return err
	}
	for _, a := range answers {
		if len(a.said) == limit { // it grew since it was counted
			sums := make([]sum, len(answers))
			for i, a := range answers {
				sums[i].rows = uint64(max(len(a.said), leaf+1))
			}
			return s.narrow(ctx, from, to, sums, 10)
		}
	}
	var suspects []*suspect
	for id, k := range keys {
		c := &suspect{key: k, seen: map[string][]string{}}
		if !c.see(s.sessions, func(i int) string { return answers[i].said[id] }) {
			suspects = append(suspects, c)
		}
	}
	slices.SortFunc(suspects, func(a, b *suspect) int { return slices.Compare(a.key, b.key) })
	return s.confirm(ctx, suspects)
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

// confirm looks at suspicious rows again until they are the same, for as long
// as Patience says, and then proves the difference of those that are left.
func (s *scan) confirm(ctx context.Context, suspects []*suspect) error {
	began := time.Now()
	pause := 20 * time.Millisecond
	behind := 0
	for len(suspects) > 0 && (time.Since(began) < s.cfg.Patience || behind > 0 && behind < 4) {
		s.report.Again += len(suspects)
		// Who is late by so much all the time gets there if it is waited for.
		aligned, err := s.align(ctx, min(2*holdLimit<<behind, callLimit*4/5))
		if err != nil {
			return err
		}
		if !aligned {
			behind++ // a member is late; what differs tells nothing
			if behind == 4 {
				// Or it will never come: there may be errant transactions by now.
				if err := s.gtids(ctx); err != nil {
					return err
				}
			}
		} else {
			behind = 0
		}
		if suspects, err = s.again(ctx, suspects); err != nil || len(suspects) == 0 {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(pause*2, s.cfg.Patience/4)
	}
	for _, c := range suspects {
		if s.full {
			break
		}
		if c.moved() && (s.heals || s.undecided >= maxUndecided) {
			s.report.Moving++
			continue
		}
		if behind >= 4 && s.undecided >= maxUndecided {
			s.report.remark(Remark{
				Kind: Incomplete, Subject: s.table.String(),
				Text: fmt.Sprintf("more rows of %s could not be decided: a member is too late; compare the table again when it has caught up", s.table),
			})
			break
		}
		if err := s.judge(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// again reads suspicious rows on all members, and returns those that still
// have nothing in common.
func (s *scan) again(ctx context.Context, suspects []*suspect) ([]*suspect, error) {
	const batch = 50
	var left []*suspect
	for some := range slices.Chunk(suspects, batch) {
		var or []string
		for _, c := range some {
			or = append(or, "("+s.condition(c.key)+")")
		}
		ask := fmt.Sprintf("SELECT %s%s, %s%s WHERE %s", hint, s.keyExprs(), s.hash, s.from(), strings.Join(or, " OR "))
		keys := map[string]key{}
		answers := s.hashes(ctx, ask, keys)
		if err := firstError(answers); err != nil {
			return nil, err
		}
		ids := map[string]string{}
		for id, k := range keys {
			ids[strings.Join(k, "\x00")] = id
		}
		for _, c := range some {
			id, anywhere := ids[strings.Join(c.key, "\x00")]
			if !c.see(s.sessions, func(i int) string {
				if !anywhere {
					return none
				}
				return answers[i].said[id]
			}) {
				left = append(left, c)
			}
		}
	}
	return left, nil
}

// judge proves that a row differs and reports it, or finds that it does not,
// or that nobody can tell.
func (s *scan) judge(ctx context.Context, c *suspect) error {
	read := func(ctx context.Context, m *session, lock string) (reading, error) {
		hashes := make([]string, len(s.columns))
		for i, col := range s.columns {
			hashes[i] = hash([]column{col})
		}
		rows, err := m.query(ctx, fmt.Sprintf("SELECT %s%s%s WHERE %s%s", hint, strings.Join(hashes, ", "), s.from(), s.condition(c.key), lock))
		if err != nil || len(rows) == 0 {
			return nil, err
		}
		return rows[0], nil
	}
	v, readings, err := s.proveSoon(ctx, thing{
		read: func(ctx context.Context, m *session) (reading, error) { return read(ctx, m, "") },
		hold: func(ctx context.Context, m *session) (reading, error) { return read(ctx, m, " FOR SHARE NOWAIT") },
	})
	switch {
	case err != nil:
		return err
	case v == differs:
		s.reportRow(c.key, readings)
	case v == unsure:
		// One more chance to be seen equal.
		if left, err := s.again(ctx, []*suspect{c}); err != nil || len(left) == 0 {
			return err
		}
		s.undecided++
		s.report.remark(Remark{
			Kind: Undecided, Subject: s.table.String(), SQL: s.look(c.key),
			Text: fmt.Sprintf("the row of %s with %s was never seen the same on all members, and changes too fast, or a member is too late, to prove a difference", s.table, s.condition(c.key)),
		})
	}
	return nil
}

// look is what a person runs on each member.
func (s *scan) look(k key) string {
	return "SELECT * FROM " + s.quoted() + " WHERE " + s.condition(k)
}

func (s *scan) reportRow(k key, readings []reading) {
	d := Difference{Kind: Row, Schema: s.schema, Table: s.table.name, Key: s.condition(k), SQL: s.look(k)}
	d.Members, d.Odd = s.values(readings)
	var absent, present []string
	for i, v := range readings {
		if v == nil {
			absent = append(absent, s.sessions[i].Name)
		} else {
			present = append(present, s.sessions[i].Name)
		}
	}
	for i, c := range s.columns {
		var first reading
		for _, v := range readings {
			if v == nil {
				continue
			}
			if first == nil {
				first = v
			} else if v[i] != first[i] {
				d.Columns = append(d.Columns, c.name)
				break
			}
		}
	}
	which := fmt.Sprintf("the row of %s with %s", s.table, d.Key)
	switch {
	case absent != nil && len(present) < len(absent):
		d.Text = fmt.Sprintf("%s is on %s only", which, strings.Join(present, ", "))
	case absent != nil:
		d.Text = fmt.Sprintf("%s is missing on %s", which, strings.Join(absent, ", "))
	default:
		d.Text = fmt.Sprintf("%s differs in %s: %s", which, strings.Join(d.Columns, ", "), oddly(d.Odd))
	}
	s.differs(d)
	if s.found++; s.found >= s.cfg.MaxRows {
		s.full = true
		s.report.remark(Remark{
			Kind: Incomplete, Subject: s.table.String(),
			Text: fmt.Sprintf("%d rows of %s differ up to %s; the rest of the table was not compared", s.found, s.table, d.Key),
		})
	}
}
