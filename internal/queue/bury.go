package queue

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

const buriedReason = "the log it came from is lost: its place among the writes of its key is not known any more"

// buryHeld makes dead letters of the writes that were set aside under another
// stream than that one, and returns how many there were.
func buryHeld(ctx context.Context, db *sql.DB, stream uint64) (int, error) {
	if err := ensureTables(ctx, db); err != nil {
		return 0, err
	}
	for n := 0; ; {
		some, err := burySome(ctx, db, stream)
		if err != nil || some == 0 {
			return n, err
		}
		n += some
	}
}

func burySome(ctx context.Context, db *sql.DB, stream uint64) (int, error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }()
	rows, err := tx.QueryContext(ctx, "SELECT stream, part, seq, akey, attempts, record FROM perdure.queue_held WHERE stream <> ? LIMIT 200 FOR UPDATE", stream)
	if err != nil {
		return 0, err
	}
	type held struct {
		stream, seq    uint64
		part, attempts int
		key, body      []byte
	}
	var all []held
	for rows.Next() {
		var h held
		if err := rows.Scan(&h.stream, &h.part, &h.seq, &h.key, &h.attempts, &h.body); err != nil {
			_ = rows.Close()
			return 0, err
		}
		all = append(all, h)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	for _, h := range all {
		rec, err := decodeRecord(h.body)
		if err != nil {
			return 0, fmt.Errorf("held write at %d: %w", h.seq, err)
		}
		for _, q := range []struct {
			sql  string
			args []any
		}{
			// A parked key's first write is among the dead letters already.
			{`INSERT IGNORE INTO perdure.queue_dead (id, stream, part, seq, akey, operation, parked, attempts, error_number, error, died_at, record)
				VALUES (?, ?, ?, ?, ?, ?, 0, ?, 0, ?, ?, ?)`, []any{rec.id[:], h.stream, h.part, h.seq, h.key, rec.operation, h.attempts, buriedReason, time.Now().UnixMilli(), h.body}},
			{"UPDATE perdure.queue_dead SET parked=0 WHERE id=?", []any{rec.id[:]}},
			{"INSERT IGNORE INTO perdure.queue_ledger (id, stream, seq, digest, outcome, attempts, affected) VALUES (?, ?, ?, ?, ?, ?, 0)", []any{rec.id[:], h.stream, h.seq, rec.digest(), ledgerDead, h.attempts}},
			{"DELETE FROM perdure.queue_held WHERE stream=? AND part=? AND seq=?", []any{h.stream, h.part, h.seq}},
		} {
			if _, err := tx.ExecContext(ctx, q.sql, q.args...); err != nil {
				return 0, err
			}
		}
	}
	return len(all), tx.Commit()
}
