package advise

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysql"
)

// settings are the variables that advice is about.
var settings = []string{
	"group_replication_transaction_size_limit", "group_replication_flow_control_mode",
	"group_replication_flow_control_applier_threshold", "group_replication_flow_control_certifier_threshold",
	"binlog_cache_size", "replica_parallel_workers",
}

// statuses are counters, by what becomes of them.
const askStatuses = `SELECT LOWER(VARIABLE_NAME), VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME IN
	('Binlog_cache_use', 'Binlog_cache_disk_use', 'Gr_flow_control_throttle_count', 'Gr_flow_control_throttle_time_sum', 'Gr_flow_control_throttle_active_count')`

const askStats = `SELECT COUNT_TRANSACTIONS_REMOTE_IN_APPLIER_QUEUE, COUNT_TRANSACTIONS_CHECKED, COUNT_CONFLICTS_DETECTED
	FROM performance_schema.replication_group_member_stats WHERE MEMBER_ID = @@server_uuid`

const askSizes = `SELECT COALESCE(SUM(COMPRESSED_BYTES_COUNTER), 0), COALESCE(SUM(TRANSACTION_COUNTER), 0)
	FROM performance_schema.binary_log_transaction_compression_stats WHERE LOG_TYPE = 'BINARY'`

// lost are the errors with which a client learns that its transaction lost.
const lost = "3101, 1180, 1213"

const askErrors = `SELECT ERROR_NUMBER, SUM_ERROR_RAISED FROM performance_schema.events_errors_summary_global_by_error
	WHERE ERROR_NUMBER IN (` + lost + `) AND SUM_ERROR_RAISED > 0`

// Look reads what a member counts. What it does not have is left zero.
func Look(ctx context.Context, s *mysql.Server) (api.AdviceMember, error) {
	m := api.AdviceMember{Name: s.Name(), Errors: map[string]int64{}}
	db := s.DB()
	err := db.QueryRowContext(ctx, askStats).Scan(&m.Queue, &m.Checked, &m.Conflicts)
	if err != nil && err != sql.ErrNoRows { //nolint:errorlint // Scan returns it bare
		return m, fmt.Errorf("read the group's counters: %w", err)
	}
	var bytes int64
	if err := db.QueryRowContext(ctx, askSizes).Scan(&bytes, &m.Committed); err != nil {
		return m, fmt.Errorf("read sizes of transactions: %w", err)
	}
	if m.Committed > 0 {
		m.Average = bytes / m.Committed
	}
	err = each(ctx, db, askStatuses, func(name, value string) {
		n, _ := strconv.ParseInt(value, 10, 64)
		switch name {
		case "binlog_cache_use":
			m.Cached = n
		case "binlog_cache_disk_use":
			m.Spilled = n
		default:
			if m.Throttled == nil {
				m.Throttled = &api.Throttled{}
			}
			switch name {
			case "gr_flow_control_throttle_count":
				m.Throttled.Times = n
			case "gr_flow_control_throttle_time_sum": // microseconds
				m.Throttled.Seconds = float64(n) / 1e6
			case "gr_flow_control_throttle_active_count":
				m.Throttled.Now = n
			}
		}
	})
	if err != nil {
		return m, fmt.Errorf("read counters: %w", err)
	}
	err = each(ctx, db, askErrors, func(number, times string) { m.Errors[number], _ = strconv.ParseInt(times, 10, 64) })
	if err != nil {
		return m, fmt.Errorf("read counts of errors: %w", err)
	}
	m.Settings, err = s.Variables(ctx, settings...)
	return m, err
}

// each reads rows of two columns.
func each(ctx context.Context, db *sql.DB, query string, do func(a, b string)) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var a, b string
		if err := rows.Scan(&a, &b); err != nil {
			return err
		}
		do(a, b)
	}
	return rows.Err()
}
