package outcome

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysql/wire"
)

// line is one connection to a server, for a few questions and one dump. It is
// of its own, and not of a pool, because what is asked has to be asked in one
// session, and because a dump is the last thing a connection does.
type line struct {
	conn *wire.Conn
	caps uint32
	over func() bool
}

// dialLimit is how long a server may take to let us in.
const dialLimit = 5 * time.Second

// answerMost bounds an answer to our own questions: the longest is a GTID set.
const answerMost = 16 << 20

// quietMost is how long a server may say nothing. A barrier on a member that is
// busy takes its time; one that is frozen must not keep us from the others.
const quietMost = 5 * time.Second

// dial signs in. The line breaks when ctx ends.
func dial(ctx context.Context, l mysql.Login) (*line, error) {
	host, _, err := net.SplitHostPort(l.Address)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	var d net.Dialer
	nc, err := d.DialContext(limited, "tcp", l.Address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(limited, func() { _ = nc.Close() })
	secure := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // documented at mysql.Login
	if l.TLS != nil {
		if secure = l.TLS.Clone(); secure.ServerName == "" {
			secure.ServerName = host
		}
	}
	conn, server, err := wire.Open(nc, &wire.SignIn{User: l.User, Password: []byte(l.Password), Collation: 45, TLS: secure})
	if !stop() && err == nil {
		err = context.Cause(limited)
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	return &line{conn: conn, caps: server.Caps, over: context.AfterFunc(ctx, func() { _ = conn.Close() })}, nil
}

func (l *line) close() {
	l.over()
	_ = l.conn.Close()
	l.conn.Release()
}

// rows asks and returns the rows of the answer, NULL as "".
func (l *line) rows(query string) ([][]string, error) {
	l.conn.SetDeadline(time.Now().Add(quietMost))
	if err := l.conn.Write(wire.AppendQuery(nil, l.caps, query)); err != nil {
		return nil, err
	}
	a, err := l.conn.ReadAnswer(l.caps, answerMost)
	if err != nil {
		return nil, err
	}
	var out [][]string
	for _, r := range a.Rows {
		row := make([]string, len(r))
		for i, field := range r {
			row[i] = string(field)
		}
		out = append(out, row)
	}
	return out, nil
}

// row asks for exactly one row of that many columns.
func (l *line) row(query string, columns int) ([]string, error) {
	rows, err := l.rows(query)
	if err == nil && (len(rows) != 1 || len(rows[0]) != columns) {
		err = errors.New("an unexpected answer to " + query)
	}
	if err != nil {
		return nil, err
	}
	return rows[0], nil
}

// roster is what a server says about its group.
type roster struct {
	self   bool // it is ONLINE, in a majority
	others map[string]bool
	view   string // the first part of the name of its view, the same as long as the group lives
}

func (l *line) roster() (r roster, err error) {
	rows, err := l.rows("SELECT MEMBER_ID, MEMBER_STATE, MEMBER_ID = @@server_uuid FROM performance_schema.replication_group_members WHERE MEMBER_ID <> ''")
	if err != nil {
		return r, err
	}
	r.others = map[string]bool{}
	self, reached := false, 0
	for _, row := range rows {
		if row[1] == "ONLINE" || row[1] == "RECOVERING" {
			reached++
		}
		if row[2] == "1" {
			self = row[1] == "ONLINE"
		} else {
			r.others[row[0]] = true
		}
	}
	r.self = self && 2*reached > len(rows)
	if !r.self {
		return r, nil
	}
	row, err := l.row("SELECT VIEW_ID FROM performance_schema.replication_group_member_stats WHERE MEMBER_ID = @@server_uuid", 1)
	if err != nil {
		return r, err
	}
	r.view = lineage(row[0])
	return r, nil
}

// lineage is the part of a view's name that all views of one group share, from
// its bootstrap on.
func lineage(viewID string) string {
	first, _, ok := strings.Cut(viewID, ":")
	if !ok {
		return ""
	}
	return first
}

// barrier comes back when the server applied everything that its group had
// ordered before it was called.
func (l *line) barrier() error {
	for _, statement := range barrier {
		if _, err := l.rows(statement); err != nil {
			return err
		}
	}
	return nil
}

// barrier waits twice, by statements that need no privilege. Not every statement
// waits: SELECT 1 does not, nor does a look into performance_schema.
var barrier = []string{
	"SET SESSION group_replication_consistency = 'BEFORE'",
	"START TRANSACTION READ ONLY",
	"COMMIT",
	"SELECT 1 FROM information_schema.collations LIMIT 1",
	"SET SESSION group_replication_consistency = 'EVENTUAL'",
}

func (l *line) executed() (gtid.Set, error) {
	row, err := l.row("SELECT @@GLOBAL.gtid_executed", 1)
	if err != nil {
		return gtid.Set{}, err
	}
	return gtid.Parse(row[0])
}
