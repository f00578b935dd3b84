package consistency

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// table is what has to be known of a table to compare it.
type table struct {
	schema, name string
	columns      []column
	index        string // walked along, unique and NOT NULL
	key          []part
	definition   string // as the server writes it, without its counter
}

// String is how people write it.
func (t *table) String() string { return t.schema + "." + t.name }

func (t *table) quoted() string { return name(t.schema) + "." + name(t.name) }

// from is the FROM clause. The index is forced: the server might think that
// another one, or none, is faster for a slice.
func (t *table) from() string { return " FROM " + t.quoted() + " FORCE INDEX (" + name(t.index) + ")" }

// describe reads what has to be known, and says why a table cannot be compared.
func describe(ctx context.Context, s *session, schema, tableName string) (t *table, why string, err error) {
	t = &table{schema: schema, name: tableName}
	if t.definition, err = definition(ctx, s, t); err != nil {
		return nil, "", err
	}
	where := " WHERE TABLE_SCHEMA = " + text(schema) + " AND TABLE_NAME = " + text(tableName)
	rows, err := s.query(ctx, `SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, CHARACTER_OCTET_LENGTH,
		IS_NULLABLE, EXTRA FROM information_schema.columns`+where+" ORDER BY ORDINAL_POSITION")
	if err != nil {
		return nil, "", err
	}
	for _, r := range rows {
		if strings.Contains(r[6], "VIRTUAL GENERATED") {
			continue
		}
		octets, _ := strconv.ParseUint(r[4], 10, 64) // NULL where it has no meaning
		charset := r[3]
		if charset == "binary" {
			charset = ""
		}
		t.columns = append(t.columns, column{
			name: r[0], kind: strings.ToLower(r[1]), full: r[2], charset: charset, octets: octets, nullable: r[5] == "YES",
		})
	}
	if !strings.Contains(t.definition, "ENGINE=InnoDB") {
		return t, "its engine is not InnoDB: it has no snapshots, and a group does not replicate it", nil
	}
	if err := t.chooseKey(ctx, s, where); err != nil {
		return nil, "", err
	}
	if t.key == nil {
		return t, "it has no primary key, and no unique key over whole NOT NULL columns, along which it could be compared", nil
	}
	return t, "", nil
}

// chooseKey takes the primary key, or else a unique key that can stand in.
func (t *table) chooseKey(ctx context.Context, s *session, where string) error {
	rows, err := s.query(ctx, `SELECT INDEX_NAME, COLUMN_NAME, COALESCE(COLLATION, 'A'), SUB_PART IS NOT NULL OR EXPRESSION IS NOT NULL
		OR NULLABLE = 'YES' OR (IS_VISIBLE = 'NO' AND INDEX_NAME <> 'PRIMARY')
		FROM information_schema.statistics`+where+` AND NON_UNIQUE = 0 ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX`)
	if err != nil {
		return err
	}
	unfit := map[string]bool{}
	parts := map[string][]part{}
	var order []string
	for _, r := range rows {
		i := slices.IndexFunc(t.columns, func(c column) bool { return c.name == r[1] })
		if !slices.Contains(order, r[0]) {
			order = append(order, r[0])
		}
		if r[3] == "1" || i < 0 || t.columns[i].kind == "set" {
			unfit[r[0]] = true
			continue
		}
		p := part{column: t.columns[i], desc: r[2] == "D"}
		if p.kind == "enum" {
			if p.labels, err = labelsOf(p.full); err != nil {
				return fmt.Errorf("%s.%s: %w", t, p.name, err)
			}
		}
		parts[r[0]] = append(parts[r[0]], p)
	}
	for _, index := range order {
		if !unfit[index] {
			t.index, t.key = index, parts[index]
			return nil
		}
	}
	return nil
}
