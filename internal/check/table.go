package check

import (
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// table is one table that something is wrong with.
type table struct {
	schema, name string
	engine       string
	options      string         // CREATE_OPTIONS
	keyed        bool           // it has a primary key, or a unique key that stands in for it
	counter      sql.NullString // its AUTO_INCREMENT column, asked only where it has no key
	rowID        bool           // it has a column my_row_id already, likewise
	partition    sql.NullString // the expressions it is partitioned by, likewise

	// perGroup is an AUTO_INCREMENT column that leads no key, asked only of
	// other engines than InnoDB: it counts anew for each value before it.
	perGroup sql.NullString
}

// String is how people write it.
func (t table) String() string { return t.schema + "." + t.name }

func (t table) quoted() string { return name(t.schema) + "." + name(t.name) }

// whyEngine says what the engine means for the repair.
func (t table) whyEngine() string {
	said := fmt.Sprintf("%s has engine %s: Group Replication takes only InnoDB, and refuses every write to the table", t, orNone(t.engine))
	switch strings.ToUpper(t.engine) {
	case "MEMORY":
		said += "; as InnoDB its rows survive a restart"
	case "BLACKHOLE":
		said += "; as InnoDB it keeps the rows it now throws away"
	case "MRG_MYISAM":
		said += "; as InnoDB it becomes a copy of the rows of the tables it merges, so a view over them may be what you want"
	case "FEDERATED":
		said += "; as InnoDB it becomes a copy of the remote rows"
	}
	if t.perGroup.Valid {
		said += fmt.Sprintf("; InnoDB will count %s over the whole table, not anew for each value of the columns before it in the key", t.perGroup.String)
	}
	return said
}

func orNone(engine string) string {
	if engine == "" {
		return "unknown"
	}
	return engine
}

func (t table) toInnoDB() string {
	repair := "ALTER TABLE " + t.quoted() + " ENGINE=InnoDB"
	// InnoDB refuses the one row format it does not have.
	if strings.Contains(strings.ToUpper(t.options), "ROW_FORMAT=FIXED") {
		repair += " ROW_FORMAT=DEFAULT"
	}
	if t.perGroup.Valid { // InnoDB wants a key that begins with its counter
		repair += fmt.Sprintf(", ADD KEY (%s)", name(t.perGroup.String))
	}
	return repair
}

// addKey says how the table gets a primary key. A counter that is there
// already becomes the key; else an invisible column is added, of the shape the
// server itself gives with sql_generate_invisible_primary_key, so that its
// tools know it for what it is. On a partitioned table the key must hold the
// columns of the partitioning.
func (t table) addKey() (said, repair string) {
	said = fmt.Sprintf("%s has no primary key, and no unique key over whole NOT NULL columns that could stand in for one: Group Replication refuses every write to it", t)
	more := partitionColumns(t.partition.String)
	if t.counter.Valid {
		said += fmt.Sprintf("; its AUTO_INCREMENT column %s can be the key, if no value is in it twice", t.counter.String)
		more = slices.DeleteFunc(more, func(c string) bool { return strings.EqualFold(c, t.counter.String) })
		repair = fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (%s)", t.quoted(), names(append([]string{t.counter.String}, more...)))
		return said + notNull(more), repair
	}
	column := "my_row_id"
	if t.rowID {
		column = "perdure_row_id"
	}
	said += "; an invisible column can be the key (with sql_generate_invisible_primary_key=ON the server adds one to every new table that lacks a key)"
	added := fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s BIGINT UNSIGNED NOT NULL AUTO_INCREMENT INVISIBLE", t.quoted(), name(column))
	if len(more) == 0 {
		return said, added + " PRIMARY KEY FIRST"
	}
	return said + notNull(more), added + fmt.Sprintf(" FIRST, ADD PRIMARY KEY (%s)", names(append([]string{column}, more...)))
}

func notNull(columns []string) string {
	if len(columns) == 0 {
		return ""
	}
	return fmt.Sprintf("; the key must hold what the table is partitioned by (%s), which cannot be NULL any more", strings.Join(columns, ", "))
}

func names(columns []string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = name(c)
	}
	return strings.Join(out, ", ")
}

var identifier = regexp.MustCompile("`(?:[^`]|``)+`")

// partitionColumns finds the columns in expressions such as year(`d`). The
// server always writes columns in backticks there.
func partitionColumns(expression string) []string {
	var out []string
	for _, q := range identifier.FindAllString(expression, -1) {
		c := strings.ReplaceAll(q[1:len(q)-1], "``", "`")
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

var encoded = regexp.MustCompile(`@[0-9a-fA-F]{4}`)

// tableOfFile reads the name of a tablespace, such as "shop/caf@00e9".
func tableOfFile(file string) (schema, name string, ok bool) {
	schema, name, ok = strings.Cut(file, "/")
	if !ok {
		return "", "", false
	}
	decode := func(s string) string {
		return encoded.ReplaceAllStringFunc(s, func(c string) string {
			n, err := strconv.ParseUint(c[1:], 16, 32)
			if err != nil || !utf8.ValidRune(rune(n)) {
				return c
			}
			return string(rune(n))
		})
	}
	return decode(schema), decode(name), true
}
