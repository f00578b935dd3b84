package consistency

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/perdure/perdure/internal/pause"
)

// tableName is a table that at least one member has.
type tableName struct{ schema, name string }

func (t tableName) String() string { return t.schema + "." + t.name }

func (t tableName) quoted() string { return name(t.schema) + "." + name(t.name) }

// list reads the tables of all members that are in scope, in order of their
// names. The list of names is all an audit keeps of a schema.
func (r *run) list(ctx context.Context) ([]tableName, error) {
	const ask = `SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.tables WHERE TABLE_TYPE = 'BASE TABLE'
		AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')`
	all := map[tableName]bool{}
	answers := each(ctx, r.sessions, func(ctx context.Context, s *session) ([][]string, error) { return s.query(ctx, ask) })
	if err := firstError(answers); err != nil {
		return nil, err
	}
	for _, a := range answers {
		for _, row := range a.said {
			if t := (tableName{row[0], row[1]}); r.scope.has(t) {
				all[t] = true
			}
		}
	}
	out := make([]tableName, 0, len(all))
	for t := range all {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b tableName) int { return strings.Compare(a.String(), b.String()) })
	return out, nil
}

// has tells whether a table is to be compared.
func (s Scope) has(t tableName) bool {
	if slices.Contains(s.Exclude, t.schema) || slices.Contains(s.Exclude, t.String()) {
		return false
	}
	if len(s.Schemas) == 0 && len(s.Tables) == 0 {
		return true
	}
	return slices.Contains(s.Schemas, t.schema) || slices.Contains(s.Tables, t.String())
}

// counter is where a table stands with its AUTO_INCREMENT values; members of a
// group differ there, for each hands out its own.
var counter = regexp.MustCompile(`(?m)^(\).*?) AUTO_INCREMENT=[0-9]+`)

// definition reads how the server writes a table, without its counter.
func definition(ctx context.Context, s *session, t interface{ quoted() string }) (string, error) {
	rows, err := s.query(ctx, "SHOW CREATE TABLE "+t.quoted())
	if err != nil {
		return "", err
	}
	return counter.ReplaceAllString(rows[0][1], "$1"), nil
}

// sameDefinition tells whether the members define a table alike, and reports
// it if they do not. It also tells whether it is there at all.
func (r *run) sameDefinition(ctx context.Context, t tableName) (alike, exists bool, err error) {
	th := thing{read: func(ctx context.Context, s *session) (reading, error) {
		d, err := definition(ctx, s, t)
		if missing(err) {
			return nil, nil
		}
		return reading{d}, err
	}}
	th.hold = func(ctx context.Context, s *session) (reading, error) {
		// A table in use by a transaction keeps its definition until that ends.
		if err := s.exec(ctx, "SELECT 1 FROM "+t.quoted()+" LIMIT 0"); err != nil {
			return nil, err
		}
		return th.read(ctx, s)
	}
	for look := range 4 {
		if look > 0 {
			if err := pause.For(ctx, r.cfg.Patience/3); err != nil {
				return false, false, err
			}
			if _, err := r.align(ctx, 2*holdLimit); err != nil && ctx.Err() != nil {
				return false, false, err
			}
		}
		found := each(ctx, r.sessions, th.read)
		if err := firstError(found); err != nil {
			return false, false, err
		}
		alike, exists = true, false
		for _, a := range found {
			alike = alike && a.said.equal(found[0].said)
			exists = exists || a.said != nil
		}
		if alike {
			return true, exists, nil
		}
	}
	v, readings, err := r.proveSoon(ctx, th)
	switch {
	case err != nil:
		return false, true, err
	case v == differs:
		r.reportDefinition(t, readings)
	case v == unsure:
		r.report.remark(Remark{Kind: Undecided, Subject: t.String(), Text: t.String() + " is not defined alike on all members, and it could not be proved that this is not a change on its way"})
	case v == same:
		return true, true, nil // a member that dropped it meanwhile is found at the next statement
	}
	return false, true, nil
}

func (r *run) reportDefinition(t tableName, readings []reading) {
	d := Difference{Kind: Definition, Schema: t.schema, Table: t.name, SQL: "SHOW CREATE TABLE " + t.quoted()}
	d.Members, d.Odd = r.values(readings)
	var absent []string
	for i, v := range readings {
		if v == nil {
			absent = append(absent, r.sessions[i].Name)
		}
	}
	if absent != nil {
		d.Kind = Table
		d.Text = fmt.Sprintf("table %s is missing on %s", t, strings.Join(absent, ", "))
	} else {
		a, b := firstDifferent(readings)
		d.Text = fmt.Sprintf("table %s is not defined alike: %s; one has %q where another has %q", t, oddly(d.Odd), a, b)
	}
	r.differs(d)
}

// firstDifferent finds the first line in which two definitions differ.
func firstDifferent(readings []reading) (a, b string) {
	for _, v := range readings[1:] {
		if v.equal(readings[0]) {
			continue
		}
		x, y := strings.Split(readings[0][0], "\n"), strings.Split(v[0], "\n")
		for i := range max(len(x), len(y)) {
			if a, b = line(x, i), line(y, i); a != b {
				return a, b
			}
		}
	}
	return "", ""
}

func line(lines []string, i int) string {
	if i >= len(lines) {
		return ""
	}
	return strings.Trim(lines[i], " ,")
}
