// Package mysql speaks with one MySQL server over SQL: it reads what the
// server says about itself and its group, and it has the verbs that change it
// (read-only, join, leave, clone, persist a setting, make an account).
//
// It decides nothing. Every verb does one thing and says in one sentence what
// failed; versions and Amazon RDS differ behind the same verbs (see Dialect).
package mysql

import (
	"context"
	"crypto/tls"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	driversql "github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/topology"
)

// Login is how to reach one server.
type Login struct {
	Address  string // host:port
	User     string
	Password string
	// TLS verifies the server. nil encrypts without verifying, as MySQL's own
	// clients do when no CA is known.
	TLS *tls.Config
}

// Server is one MySQL server. Its methods are safe for concurrent use, and
// each is bounded by its context; a context without deadline gets CallLimit.
type Server struct {
	name    string
	login   Login
	db      *sql.DB
	dialect atomic.Pointer[Dialect]
	without atomic.Int32 // reports to go without the group_replication plugin's variables
}

// CallLimit bounds statements whose context has no deadline. START
// GROUP_REPLICATION and CLONE bring their own.
const CallLimit = 10 * time.Second

// Open prepares to speak with the server; it does not connect yet. name is
// what people call the server, for error messages.
func Open(name string, login Login) (*Server, error) {
	host, _, err := net.SplitHostPort(login.Address)
	if err != nil {
		return nil, fmt.Errorf("member %s: address %q is not host:port: %w", name, login.Address, err)
	}
	cfg := driversql.NewConfig()
	cfg.User, cfg.Passwd = login.User, login.Password
	cfg.Net, cfg.Addr = "tcp", login.Address
	cfg.Timeout = 2 * time.Second
	cfg.InterpolateParams = true
	cfg.MultiStatements = true
	cfg.ParseTime = true
	cfg.RejectReadOnly = false
	cfg.Logger = log.New(io.Discard, "", 0) // its lines lack the member's name; we report the error itself
	cfg.ConnectionAttributes = "program_name:perdure"
	if login.TLS != nil {
		cfg.TLS = login.TLS.Clone()
		if cfg.TLS.ServerName == "" {
			cfg.TLS.ServerName = host
		}
	} else {
		cfg.TLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // documented at Login.TLS
	}
	conn, err := driversql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("member %s: %w", name, err)
	}
	db := sql.OpenDB(conn)
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(2)
	db.SetConnMaxIdleTime(time.Minute)
	return &Server{name: name, login: login, db: db}, nil
}

// Name returns what people call the server.
func (s *Server) Name() string { return s.name }

// Address returns the server's host:port.
func (s *Server) Address() string { return s.login.Address }

// Close closes all connections.
func (s *Server) Close() error { return s.db.Close() }

// Forget closes the idle connections, so that the next statement connects
// anew: after the server was restarted or its accounts were replaced.
func (s *Server) Forget() {
	s.db.SetMaxIdleConns(0)
	s.db.SetMaxIdleConns(2)
	s.dialect.Store(nil)
	s.without.Store(0)
}

// DB is the connection pool, for readers that stream.
func (s *Server) DB() *sql.DB { return s.db }

func bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, CallLimit, errors.New("the server did not answer within "+CallLimit.String()))
}

// exec runs a statement. what names it in errors: the statement itself may
// carry a secret.
//
// While START or STOP GROUP_REPLICATION runs, the server takes no other, and
// no settings of the group. That START may be one whose caller was killed: exec
// waits for its end, as long as a START may take, rather than call it a failure.
func (s *Server) exec(ctx context.Context, what, stmt string, args ...any) error {
	wait, stop := context.WithTimeoutCause(ctx, JoinLimit, errors.New("a START or STOP GROUP_REPLICATION did not end within "+JoinLimit.String()))
	defer stop()
	for {
		err := s.execOnce(ctx, what, stmt, args...)
		if !engaged(err) {
			return err
		}
		select {
		case <-wait.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// engaged tells whether a statement was turned away because a START or STOP
// GROUP_REPLICATION runs. 3663 means any failure of those two; only its text
// says which.
func engaged(err error) bool {
	return Number(err) == 3724 || Number(err) == 3663 && strings.Contains(err.Error(), "Another instance of START/STOP")
}

func (s *Server) execOnce(ctx context.Context, what, stmt string, args ...any) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	_, err := s.db.ExecContext(ctx, stmt, args...)
	return s.wrap(ctx, what, err)
}

// read runs a query of one row.
func (s *Server) read(ctx context.Context, what, query string, args []any, into ...any) error {
	ctx, cancel := bound(ctx)
	defer cancel()
	return s.wrap(ctx, what, s.db.QueryRowContext(ctx, query, args...).Scan(into...))
}

func (s *Server) wrap(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, ctx.Err()) {
		err = cause
	}
	return fmt.Errorf("%s (%s): %s: %w", s.name, s.login.Address, what, err)
}

// Number returns the MySQL error number in err, or 0.
func Number(err error) int {
	if e, ok := errors.AsType[*driversql.MySQLError](err); ok {
		return int(e.Number)
	}
	return 0
}

// FailureOf tells how a statement failed, seen from outside the server.
func FailureOf(err error) topology.Failure {
	var timeout interface{ Timeout() bool }
	switch {
	case err == nil:
		return topology.Answers
	case errors.Is(err, syscall.ECONNREFUSED):
		return topology.Refused
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return topology.Silent
	}
	switch Number(err) {
	case 1044, 1045, 1130, 1227, 1142, 1698, 1820, 3118:
		return topology.Denied
	}
	return topology.Broken
}

// broken tells whether the connection, not the statement, failed.
func broken(err error) bool {
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, driversql.ErrInvalidConn) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNREFUSED)
}
