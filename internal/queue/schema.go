package queue

import (
	"context"
	"database/sql"
	"fmt"
)

// Tables are the queue's own, in the schema perdure of the database it writes
// to. They replicate with the data, which is the whole point: a server that
// has an effect also has the row that says so.
//
// In queue_position, seq, epoch and holder are the fence of every transaction;
// mark is taken from the frame at seq, so that a log that lost its end and grew
// another can be told; starts counts first batches that were begun after a
// claim and never ended (see poison.go).
var tables = []string{
	`CREATE DATABASE IF NOT EXISTS perdure`,
	`CREATE TABLE IF NOT EXISTS perdure.queue_position (
		stream BIGINT UNSIGNED NOT NULL,
		part SMALLINT UNSIGNED NOT NULL,
		seq BIGINT UNSIGNED NOT NULL,
		mark BIGINT UNSIGNED NOT NULL,
		epoch BIGINT NOT NULL,
		holder BIGINT UNSIGNED NOT NULL,
		starts INT UNSIGNED NOT NULL DEFAULT 0,
		beat BIGINT UNSIGNED NOT NULL DEFAULT 0,
		PRIMARY KEY (stream, part)
	) ENGINE=InnoDB STATS_PERSISTENT=0`,
	`CREATE TABLE IF NOT EXISTS perdure.queue_ledger (
		id BINARY(16) NOT NULL PRIMARY KEY,
		stream BIGINT UNSIGNED NOT NULL,
		seq BIGINT UNSIGNED NOT NULL,
		digest BIGINT UNSIGNED NOT NULL,
		outcome TINYINT UNSIGNED NOT NULL,
		attempts SMALLINT UNSIGNED NOT NULL,
		affected BIGINT UNSIGNED NOT NULL
	) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS perdure.queue_held (
		stream BIGINT UNSIGNED NOT NULL,
		part SMALLINT UNSIGNED NOT NULL,
		seq BIGINT UNSIGNED NOT NULL,
		akey VARBINARY(255) NOT NULL,
		id BINARY(16) NOT NULL,
		state TINYINT UNSIGNED NOT NULL,
		attempts SMALLINT UNSIGNED NOT NULL,
		next_at BIGINT NOT NULL,
		error_number INT UNSIGNED NOT NULL,
		error TEXT CHARACTER SET utf8mb4 NOT NULL,
		record LONGBLOB NOT NULL,
		PRIMARY KEY (stream, part, seq),
		KEY by_key (stream, part, akey, seq),
		KEY by_id (id)
	) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS perdure.queue_dead (
		id BINARY(16) NOT NULL PRIMARY KEY,
		stream BIGINT UNSIGNED NOT NULL,
		part SMALLINT UNSIGNED NOT NULL,
		seq BIGINT UNSIGNED NOT NULL,
		akey VARBINARY(255) NOT NULL,
		operation VARCHAR(64) CHARACTER SET utf8mb4 NOT NULL,
		parked TINYINT UNSIGNED NOT NULL,
		attempts SMALLINT UNSIGNED NOT NULL,
		error_number INT UNSIGNED NOT NULL,
		error TEXT CHARACTER SET utf8mb4 NOT NULL,
		died_at BIGINT NOT NULL,
		record LONGBLOB NOT NULL,
		KEY by_time (died_at)
	) ENGINE=InnoDB`,
}

// ensureTables makes what is missing. It looks first: in a group with several
// writers a definition beside writes of other members is worth avoiding.
func ensureTables(ctx context.Context, db *sql.DB) error {
	var n int
	err := db.QueryRowContext(ctx, `SELECT COUNT(*) FROM information_schema.tables WHERE table_schema='perdure'
		AND table_name IN ('queue_position','queue_ledger','queue_held','queue_dead')`).Scan(&n)
	if err != nil {
		return fmt.Errorf("tables of the queue: %w", err)
	}
	if n == len(tables)-1 {
		return nil
	}
	for _, t := range tables {
		if _, err := db.ExecContext(ctx, t); err != nil {
			return fmt.Errorf("tables of the queue: %w", err)
		}
	}
	return nil
}

// Grants is what the account of the queue needs besides the rights on the
// application's tables that operations write to. It must have no more: the
// guard in front of the log is the second wall, this is the first.
func Grants(account string) []string {
	return []string{
		"GRANT CREATE, SELECT, INSERT, UPDATE, DELETE ON perdure.* TO " + account,
	}
}
