package main

import (
	"context"
	"crypto/tls"
	"database/sql"
	"io"
	"log"
	"time"

	"github.com/go-sql-driver/mysql"
)

// query runs one statement and returns the first value of its first row, if it
// has one.
func query(address, user, password, database, statement string) (string, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr, cfg.DBName = user, password, "tcp", address, database
	cfg.TLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // loopback
	cfg.Logger = log.New(io.Discard, "", 0)
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return "", err
	}
	db := sql.OpenDB(c)
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	rows, err := db.QueryContext(ctx, statement)
	if err != nil {
		return "", err
	}
	defer func() { _ = rows.Close() }()
	var v string
	if rows.Next() {
		if err := rows.Scan(&v); err != nil {
			return "", err
		}
	}
	return v, rows.Err()
}
