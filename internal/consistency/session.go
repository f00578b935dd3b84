package consistency

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/topology"
)

// Limits of statements. The server ends a statement that takes longer than
// sliceLimit by itself; callLimit is for servers that do not answer at all.
const (
	sliceLimit = 2 * time.Second
	listLimit  = 60 * time.Second
	callLimit  = 15 * time.Second
)

// session is our one connection to a member. It is used by one goroutine at a
// time.
type session struct {
	topology.Instance
	server *mysql.Server
	conn   *sql.Conn // nil while there is none
	epoch  int       // grows with each connection
}

// sameText makes every value read the same in each session, whatever the
// server's own settings are, keeps reads from waiting for the group or for
// locks, and makes a locking read lock what it finds and no gaps.
const sameText = `SET SESSION time_zone = '+00:00', sql_mode = '', transaction_isolation = 'READ-COMMITTED',
	autocommit = ON, sql_select_limit = DEFAULT, sql_quote_show_create = ON,
	lock_wait_timeout = 1, innodb_lock_wait_timeout = 1`

// What not every server knows. Only those from 8.0.30 on make invisible primary
// keys, and can hide them.
const (
	noWaiting = `SET SESSION group_replication_consistency = 'EVENTUAL'`
	showKeys  = `SET SESSION show_gipk_in_create_table_and_information_schema = ON`
)

// ready makes sure that there is a connection.
func (s *session) ready(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callLimit, errSilent)
	defer cancel()
	conn, err := s.server.DB().Conn(ctx)
	if err != nil {
		return s.wrap(ctx, err)
	}
	set := []string{noWaiting, showKeys, sameText, fmt.Sprintf("SET SESSION max_execution_time = %d", listLimit.Milliseconds())}
	for i, q := range set {
		if _, err := conn.ExecContext(ctx, q); err != nil && (i > 1 || !number(err, 1193)) {
			_ = conn.Close()
			return s.wrap(ctx, err)
		}
	}
	s.conn = conn
	s.epoch++
	return nil
}

var errSilent = errors.New("the server did not answer within " + callLimit.String())

// errGone says that the connection broke. What was open in it is gone.
var errGone = errors.New("the connection is gone")

// query runs a statement and returns its few rows as text; NULL is "". It does
// not connect: a transaction must not go on in another session unnoticed.
func (s *session) query(ctx context.Context, q string) ([][]string, error) {
	if s.conn == nil {
		return nil, s.wrap(ctx, errGone)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, max(callLimit, s.limitOf(q)), errSilent)
	defer cancel()
	out, err := s.rows(ctx, q)
	if err != nil && mysql.Number(err) == 0 { // not the server's answer: the connection is of no use any more
		s.drop()
	}
	return out, s.wrap(ctx, err)
}

// limitOf gives lists of everything the time they may take.
func (s *session) limitOf(q string) time.Duration {
	if strings.Contains(q, "information_schema") {
		return listLimit + callLimit
	}
	return 0
}

func (s *session) rows(ctx context.Context, q string) ([][]string, error) {
	rows, err := s.conn.QueryContext(ctx, q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var out [][]string
	raw, into := make([]sql.RawBytes, len(names)), make([]any, len(names))
	for i := range raw {
		into[i] = &raw[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		row := make([]string, len(raw))
		for i := range raw {
			row[i] = string(raw[i])
		}
		out = append(out, row)
	}
	return out, rows.Err()
}

func (s *session) exec(ctx context.Context, q string) error {
	_, err := s.query(ctx, q)
	return err
}

// drop closes the connection for good: put back into the pool it could bring
// an open transaction along.
func (s *session) drop() {
	if s.conn == nil {
		return
	}
	_ = s.conn.Raw(func(any) error { return errBad })
	_ = s.conn.Close()
	s.conn = nil
}

var errBad = badConn{}

func (s *session) close() {
	s.drop()
	_ = s.server.Close()
}

func (s *session) wrap(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) {
		err = cause
	}
	return fmt.Errorf("%s (%s): %w", s.Name, s.Address, err)
}

// owner is what gtid_owned writes behind a transaction: #thread.
var owner = regexp.MustCompile(`#[0-9]+`)

// begun reads all transactions that the server executed or is about to: more
// than any snapshot saw that was opened before. Owned comes first, so that a
// transaction that goes over meanwhile is in one of them.
func (s *session) begun(ctx context.Context) (gtid.Set, error) {
	rows, err := s.query(ctx, "SELECT @@GLOBAL.gtid_owned, @@GLOBAL.gtid_executed")
	if err != nil {
		return gtid.Set{}, err
	}
	owned, err := gtid.Parse(owner.ReplaceAllString(rows[0][0], ""))
	if err != nil {
		return gtid.Set{}, s.wrap(ctx, fmt.Errorf("read gtid_owned: %w", err))
	}
	executed, err := gtid.Parse(rows[0][1])
	if err != nil {
		return gtid.Set{}, s.wrap(ctx, fmt.Errorf("read gtid_executed: %w", err))
	}
	return executed.Union(owned), nil
}

func (s *session) executed(ctx context.Context) (gtid.Set, error) {
	rows, err := s.query(ctx, "SELECT @@GLOBAL.gtid_executed")
	if err != nil {
		return gtid.Set{}, err
	}
	return gtid.Parse(rows[0][0])
}

// reaches waits until the server executed the set; false if that takes longer.
func (s *session) reaches(ctx context.Context, set gtid.Set, limit time.Duration) (bool, error) {
	one := strings.ReplaceAll(set.String(), "\n", "")
	rows, err := s.query(ctx, fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', %.3f)", one, max(limit, time.Millisecond).Seconds()))
	if err != nil {
		return false, err
	}
	return rows[0][0] == "0", nil
}
