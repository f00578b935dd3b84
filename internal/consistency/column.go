package consistency

import (
	"fmt"
	"slices"
	"strings"
)

// column is one stored column of a table.
type column struct {
	name     string
	kind     string // DATA_TYPE: int, varchar, …
	full     string // COLUMN_TYPE: enum('a','b')
	charset  string // "" if it has none
	octets   uint64 // how long a string can be, in bytes
	nullable bool
}

// Strings up to this size are hashed with their row. Longer ones are hashed by
// themselves first: a row is then never larger than max_allowed_packet, beyond
// which the server would make NULL of it, and hide every difference.
const inlineOctets = 1024

// exprs are SQL expressions whose texts, parted by commas, say exactly which
// value a column has: no two values have the same texts, on any member, in any
// session.
func (c column) exprs() []string {
	q := name(c.name)
	switch {
	case slices.Contains([]string{"float", "double"}, c.kind):
		return c.orNull(q + "+0e0") // a FLOAT by itself prints six digits only
	case slices.Contains([]string{"bit", "enum", "set"}, c.kind):
		return c.orNull("CAST(" + q + " AS UNSIGNED)")
	case !c.isString():
		return c.orNull(q) // digits and points; times are in UTC in our sessions
	case c.octets > inlineOctets || c.octets == 0:
		return c.orNull("SHA2(" + q + ",256)")
	}
	// The length first: no comma in a string can be taken for ours.
	return append(c.orNull("LENGTH("+q+")"), c.orNull("CAST("+q+" AS BINARY)")...)
}

// orNull tells NULL from the empty string; no text of a value begins with N
// where this is used, but strings, and those have their length before them.
func (c column) orNull(expr string) []string {
	if c.nullable {
		expr = "COALESCE(" + expr + ",'N')"
	}
	return []string{expr}
}

// isString tells whether the values are bytes rather than numbers or times.
// What we do not know is: the hash of bytes is always right.
func (c column) isString() bool {
	return !slices.Contains([]string{
		"tinyint", "smallint", "mediumint", "int", "bigint", "decimal", "numeric",
		"date", "datetime", "timestamp", "time", "year",
	}, c.kind)
}

// hash is the SQL expression for the hash of these columns.
func hash(columns []column) string {
	var all []string
	for _, c := range columns {
		all = append(all, c.exprs()...)
	}
	return "SHA2(CONCAT_WS(','," + strings.Join(all, ",") + "),256)"
}

// name writes an identifier.
func name(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }

// text writes a string literal, for names and the like.
func text(s string) string {
	if strings.ContainsAny(s, `\'`) {
		return fmt.Sprintf("_utf8mb4 x'%x'", s)
	}
	return "'" + s + "'"
}
