package playground

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/node"
	"github.com/perdure/perdure/internal/topology"
)

const (
	nodeUser = "perdure"
	appUser  = "app"
	database = "shop"
	// applyUser applies queued writes: its own tables, and rows of the shop.
	applyUser = "perdure_apply"
	// auditUser compares what the members hold, and only reads.
	auditUser = "perdure_audit"
)

// secrets are the passwords of a playground, made for it alone.
type secrets struct{ root, node, app, apply, audit string }

func newSecrets() secrets {
	return secrets{root: mysqld.NewPassword(), node: mysqld.NewPassword(), app: mysqld.NewPassword(), apply: mysqld.NewPassword(), audit: mysqld.NewPassword()}
}

// accounts exist on every server from its first start: the node's with what
// `perdure check grants` prints, and one for applications.
func (s secrets) accounts() []mysqld.Account {
	return []mysqld.Account{
		{User: nodeUser, Password: s.node, RequireTLS: true, Grants: []mysqld.Grant{
			{Privileges: "PROCESS, RELOAD, SHUTDOWN, REFERENCES, CREATE USER, REPLICATION CLIENT, GROUP_REPLICATION_ADMIN, " +
				"SYSTEM_VARIABLES_ADMIN, PERSIST_RO_VARIABLES_ADMIN, REPLICATION_SLAVE_ADMIN, CLONE_ADMIN"},
			{Privileges: "REPLICATION SLAVE, BACKUP_ADMIN, CONNECTION_ADMIN", MayGrant: true},
			{Privileges: "SELECT", On: "performance_schema.*"},
			{Privileges: "INSERT, DELETE", On: "mysql.component"},
		}},
		{User: applyUser, Password: s.apply, RequireTLS: true, Grants: []mysqld.Grant{
			{Privileges: "CREATE, SELECT, INSERT, UPDATE, DELETE", On: "perdure.*"},
			{Privileges: "SELECT, INSERT, UPDATE, DELETE", On: database + ".*"},
		}},
		{User: auditUser, Password: s.audit, RequireTLS: true, Grants: []mysqld.Grant{{Privileges: "SELECT"}}},
		{User: appUser, Password: s.app, Grants: []mysqld.Grant{{
			Privileges: "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES, CREATE TEMPORARY TABLES, " +
				"LOCK TABLES, CREATE VIEW, SHOW VIEW, TRIGGER, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, EVENT, PROCESS",
		}}},
	}
}

// sample is a small shop: something to look at and to write to.
var sample = []string{
	"CREATE DATABASE IF NOT EXISTS " + database,
	"USE " + database,
	`CREATE TABLE IF NOT EXISTS customers (
		id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60) NOT NULL, city VARCHAR(40) NOT NULL,
		since DATE NOT NULL, KEY (city))`,
	`CREATE TABLE IF NOT EXISTS orders (
		id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, customer_id BIGINT UNSIGNED NOT NULL, placed TIMESTAMP NOT NULL,
		cents INT NOT NULL, state ENUM('new','paid','sent') NOT NULL DEFAULT 'new',
		KEY (customer_id), FOREIGN KEY (customer_id) REFERENCES customers (id))`,
	`CREATE TABLE IF NOT EXISTS accounts (id INT NOT NULL PRIMARY KEY, balance BIGINT NOT NULL)`,
}

// operations are queued writes to try: one that must change exactly two rows,
// and one that adds a row.
const operations = `  operations:
    - name: transfer
      about: Move cents from one account to another.
      key: accounts
      params:
        - {name: from, type: int, min: 1}
        - {name: to, type: int, min: 1}
        - {name: cents, type: int, min: 1, max: 1000000}
      statements:
        - {sql: "UPDATE shop.accounts SET balance = balance - :cents WHERE id = :from AND balance >= :cents", rows: 1}
        - {sql: "UPDATE shop.accounts SET balance = balance + :cents WHERE id = :to", rows: 1}
    - name: order
      about: Place an order.
      key: "customer-{customer}"
      params:
        - {name: customer, type: int, min: 1}
        - {name: cents, type: int, min: 0}
      statements:
        - {sql: "INSERT INTO shop.orders (customer_id, placed, cents) VALUES (:customer, NOW(), :cents)", rows: 1}
`

// loadSample fills the sample database through a member that accepts writes,
// and waits until every member has it.
func (p *play) loadSample(ctx context.Context, n *node.Node) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the sample database was not loaded within a minute"))
	defer cancel()
	v, err := n.Watch().Until(ctx, func(v *topology.View) bool { return len(writers(v)) > 0 })
	if err != nil {
		return err
	}
	s, err := mysql.Open(writers(v)[0].Name, mysql.Login{Address: writers(v)[0].Address, User: appUser, Password: p.secrets.app})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	conn, err := s.DB().Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for _, stmt := range append(sample, rows()...) {
		if _, err := conn.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("load the sample database: %w", err)
		}
	}
	at, err := s.Executed(ctx)
	if err != nil {
		return err
	}
	_, err = n.Watch().Until(ctx, func(v *topology.View) bool {
		for _, m := range v.In(topology.Online) {
			if !m.Report.Executed.Contains(at) {
				return false
			}
		}
		return true
	})
	return err
}

func writers(v *topology.View) []topology.Member {
	var out []topology.Member
	for _, m := range v.Members {
		if m.Writable {
			out = append(out, m)
		}
	}
	return out
}

// rows are a few hundred customers, their orders, and accounts to move money
// between: three statements.
func rows() []string {
	cities := []string{"Lisbon", "Porto", "Bergen", "Gdansk", "Turin", "Ghent"}
	var customers, orders, accounts []string
	for i := 1; i <= 300; i++ {
		customers = append(customers, fmt.Sprintf("(%d,'Customer %d','%s','2025-%02d-%02d')", i, i, cities[i%len(cities)], i%12+1, i%28+1))
		orders = append(orders, fmt.Sprintf("(%d,'2026-01-%02d 10:%02d:00',%d,'%s')", i, i%28+1, i%60, 990+i*37%9000, []string{"new", "paid", "sent"}[i%3]))
	}
	for i := 1; i <= 100; i++ {
		accounts = append(accounts, fmt.Sprintf("(%d,1000)", i))
	}
	return []string{
		"INSERT INTO customers VALUES " + strings.Join(customers, ","),
		"INSERT INTO orders (customer_id, placed, cents, state) VALUES " + strings.Join(orders, ","),
		"INSERT INTO accounts VALUES " + strings.Join(accounts, ","),
	}
}
