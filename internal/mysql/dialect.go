package mysql

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// Dialect is how one server wants to be spoken to: by its version, and by who
// runs it.
type Dialect struct {
	Version Version
	// RDS is set where Amazon runs the server: no SUPER-like privilege, group
	// verbs are procedures, settings belong to the parameter group.
	RDS bool
}

// Dialect finds out once per process of the server how it wants to be spoken
// to, and refuses servers that are not MySQL or too old.
func (s *Server) Dialect(ctx context.Context) (Dialect, error) {
	if d := s.dialect.Load(); d != nil {
		return *d, nil
	}
	var version, comment string
	var rds int
	err := s.read(ctx, "ask for its version", `SELECT @@version, @@version_comment,
		(SELECT COUNT(*) FROM information_schema.routines
		 WHERE routine_schema = 'mysql' AND routine_name = 'rds_group_replication_start')`, nil, &version, &comment, &rds)
	if err != nil {
		if greeted := s.greeting(ctx); greeted != "" { // it may be no MySQL, whatever else is wrong
			if _, e := ParseVersion(greeted); e != nil {
				err = fmt.Errorf("%s (%s): %w", s.name, s.login.Address, e)
			}
		}
		return Dialect{}, err
	}
	v, err := ParseVersion(version + " " + comment)
	if err != nil {
		return Dialect{}, fmt.Errorf("%s (%s): %w", s.name, s.login.Address, err)
	}
	if v.Compare(Oldest) < 0 {
		return Dialect{}, fmt.Errorf("%s (%s): the server is MySQL %s; Perdure needs %s or newer", s.name, s.login.Address, v, Oldest)
	}
	d := Dialect{Version: v, RDS: rds > 0}
	s.dialect.Store(&d)
	return d, nil
}

// greeting reads the version with which a server introduces itself to everybody,
// before anybody logs in: "" if it says none.
func (s *Server) greeting(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", s.login.Address)
	if err != nil {
		return ""
	}
	defer func() { _ = c.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	// Four bytes of packet header, the protocol's version, then text up to a zero.
	b := make([]byte, 128)
	n, err := io.ReadAtLeast(c, b, 6)
	if err != nil || b[4] != 10 {
		return ""
	}
	text, _, ended := bytes.Cut(b[5:n], []byte{0})
	if !ended {
		return ""
	}
	return string(text)
}

// binlogReset is the statement that forgets all binary logs and GTIDs.
func (d Dialect) binlogReset() string {
	if d.Version.AtLeast(8, 2, 0) {
		return "RESET BINARY LOGS AND GTIDS"
	}
	return "RESET MASTER"
}

// ErrManaged says that a verb does not exist where a cloud runs the server.
type ErrManaged struct{ Verb, Instead string }

func (e *ErrManaged) Error() string {
	return fmt.Sprintf("%s is not possible on Amazon RDS: %s", e.Verb, e.Instead)
}
