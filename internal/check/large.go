package check

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// large warns of tables of which one statement can be more than the group
// takes in one transaction. Only what lies in a file of its own is seen. The
// file is a rough measure: it holds indexes too, and room left by old rows.
func (w *walk) large(ctx context.Context) error {
	limit := int64(defaultTransactionLimit)
	err := w.conn.QueryRowContext(ctx, `SELECT VARIABLE_VALUE FROM performance_schema.global_variables
		WHERE VARIABLE_NAME = 'group_replication_transaction_size_limit'`).Scan(&limit)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if limit == 0 {
		return nil // unlimited
	}
	err = w.each(ctx, fmt.Sprintf(askLarge, limit), func(rows *sql.Rows) error {
		var file string
		var size int64
		if err := rows.Scan(&file, &size); err != nil {
			return err
		}
		schema, name, ok := tableOfFile(file)
		if !ok {
			return nil
		}
		t := table{schema: schema, name: name}
		return w.found(LargeTable, Warns, t.String(), fmt.Sprintf(
			"%s takes %s on disk and a transaction may be %s (group_replication_transaction_size_limit): one UPDATE, DELETE or INSERT … SELECT over all its rows would be refused; do such work in portions",
			t, bytes(size), bytes(limit)), "")
	})
	if denied(err) && w.stopped == nil {
		return nil // sight names the missing PROCESS
	}
	return err
}

// defaultTransactionLimit is Group Replication's own, for servers that do not
// have the plugin yet.
const defaultTransactionLimit = 150_000_000

// A partitioned table is many files; what counts is their sum. System schemas
// have no files of their own but mysql, sys and the undo logs.
const askLarge = `SELECT SUBSTRING_INDEX(SUBSTRING_INDEX(NAME, '#p#', 1), '#P#', 1) AS file, SUM(FILE_SIZE) AS size
	FROM information_schema.innodb_tablespaces
	WHERE SPACE_TYPE = 'Single' AND NAME LIKE '%%/%%' AND NAME NOT LIKE 'mysql/%%' AND NAME NOT LIKE 'sys/%%'
	GROUP BY file HAVING size > %d`

func bytes(n int64) string {
	switch {
	case n >= 1<<40:
		return fmt.Sprintf("%.1f TiB", float64(n)/(1<<40))
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}
