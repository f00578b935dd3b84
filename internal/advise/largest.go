package advise

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysql"
)

const (
	// maxEvents bounds how much of a binary log is read: some seconds of work
	// for the server at most.
	maxEvents = 100_000
	maxShown  = 10
)

var tableMap = regexp.MustCompile(`^table_id: \d+ \(([^)]+)\)`)

// Largest reads the newest binary log of a member, from its beginning, and
// returns the largest transactions of as much as it read. In a group every
// member has the transactions of all.
func Largest(ctx context.Context, s *mysql.Server) ([]api.Transaction, api.AdviceRead, error) {
	read := api.AdviceRead{Member: s.Name()}
	files, err := logs(ctx, s.DB())
	if err != nil || len(files) == 0 {
		return nil, read, err
	}
	// A file that was just begun says little: then the one before is read.
	newest := files[len(files)-1]
	if len(files) > 1 && newest.size < 1<<20 {
		newest = files[len(files)-2]
	}
	read.File = newest.name
	rows, err := s.DB().QueryContext(ctx, fmt.Sprintf("SHOW BINLOG EVENTS IN '%s' LIMIT %d", newest.name, maxEvents))
	if err != nil {
		return nil, read, fmt.Errorf("read the binary log %s: %w", newest.name, err)
	}
	defer func() { _ = rows.Close() }()
	var top []api.Transaction
	one, inside, events := api.Transaction{}, false, 0
	for rows.Next() {
		var name, kind string
		var info sql.NullString
		var from, to int64
		var server uint32
		if err := rows.Scan(&name, &from, &kind, &server, &to, &info); err != nil {
			return nil, read, err
		}
		events++
		read.Bytes = to
		switch kind {
		case "Gtid", "Anonymous_Gtid", "Gtid_tagged":
			one, inside = api.Transaction{Position: from, Server: server}, true
		case "Table_map":
			if m := tableMap.FindStringSubmatch(info.String); m != nil && !slices.Contains(one.Tables, m[1]) {
				one.Tables = append(one.Tables, m[1])
			}
		}
		if !inside {
			continue
		}
		one.Events++
		one.Bytes = to - one.Position
		if kind == "Xid" || kind == "XA_prepare" || kind == "Query" && info.String != "BEGIN" {
			inside = false
			read.Transactions++
			top = keep(top, one)
		}
	}
	read.Whole = events < maxEvents
	return top, read, rows.Err()
}

// keep puts a transaction among the largest, if it is one.
func keep(top []api.Transaction, t api.Transaction) []api.Transaction {
	if len(top) == maxShown && t.Bytes <= top[len(top)-1].Bytes {
		return top
	}
	top = append(top, t)
	slices.SortStableFunc(top, func(a, b api.Transaction) int { return int(b.Bytes - a.Bytes) })
	return top[:min(len(top), maxShown)]
}

type binlog struct {
	name string
	size int64
}

// logs lists the binary logs, the oldest first.
func logs(ctx context.Context, db *sql.DB) ([]binlog, error) {
	rows, err := db.QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return nil, fmt.Errorf("list the binary logs: %w", err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil || len(columns) < 2 {
		return nil, errors.Join(err, fmt.Errorf("a list of binary logs with %d columns", len(columns)))
	}
	var out []binlog
	for rows.Next() {
		b := binlog{}
		into := []any{&b.name, &b.size}
		for range columns[2:] {
			into = append(into, new(sql.RawBytes))
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, rows.Err()
}
