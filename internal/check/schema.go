package check

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/topology"
)

// Schema walks over all tables of users and yields a finding for each reason
// for which a group in that mode would refuse writes to one, with the SQL that
// repairs it. A table with two faults is two findings; repaired in the order
// they come, no repair is in the way of the next. It returns the number of
// tables it looked at. An error of yield ends the walk and is returned as it
// is.
//
// Views, temporary tables and the server's own schemas are none of its
// business, nor are events, triggers and routines: they run as ordinary
// statements and are refused only for the tables they write. A statement can
// also be refused for a table it touches without naming it, such as the parent
// of a cascading foreign key; the finding is about the table that is to be
// repaired.
//
// It needs a right that shows definitions (REFERENCES on *.*, see Grants), and
// PROCESS to know how large tables are; without, the first finding says what it
// could not see. Memory does not grow with the number of tables.
func Schema(ctx context.Context, s *mysql.Server, mode topology.Mode, yield func(Finding) error) (tables int, err error) {
	conn, err := s.DB().Conn(ctx)
	if err != nil {
		return 0, failed(ctx, s, "connect", err)
	}
	defer func() { _ = conn.Close() }()
	w := walk{member: s.Name(), conn: conn, yield: yield}
	if err := w.all(ctx, mode); err != nil {
		if w.stopped != nil {
			return w.tables, w.stopped
		}
		return w.tables, failed(ctx, s, "read its tables", err)
	}
	return w.tables, nil
}

// walk is one run of Schema.
type walk struct {
	member  string
	conn    *sql.Conn
	yield   func(Finding) error
	stopped error // what yield returned
	tables  int
}

func (w *walk) all(ctx context.Context, mode topology.Mode) error {
	// A server can be told to hide invisible primary keys it made itself; then
	// their tables would look as if they had none. And its own limit on
	// statements, meant for applications, must not cut the walk short: ctx does.
	if _, err := w.conn.ExecContext(ctx, "SET SESSION show_gipk_in_create_table_and_information_schema = ON, SESSION max_execution_time = 0"); err != nil {
		return err
	}
	if err := w.sight(ctx); err != nil {
		return err
	}
	if err := w.conn.QueryRowContext(ctx, countTables).Scan(&w.tables); err != nil {
		return err
	}
	if err := w.each(ctx, askTables, w.table); err != nil {
		return err
	}
	if mode != topology.SinglePrimary {
		if err := w.foreignKeys(ctx); err != nil {
			return err
		}
	}
	return w.large(ctx)
}

func (w *walk) each(ctx context.Context, query string, row func(*sql.Rows) error) error {
	rows, err := w.conn.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (w *walk) found(kind string, severity Severity, subject, said, repair string) error {
	err := w.yield(Finding{Member: w.member, Kind: kind, Severity: severity, Subject: subject, Text: said, SQL: repair})
	w.stopped = err
	return err
}

// sight says what the account cannot see. The server does not: tables without
// rights on them are simply not there, and a check that saw nothing must not
// look like one that found nothing.
func (w *walk) sight(ctx context.Context) error {
	f := Facts{Member: w.member}
	err := each(ctx, w.conn, `SELECT CURRENT_USER(), CURRENT_ROLE();`+askGrants,
		func(rows *sql.Rows) error { return rows.Scan(&f.Account, &f.ActiveRoles) }, f.grantLine)
	if err != nil {
		return err
	}
	for _, lacks := range missing(f, sightNeeds) {
		if err := w.found(lacks.Kind, lacks.Severity, lacks.Subject, lacks.Text, lacks.SQL); err != nil {
			return err
		}
	}
	for _, schema := range parseGrants(f.GrantLines).hidden() {
		if err := w.found(Grant, Refuses, schema, fmt.Sprintf("the account %s cannot see the tables of %s, for its rights there were revoked; they were not checked", f.Account, schema), ""); err != nil {
			return err
		}
	}
	return nil
}

const countTables = `SELECT COUNT(*) FROM information_schema.tables
	WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ` + systemSchemas

// askTables filters first and asks for details of what is left.
//
// COLUMN_KEY is 'PRI' exactly where Group Replication sees a primary key: also
// for the unique key the server takes instead of one, and not for unique keys
// that cannot stand in (a nullable, functional or virtual part, or a prefix).
//
// Merge tables come first: once a table they merge is no longer MyISAM, they
// cannot be opened, and so not be repaired.
//
// How to ask was measured, on MySQL 9.7.4 with 20,047 tables in 21 schemas, 10
// columns each, 2 busy cores, everything cached:
//
//	tables, NOT EXISTS a PRI column (this one)    0.28 s
//	tables LEFT JOIN columns, grouped             1.36 s
//	columns, grouped by table                     0.76 s
//	tables, with DATA_LENGTH                      4.9  s  opens every table
//	innodb_indexes, name GEN_CLUST_INDEX          9.1  s  opens every table
//	innodb_tablespaces, for sizes                 0.14 s
//	referential_constraints                       0.02 s
//
// Schema as a whole, with 20,000 tables and a load of 8 on those cores: 0.6 to
// 1.1 s, and 2.8 s right after the server's start.
const askTables = `SELECT p.TABLE_SCHEMA, p.TABLE_NAME, p.ENGINE, p.CREATE_OPTIONS, p.keyed,
	IF(p.keyed, NULL, (SELECT MAX(c.COLUMN_NAME) FROM information_schema.columns c
		WHERE c.TABLE_SCHEMA = p.TABLE_SCHEMA AND c.TABLE_NAME = p.TABLE_NAME AND c.EXTRA LIKE '%auto_increment%')),
	IF(p.keyed, 0, EXISTS (SELECT 1 FROM information_schema.columns c
		WHERE c.TABLE_SCHEMA = p.TABLE_SCHEMA AND c.TABLE_NAME = p.TABLE_NAME AND c.COLUMN_NAME = 'my_row_id')),
	IF(p.keyed OR p.CREATE_OPTIONS NOT LIKE '%partitioned%', NULL,
		(SELECT CONCAT_WS(' ', MAX(x.PARTITION_EXPRESSION), MAX(x.SUBPARTITION_EXPRESSION)) FROM information_schema.partitions x
		WHERE x.TABLE_SCHEMA = p.TABLE_SCHEMA AND x.TABLE_NAME = p.TABLE_NAME)),
	IF(p.ENGINE = 'InnoDB', NULL, (SELECT MAX(c.COLUMN_NAME) FROM information_schema.columns c
		WHERE c.TABLE_SCHEMA = p.TABLE_SCHEMA AND c.TABLE_NAME = p.TABLE_NAME AND c.EXTRA LIKE '%auto_increment%'
		AND NOT EXISTS (SELECT 1 FROM information_schema.statistics s WHERE s.TABLE_SCHEMA = c.TABLE_SCHEMA
			AND s.TABLE_NAME = c.TABLE_NAME AND s.COLUMN_NAME = c.COLUMN_NAME AND s.SEQ_IN_INDEX = 1)))
	FROM (SELECT t.TABLE_SCHEMA, t.TABLE_NAME, COALESCE(t.ENGINE, '') AS ENGINE, COALESCE(t.CREATE_OPTIONS, '') AS CREATE_OPTIONS,
			EXISTS (SELECT 1 FROM information_schema.columns c
				WHERE c.TABLE_SCHEMA = t.TABLE_SCHEMA AND c.TABLE_NAME = t.TABLE_NAME AND c.COLUMN_KEY = 'PRI') AS keyed
		FROM information_schema.tables t
		WHERE t.TABLE_TYPE = 'BASE TABLE' AND t.TABLE_SCHEMA NOT IN ` + systemSchemas + `
		HAVING ENGINE <> 'InnoDB' OR NOT keyed) p
	ORDER BY p.ENGINE <> 'MRG_MYISAM', p.TABLE_SCHEMA, p.TABLE_NAME`

func (w *walk) table(rows *sql.Rows) error {
	var t table
	if err := rows.Scan(&t.schema, &t.name, &t.engine, &t.options, &t.keyed, &t.counter, &t.rowID, &t.partition, &t.perGroup); err != nil {
		return err
	}
	if !strings.EqualFold(t.engine, "InnoDB") {
		if err := w.found(Engine, Refuses, t.String(), t.whyEngine(), t.toInnoDB()); err != nil {
			return err
		}
	}
	if t.keyed {
		return nil
	}
	said, repair := t.addKey()
	return w.found(NoPrimaryKey, Refuses, t.String(), said, repair)
}
