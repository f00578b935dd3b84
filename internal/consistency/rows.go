package consistency

import (
	"context"
	"fmt"
	"strings"
)

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
