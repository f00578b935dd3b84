package consistency

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// part is one column of the key a table is walked along.
type part struct {
	column
	desc   bool     // the index has it in descending order
	labels []string // of an ENUM, as literals, in the order of the index
}

// key is the place of a row in its table: a value for each part, as it is
// written in SQL. It can be saved and used by other sessions. nil is before the
// first row, or behind the last.
type key []string

// expr reads the value of the part in a form that literal understands.
func (p part) expr() string {
	q := name(p.name)
	switch {
	case slices.Contains([]string{"float", "double"}, p.kind):
		return q + "+0e0"
	case slices.Contains([]string{"bit", "enum"}, p.kind):
		return "CAST(" + q + " AS UNSIGNED)"
	case p.isString():
		return "HEX(" + q + ")"
	}
	return "CAST(" + q + " AS CHAR)" // or the driver would make a time of a time
}

// literal makes a literal of what expr read.
func (p part) literal(read string) (string, error) {
	switch {
	case slices.Contains([]string{"float", "double"}, p.kind):
		if !strings.Contains(read, "e") {
			read += "e0" // or it would be a DECIMAL
		}
		return read, nil
	case slices.Contains([]string{"date", "datetime", "timestamp", "time"}, p.kind):
		return "'" + read + "'", nil
	case !p.isString() || slices.Contains([]string{"bit", "enum"}, p.kind):
		return read, nil
	}
	b, err := hex.DecodeString(read)
	if err != nil {
		return "", fmt.Errorf("read column %s: %w", p.name, err)
	}
	wide := strings.HasPrefix(p.charset, "utf16") || p.charset == "utf32" || p.charset == "ucs2"
	switch {
	case p.charset == "":
		return "x'" + read + "'", nil
	case !wide && plain(b):
		return "'" + string(b) + "'", nil
	}
	return "_" + p.charset + " x'" + read + "'", nil
}

// plain tells whether bytes can stand in a literal as they are.
func plain(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' || c == '\'' || c == '\\' {
			return false
		}
	}
	return true
}

func (p part) equal(v string) string {
	if p.kind == "enum" {
		if i, err := strconv.Atoi(v); err == nil && i >= 1 && i <= len(p.labels) {
			v = p.labels[i-1]
		}
	}
	return name(p.name) + " = " + v
}

// beyond is the condition for values behind v in the index, before for those
// in front of it. The server has no ranges over ENUM, whose order is that of
// its labels: there both are lists.
func (p part) beyond(v string) string { return p.side(v, !p.desc) }
func (p part) before(v string) string { return p.side(v, p.desc) }

func (p part) side(v string, greater bool) string {
	if p.kind != "enum" {
		if greater {
			return name(p.name) + " > " + v
		}
		return name(p.name) + " < " + v
	}
	i, err := strconv.Atoi(v)
	if err != nil || i < 0 || i > len(p.labels) {
		return "FALSE"
	}
	labels := p.labels[:max(0, i-1)]
	if greater {
		labels = p.labels[i:]
	}
	if len(labels) == 0 {
		return "FALSE"
	}
	return name(p.name) + " IN (" + strings.Join(labels, ", ") + ")"
}

// after is the condition for rows behind k, as an OR of ANDs: the server makes
// ranges of the index of that, which it does not of (a, b) > (1, 2).
func (t *table) after(k key) string { return t.beside(k, part.beyond, false) }

// upTo is the condition for k and the rows in front of it.
func (t *table) upTo(k key) string { return t.beside(k, part.before, true) }

func (t *table) beside(k key, side func(part, string) string, self bool) string {
	var or []string
	for i, p := range t.key {
		or = append(or, "("+t.join(k[:i], side(p, k[i]))+")")
	}
	if self {
		or = append(or, "("+t.join(k)+")")
	}
	return "(" + strings.Join(or, " OR ") + ")"
}

// condition finds the row k.
func (t *table) condition(k key) string { return t.join(k) }

func (t *table) join(k key, more ...string) string {
	var and []string
	for i, v := range k {
		and = append(and, t.key[i].equal(v))
	}
	return strings.Join(append(and, more...), " AND ")
}

// within is the WHERE clause for the rows behind from, up to and with to.
func (t *table) within(from, to key) string {
	var and []string
	if from != nil {
		and = append(and, t.after(from))
	}
	if to != nil {
		and = append(and, t.upTo(to))
	}
	if and == nil {
		return ""
	}
	return " WHERE " + strings.Join(and, " AND ")
}

// inOrder is the ORDER BY clause that follows the index.
func (t *table) inOrder() string {
	parts := make([]string, len(t.key))
	for i, p := range t.key {
		if parts[i] = name(p.name); p.desc {
			parts[i] += " DESC"
		}
	}
	return " ORDER BY " + strings.Join(parts, ", ")
}

// keyExprs are the expressions that scanKey takes.
func (t *table) keyExprs() string {
	parts := make([]string, len(t.key))
	for i, p := range t.key {
		parts[i] = p.expr()
	}
	return strings.Join(parts, ", ")
}

func (t *table) scanKey(row []string) (key, error) {
	k := make(key, len(t.key))
	for i, p := range t.key {
		v, err := p.literal(row[i])
		if err != nil {
			return nil, err
		}
		k[i] = v
	}
	return k, nil
}

// labelsOf reads the labels of a COLUMN_TYPE such as enum('a','it”s').
func labelsOf(full string) ([]string, error) {
	list, ok := strings.CutSuffix(strings.TrimPrefix(full, "enum("), ")")
	if !ok {
		return nil, errors.New("not an ENUM: " + full)
	}
	var out []string
	for len(list) > 0 {
		var label strings.Builder
		i := 1
		for ; i < len(list); i++ {
			if list[i] != '\'' {
				label.WriteByte(list[i])
			} else if i+1 < len(list) && list[i+1] == '\'' {
				label.WriteByte('\'')
				i++
			} else {
				break
			}
		}
		out = append(out, text(label.String()))
		list = strings.TrimPrefix(list[min(i+1, len(list)):], ",")
	}
	return out, nil
}
