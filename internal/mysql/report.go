package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/topology"
)

// The report is one round trip: several SELECTs in one packet. Nothing in it
// waits for the group: it answers while commits block, and while START and STOP
// GROUP_REPLICATION run. replication_group_member_stats does not (measured on
// 9.7.4: it waited 3.3 s for a STOP), so it is asked for apart: see Stats.
const (
	askSelf = `SELECT @@server_uuid, @@server_id, @@version, @@read_only, @@super_read_only, @@offline_mode, @@gtid_executed,
		(SELECT VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Uptime');`
	askPeers = `SELECT MEMBER_ID, MEMBER_HOST, COALESCE(MEMBER_PORT, 0), MEMBER_STATE, MEMBER_ROLE, MEMBER_VERSION
		FROM performance_schema.replication_group_members WHERE MEMBER_ID <> '';`
	askChannels = `SELECT CHANNEL_NAME, GROUP_NAME, SERVICE_STATE, RECEIVED_TRANSACTION_SET, LAST_ERROR_MESSAGE
		FROM performance_schema.replication_connection_status
		WHERE CHANNEL_NAME IN ('group_replication_applier', 'group_replication_recovery');`
	askStats = `SELECT VIEW_ID, COUNT_TRANSACTIONS_REMOTE_IN_APPLIER_QUEUE, COUNT_CONFLICTS_DETECTED
		FROM performance_schema.replication_group_member_stats WHERE MEMBER_ID = @@server_uuid`
	askLag = `SELECT COALESCE(MAX(TIMESTAMPDIFF(MICROSECOND, APPLYING_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP, NOW(6))), 0),
		COALESCE(MAX(LAST_ERROR_MESSAGE), '')
		FROM performance_schema.replication_applier_status_by_worker
		WHERE CHANNEL_NAME = 'group_replication_applier' AND (APPLYING_TRANSACTION <> '' OR LAST_ERROR_NUMBER <> 0);`
	askMode = `SELECT @@group_replication_single_primary_mode, @@group_replication_group_name, @@group_replication_member_expel_timeout,
		@@group_replication_flow_control_period;`
)

// Report reads what the server says about itself and its group, in one round
// trip. It needs SELECT on performance_schema and REPLICATION CLIENT.
func (s *Server) Report(ctx context.Context) (*topology.Report, error) {
	if _, err := s.Dialect(ctx); err != nil {
		return nil, err
	}
	if s.without.Add(-1) >= 0 {
		return s.report(ctx, false)
	}
	r, err := s.report(ctx, true)
	if Number(err) == 1193 { // unknown system variable: the plugin is not loaded
		s.without.Store(pluginPause)
		return s.report(ctx, false)
	}
	s.without.Store(0)
	return r, err
}

// pluginPause is how many reports go by before a server without the
// group_replication plugin is asked for the plugin's variables again.
const pluginPause = 10

func (s *Server) report(ctx context.Context, plugin bool) (*topology.Report, error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	query := askSelf + askPeers + askChannels + askLag
	if plugin {
		query += askMode
	}
	rows, err := s.db.QueryContext(ctx, query)
	if err != nil {
		return nil, s.wrap(ctx, "read its report", err)
	}
	defer func() { _ = rows.Close() }()
	r := &topology.Report{}
	parts := []func(*sql.Rows, *topology.Report) error{scanSelf, scanPeer, scanChannel, scanLag, scanMode}
	for i := 0; ; i++ {
		for rows.Next() {
			if err := parts[i](rows, r); err != nil {
				return nil, s.wrap(ctx, "read its report", err)
			}
		}
		if !rows.NextResultSet() {
			break
		}
	}
	if err := rows.Err(); err != nil {
		return nil, s.wrap(ctx, "read its report", err)
	}
	return r, nil
}

func scanSelf(rows *sql.Rows, r *topology.Report) error {
	var executed string
	var uptime int64
	err := rows.Scan(&r.UUID, &r.ServerID, &r.Version, &r.ReadOnly, &r.SuperReadOnly, &r.OfflineMode, &executed, &uptime)
	if err != nil {
		return err
	}
	r.Uptime = time.Duration(uptime) * time.Second
	r.Executed, err = gtid.Parse(executed)
	return err
}

func scanPeer(rows *sql.Rows, r *topology.Report) error {
	var p topology.Peer
	if err := rows.Scan(&p.UUID, &p.Host, &p.Port, &p.State, &p.Role, &p.Version); err != nil {
		return err
	}
	r.Peers = append(r.Peers, p)
	return nil
}

func scanChannel(rows *sql.Rows, r *topology.Report) error {
	var channel, group, service, received, lastError string
	if err := rows.Scan(&channel, &group, &service, &received, &lastError); err != nil {
		return err
	}
	if lastError != "" {
		r.LastError = lastError
	}
	if channel == "group_replication_recovery" {
		r.Recovery = service
		return nil
	}
	if r.GroupName == "" {
		r.GroupName = group
	}
	var err error
	r.Received, err = gtid.Parse(received)
	return err
}

// Stats reads what the group counts about this server. It may wait for as long
// as the server joins or leaves a group. A server in no group has no stats.
func (s *Server) Stats(ctx context.Context) (topology.Stats, error) {
	var st topology.Stats
	err := s.read(ctx, "read its statistics", askStats, nil, &st.ViewID, &st.Queue, &st.Conflicts)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return st, err
}

func scanLag(rows *sql.Rows, r *topology.Report) error {
	var micros int64
	var lastError string
	if err := rows.Scan(&micros, &lastError); err != nil {
		return err
	}
	if lastError != "" {
		r.LastError = lastError
	}
	r.Lag = time.Duration(max(0, micros)) * time.Microsecond
	return nil
}

func scanMode(rows *sql.Rows, r *topology.Report) error {
	var group sql.NullString
	if err := rows.Scan(&r.SinglePrimary, &group, &r.ExpelTimeout, &r.StatsPeriod); err != nil {
		return err
	}
	if group.String != "" {
		r.GroupName = group.String
	}
	return nil
}

// Executed reads the server's gtid_executed.
func (s *Server) Executed(ctx context.Context) (gtid.Set, error) {
	var text string
	if err := s.read(ctx, "read gtid_executed", "SELECT @@gtid_executed", nil, &text); err != nil {
		return gtid.Set{}, err
	}
	return gtid.Parse(text)
}

// Purged reads the transactions whose binary logs the server no longer has.
func (s *Server) Purged(ctx context.Context) (gtid.Set, error) {
	var text string
	if err := s.read(ctx, "read gtid_purged", "SELECT @@gtid_purged", nil, &text); err != nil {
		return gtid.Set{}, err
	}
	return gtid.Parse(text)
}

// LoggedErrors reads the newest six errors about replication, or a full disk, that the server wrote
// to its error log within the last age, oldest first, in one line. Servers
// older than 8.0.22 have no such table.
func (s *Server) LoggedErrors(ctx context.Context, age time.Duration) (string, error) {
	var said sql.NullString
	err := s.read(ctx, "read its error log", `SELECT GROUP_CONCAT(REPLACE(DATA, 'Plugin group_replication reported: ', '') ORDER BY LOGGED SEPARATOR '; ') FROM (
		SELECT LOGGED, DATA FROM performance_schema.error_log
		WHERE PRIO = 'Error' AND (SUBSYSTEM = 'Repl' OR DATA LIKE '%isk is full%' OR DATA LIKE '%o space left%') AND LOGGED > NOW(6) - INTERVAL ? SECOND
		ORDER BY LOGGED DESC LIMIT 6) e`, []any{int(age.Seconds())}, &said)
	return said.String, err
}

// WaitExecuted waits until the server has applied all of set, or ctx ends.
func (s *Server) WaitExecuted(ctx context.Context, set gtid.Set) error {
	limit := CallLimit
	if d, ok := ctx.Deadline(); ok {
		limit = time.Until(d)
	}
	if limit <= 0 {
		return s.wrap(ctx, "wait for transactions", context.Cause(ctx))
	}
	ctx, cancel := context.WithTimeout(ctx, limit+2*time.Second)
	defer cancel()
	var timedOut int
	err := s.read(ctx, "wait for transactions", "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)",
		[]any{set.String(), limit.Seconds()}, &timedOut)
	if err == nil && timedOut != 0 {
		err = fmt.Errorf("%s (%s): it did not apply %s within %s", s.name, s.login.Address, set, limit.Round(time.Millisecond))
	}
	return err
}
