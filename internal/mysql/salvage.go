package mysql

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"

	"github.com/perdure/perdure/internal/gtid"
)

// SaveTransactions writes the transactions of set, as the server's binary logs
// have them, to a new file: readable (rows as comments) and replayable (with
// the mysql client). tool is the path of mysqlbinlog. The file is readable by
// its owner only. Needs REPLICATION SLAVE.
func (s *Server) SaveTransactions(ctx context.Context, tool string, set gtid.Set, path string) error {
	purged, err := s.Purged(ctx)
	if err != nil {
		return err
	}
	if gone := purged.Intersect(set); !gone.IsEmpty() {
		return fmt.Errorf("%s (%s): its binary logs no longer have %s", s.name, s.login.Address, gone)
	}
	first, err := s.firstBinlog(ctx)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.login.Address)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // our own directory
	if err != nil {
		return err
	}
	var said strings.Builder
	cmd := exec.CommandContext(ctx, tool, "--no-defaults", "--read-from-remote-server", "--to-last-log", "--verbose", //nolint:gosec // found by us
		"--protocol=tcp", "--ssl-mode=REQUIRED", "--host="+host, "--port="+port, "--user="+s.login.User,
		"--include-gtids="+oneLine(set), first)
	// Not on the command line, where everybody on the host could read it.
	cmd.Env = append(os.Environ(), "MYSQL_PWD="+s.login.Password)
	cmd.Stdout, cmd.Stderr = f, &said
	err = cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s (%s): read transactions with %s: %w: %s", s.name, s.login.Address, tool, err, strings.TrimSpace(said.String()))
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(path)
	}
	return err
}

func (s *Server) firstBinlog(ctx context.Context) (string, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	rows, err := s.db.QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return "", s.wrap(ctx, "list its binary logs", err)
	}
	defer func() { _ = rows.Close() }()
	if !rows.Next() {
		return "", s.wrap(ctx, "list its binary logs", errors.Join(rows.Err(), errors.New("it has none")))
	}
	var name, size, encrypted string
	if err := rows.Scan(&name, &size, &encrypted); err != nil {
		return "", s.wrap(ctx, "list its binary logs", err)
	}
	return name, nil
}

// oneLine writes a set without line breaks.
func oneLine(set gtid.Set) string { return strings.ReplaceAll(set.String(), "\n", "") }
