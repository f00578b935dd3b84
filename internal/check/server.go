package check

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/mysql"
)

// serverLimit bounds Server when its context has no deadline. It counts the
// tables of the server, which takes most of the time.
const serverLimit = 30 * time.Second

// Server looks at one server, in two round trips after the login. A server
// that is unfit is a finding, not an error; an error means that it could not
// be looked at. Facts are complete unless a finding says that the account may
// not read them.
func Server(ctx context.Context, s *mysql.Server) (Facts, []Finding, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, serverLimit, errors.New("the server did not answer within "+serverLimit.String()))
		defer cancel()
	}
	f := Facts{
		Member: s.Name(), Address: s.Address(),
		Variables: map[string]string{}, Sources: map[string]string{}, Persisted: map[string]string{}, Plugins: map[string]string{},
	}
	conn, err := s.DB().Conn(ctx)
	if err != nil {
		return f, nil, failed(ctx, s, "connect", err)
	}
	defer func() { _ = conn.Close() }()

	err = readWho(ctx, conn, &f)
	if f.VersionText != "" { // a foreign server stumbles over the rest of the question
		if unfit := version(f); unfit != nil {
			return f, []Finding{*unfit}, nil
		}
	}
	if err != nil {
		return f, nil, failed(ctx, s, "read its version and our grants", err)
	}
	if f.Version, err = mysql.ParseVersion(f.VersionText); err != nil {
		return f, nil, failed(ctx, s, "read its version", err)
	}
	f.Roles = parseGrants(f.GrantLines).roles
	err = readRest(ctx, conn, &f)
	lacks := grants(f)
	if err != nil && !(denied(err) && len(lacks) > 0) { // what may not be read has been named
		return f, lacks, failed(ctx, s, "read its settings", err)
	}
	return f, append(settings(f), lacks...), nil
}

func failed(ctx context.Context, s *mysql.Server, what string, err error) error {
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) {
		err = cause
	}
	return fmt.Errorf("%s (%s): %s: %w", s.Name(), s.Address(), what, err)
}

func denied(err error) bool {
	switch mysql.Number(err) {
	case 1142, 1143, 1227, 1044:
		return true
	}
	return false
}

// version refuses what is not a MySQL we can work with.
func version(f Facts) *Finding {
	v, err := mysql.ParseVersion(f.VersionText)
	text := ""
	switch {
	case err != nil:
		text = err.Error()
	case v.Compare(mysql.Oldest) < 0:
		text = fmt.Sprintf("the server is MySQL %s; Perdure needs %s or newer", v, mysql.Oldest)
	default:
		return nil
	}
	return &Finding{Member: f.Member, Kind: Version, Severity: Refuses, Subject: "version", Text: text}
}

// What any account may read comes first: whether the rest may be read depends
// on the grants.
const (
	askVersion = `SELECT CONCAT(@@version, ' ', @@version_comment);`
	askWho     = `SELECT @@server_uuid, @@server_id, @@gtid_executed, @@gtid_purged,
		CURRENT_USER(), CURRENT_ROLE(), (SELECT COUNT(*) FROM information_schema.routines
		 WHERE routine_schema = 'mysql' AND routine_name = 'rds_group_replication_start');`
	askGrants = `SHOW GRANTS`
)

func readWho(ctx context.Context, conn *sql.Conn, f *Facts) error {
	var executed, purged string
	var rds int
	err := each(ctx, conn, askVersion+askWho+askGrants,
		func(rows *sql.Rows) error { return rows.Scan(&f.VersionText) },
		func(rows *sql.Rows) error {
			return rows.Scan(&f.UUID, &f.ServerID, &executed, &purged, &f.Account, &f.ActiveRoles, &rds)
		},
		f.grantLine)
	if err != nil {
		return err
	}
	f.RDS = rds > 0
	if f.Executed, err = gtid.Parse(executed); err != nil {
		return err
	}
	f.Purged, err = gtid.Parse(purged)
	return err
}

func (f *Facts) grantLine(rows *sql.Rows) error {
	var line string
	if err := rows.Scan(&line); err != nil {
		return err
	}
	f.GrantLines = append(f.GrantLines, line)
	return nil
}

const (
	askVariables = `SELECT g.VARIABLE_NAME, COALESCE(g.VARIABLE_VALUE, ''), i.VARIABLE_SOURCE
		FROM performance_schema.global_variables g JOIN performance_schema.variables_info i ON i.VARIABLE_NAME = g.VARIABLE_NAME
		WHERE LEFT(g.VARIABLE_NAME, 18) = 'group_replication_' OR g.VARIABLE_NAME IN (`
	askPersisted = `SELECT VARIABLE_NAME, COALESCE(VARIABLE_VALUE, '') FROM performance_schema.persisted_variables;`
	askPlugins   = `SELECT PLUGIN_NAME, PLUGIN_STATUS FROM information_schema.plugins WHERE PLUGIN_NAME IN ('group_replication', 'clone');`
	askCounts    = `SELECT COUNT(DISTINCT TABLE_SCHEMA), COUNT(*) FROM information_schema.tables
		WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ` + systemSchemas + `;`
	askState = `SELECT MEMBER_STATE FROM performance_schema.replication_group_members WHERE MEMBER_ID = @@server_uuid`
)

// systemSchemas are not the user's: no row of theirs is ever certified.
const systemSchemas = `('mysql', 'information_schema', 'performance_schema', 'sys')`

func readRest(ctx context.Context, conn *sql.Conn, f *Facts) error {
	variable := func(rows *sql.Rows) error {
		var name, value, source string
		if err := rows.Scan(&name, &value, &source); err != nil {
			return err
		}
		f.Variables[name], f.Sources[name] = value, source
		return nil
	}
	pair := func(into map[string]string) func(*sql.Rows) error {
		return func(rows *sql.Rows) error {
			var name, value string
			if err := rows.Scan(&name, &value); err != nil {
				return err
			}
			into[name] = value
			return nil
		}
	}
	return each(ctx, conn, askVariables+quoted(judged())+");"+askPersisted+askPlugins+askCounts+askState,
		variable, pair(f.Persisted), pair(f.Plugins),
		func(rows *sql.Rows) error { return rows.Scan(&f.Schemas, &f.Tables) },
		func(rows *sql.Rows) error { return rows.Scan(&f.State) })
}

// each runs several statements in one round trip and hands every row of the
// n-th to scan[n].
func each(ctx context.Context, conn *sql.Conn, query string, scan ...func(*sql.Rows) error) error {
	rows, err := conn.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for _, one := range scan {
		for rows.Next() {
			if err := one(rows); err != nil {
				return err
			}
		}
		if !rows.NextResultSet() {
			break
		}
	}
	return rows.Err()
}
