package check

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// foreignKey is one that changes rows of its table by itself.
type foreignKey struct {
	child, parent    table
	name             string
	onDelete, onEdit string
	orphan           bool // the parent does not exist
	columns, refers  []string
}

// askForeignKeys lists the columns of every foreign key with an action. What
// multi-primary groups refuse was tried out: CASCADE, SET NULL and SET DEFAULT,
// on DELETE or UPDATE, even if the parent does not exist. RESTRICT and NO
// ACTION pass. Sorted by the server, which holds only these few.
const askForeignKeys = `SELECT r.CONSTRAINT_SCHEMA, r.TABLE_NAME, r.CONSTRAINT_NAME,
		r.UNIQUE_CONSTRAINT_SCHEMA, r.REFERENCED_TABLE_NAME, r.DELETE_RULE, r.UPDATE_RULE, r.UNIQUE_CONSTRAINT_NAME IS NULL,
		k.COLUMN_NAME, k.REFERENCED_COLUMN_NAME
	FROM information_schema.referential_constraints r
	JOIN information_schema.key_column_usage k ON k.CONSTRAINT_SCHEMA = r.CONSTRAINT_SCHEMA
		AND k.TABLE_NAME = r.TABLE_NAME AND k.CONSTRAINT_NAME = r.CONSTRAINT_NAME AND k.REFERENCED_TABLE_NAME IS NOT NULL
	WHERE r.CONSTRAINT_SCHEMA NOT IN ` + systemSchemas + `
		AND (r.DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION') OR r.UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION'))
	ORDER BY r.CONSTRAINT_SCHEMA, r.TABLE_NAME, r.CONSTRAINT_NAME, k.ORDINAL_POSITION`

func (w *walk) foreignKeys(ctx context.Context) error {
	var k foreignKey
	flush := func() error {
		if k.name == "" {
			return nil
		}
		return w.found(ForeignKey, Refuses, k.child.String(), k.why(), k.repair())
	}
	err := w.each(ctx, askForeignKeys, func(rows *sql.Rows) error {
		var next foreignKey
		var column, refers string
		if err := rows.Scan(&next.child.schema, &next.child.name, &next.name, &next.parent.schema, &next.parent.name,
			&next.onDelete, &next.onEdit, &next.orphan, &column, &refers); err != nil {
			return err
		}
		if next.child.String() != k.child.String() || next.name != k.name {
			if err := flush(); err != nil {
				return err
			}
			k = next
		}
		k.columns, k.refers = append(k.columns, column), append(k.refers, refers)
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

func (k foreignKey) why() string {
	var actions []string
	if acts(k.onDelete) {
		actions = append(actions, "ON DELETE "+k.onDelete)
	}
	if acts(k.onEdit) {
		actions = append(actions, "ON UPDATE "+k.onEdit)
	}
	said := fmt.Sprintf("%s has the foreign key %s to %s %s: conflicts of rows changed that way cannot be found, so a multi-primary group refuses every write to the table",
		k.child, k.name, k.parent, strings.Join(actions, " "))
	if k.orphan {
		return said + "; the table it refers to does not exist"
	}
	return said + fmt.Sprintf(", and UPDATE and DELETE on %s with it; without the action the application changes those rows itself", k.parent)
}

func acts(rule string) bool { return rule != "RESTRICT" && rule != "NO ACTION" }

// repair replaces the key by one that only checks. The server takes the same
// name only in a second statement.
func (k foreignKey) repair() string {
	drop := fmt.Sprintf("ALTER TABLE %s DROP FOREIGN KEY %s", k.child.quoted(), name(k.name))
	if k.orphan {
		return drop
	}
	return drop + fmt.Sprintf("; ALTER TABLE %s ADD CONSTRAINT %s FOREIGN KEY (%s) REFERENCES %s (%s)",
		k.child.quoted(), name(k.name), names(k.columns), k.parent.quoted(), names(k.refers))
}
