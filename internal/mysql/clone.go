package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"time"
)

// Clone replaces everything on this server with a copy of donor's data,
// accounts included, as the account user. It returns when the server has
// copied and stopped itself: its supervisor starts it again on the copy. Ask
// CloneProgress meanwhile. The server must be in no group.
func (s *Server) Clone(ctx context.Context, donor, user, password string) error {
	d, err := s.Dialect(ctx)
	if err != nil {
		return err
	}
	if d.RDS {
		return &ErrManaged{"CLONE", "restore a snapshot of a member as a new instance, then add it"}
	}
	host, port, err := net.SplitHostPort(donor)
	if err != nil {
		return fmt.Errorf("%s: the donor's address %q is not host:port: %w", s.name, donor, err)
	}
	if err := s.exec(ctx, "name the donor", "SET GLOBAL clone_valid_donor_list = "+quote(donor)); err != nil {
		return err
	}
	return s.writing(ctx, func() error {
		conn, err := s.db.Conn(ctx)
		if err != nil {
			return s.wrap(ctx, "clone from "+donor, err)
		}
		defer func() { _ = conn.Close() }()
		_, err = conn.ExecContext(ctx, fmt.Sprintf("CLONE INSTANCE FROM %s:%s IDENTIFIED BY %s REQUIRE SSL",
			Account{user, host}, port, quote(password)))
		switch {
		case err == nil, Number(err) == 3707: // copied; nobody is there to restart it
			return nil
		case broken(err): // copied and gone, as it should be
			return nil
		}
		return s.wrap(ctx, "clone from "+donor, err)
	})
}

// CloneState is where a clone into this server stands.
type CloneState struct {
	Begun   string // when it began, by the server's clock; "" if there never was one
	State   string // "", Not Started, In Progress, Completed, Failed
	Stage   string // DROP DATA, FILE COPY, PAGE COPY, REDO COPY, FILE SYNC, RESTART, RECOVERY
	Copied  int64  // bytes
	Total   int64  // bytes, as far as the donor told
	Elapsed time.Duration
	Error   string
}

// CloneProgress reads how far the last clone into this server is.
func (s *Server) CloneProgress(ctx context.Context) (CloneState, error) {
	var c CloneState
	var seconds sql.NullFloat64
	var stage sql.NullString
	err := s.read(ctx, "read the clone's progress", `SELECT COALESCE(s.BEGIN_TIME, ''), s.STATE, s.ERROR_MESSAGE,
		COALESCE((SELECT SUM(DATA) FROM performance_schema.clone_progress), 0),
		COALESCE((SELECT SUM(ESTIMATE) FROM performance_schema.clone_progress), 0),
		(SELECT STAGE FROM performance_schema.clone_progress WHERE STATE = 'In Progress' LIMIT 1),
		TIMESTAMPDIFF(MICROSECOND, s.BEGIN_TIME, COALESCE(s.END_TIME, NOW(3))) / 1e6
		FROM performance_schema.clone_status s`, nil, &c.Begun, &c.State, &c.Error, &c.Copied, &c.Total, &stage, &seconds)
	if errors.Is(err, sql.ErrNoRows) {
		return c, nil
	}
	c.Stage, c.Elapsed = stage.String, time.Duration(seconds.Float64*float64(time.Second))
	return c, err
}
