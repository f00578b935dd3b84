package node

import (
	"context"
	"crypto/tls"
	"database/sql"
	"sync"

	driversql "github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/drill"
	"github.com/perdure/perdure/internal/proxy"
)

// drills are the drills of this node. Only a cluster whose servers this process
// can hit is drillable.
func (n *Node) drills(faults drill.Faults) *drill.Drills {
	c := drill.Config{Faults: faults, Watch: n.watch, Store: n.control, Log: n.log.With("part", "drill"), Decided: n.group.Decided, To: n.publisher()}
	if n.proxy != nil {
		c.Gate = n
	}
	if n.proxy != nil && n.proxy.Addr(proxy.ReadWrite) != nil && n.targets != nil {
		c.Client = &pen{node: n}
	}
	return drill.New(c)
}

// pen writes single rows through the proxy, as an application would: with the
// account that applies queued writes, into a table of ours.
type pen struct {
	node *Node
	once sync.Once
	db   *sql.DB
	err  error
}

// Write implements drill.Client.
func (p *pen) Write(ctx context.Context) error {
	p.once.Do(p.open)
	if p.err != nil {
		return p.err
	}
	_, err := p.db.ExecContext(ctx, "INSERT INTO perdure.drill () VALUES ()")
	if e, ok := err.(*driversql.MySQLError); ok && (e.Number == 1146 || e.Number == 1049) { //nolint:errorlint // the driver returns it bare
		for _, stmt := range []string{
			"CREATE DATABASE IF NOT EXISTS perdure",
			"CREATE TABLE IF NOT EXISTS perdure.drill (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3))",
		} {
			if _, err := p.db.ExecContext(ctx, stmt); err != nil {
				return err
			}
		}
		_, err = p.db.ExecContext(ctx, "INSERT INTO perdure.drill () VALUES ()")
	}
	return err
}

func (p *pen) open() {
	cfg := driversql.NewConfig()
	cfg.User, cfg.Passwd = p.node.targets.login.User, p.node.targets.login.Password
	cfg.Net, cfg.Addr = "tcp", p.node.proxy.Addr(proxy.ReadWrite).String()
	cfg.TLS = &tls.Config{RootCAs: p.node.pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	conn, err := driversql.NewConnector(cfg)
	if err != nil {
		p.err = err
		return
	}
	p.db = sql.OpenDB(conn)
	p.db.SetMaxOpenConns(1)
}
