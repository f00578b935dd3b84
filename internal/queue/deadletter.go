package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// DeadLetter is a write that failed for good, or until somebody looks.
type DeadLetter struct {
	ID        ID        `json:"id"`
	Sequence  uint64    `json:"sequence"`
	Key       string    `json:"key"`
	Operation string    `json:"operation,omitempty"`
	By        string    `json:"by,omitempty"`
	Accepted  time.Time `json:"accepted"`
	Died      time.Time `json:"died"`
	Attempts  int       `json:"attempts"`
	Number    int       `json:"error_number"`
	Error     string    `json:"error"`
	// Parked says that the key's later writes wait for this one.
	Parked     bool        `json:"parked,omitempty"`
	Statements []Statement `json:"statements,omitempty"`
}

// DeadLetters lists dead letters, newest first, without their statements. The
// error is a *Problem.
func (s *Service) DeadLetters(ctx context.Context, before time.Time, most int) ([]DeadLetter, error) {
	db, p := s.db(ctx)
	if p != nil {
		return nil, p
	}
	if most <= 0 || most > 1000 {
		most = 100
	}
	if before.IsZero() {
		before = time.Now().Add(time.Hour)
	}
	rows, err := db.QueryContext(ctx, `SELECT id, seq, parked, attempts, error_number, error, died_at, record FROM perdure.queue_dead
		WHERE died_at < ? ORDER BY died_at DESC LIMIT ?`, before.UnixMilli(), most)
	if err != nil {
		return nil, wrapDB(err, "listing dead letters")
	}
	defer rows.Close()
	var out []DeadLetter
	for rows.Next() {
		d, _, err := scanDead(rows)
		if err != nil {
			return nil, wrapDB(err, "listing dead letters")
		}
		d.Statements = nil
		out = append(out, d)
	}
	if err := rows.Err(); err != nil {
		return nil, wrapDB(err, "listing dead letters")
	}
	return out, nil
}

// DeadLetter shows one, with what it would have done.
func (s *Service) DeadLetter(ctx context.Context, id ID) (DeadLetter, error) {
	d, _, p := s.dead(ctx, id)
	if p != nil {
		return d, p
	}
	return d, nil
}

func (s *Service) dead(ctx context.Context, id ID) (DeadLetter, record, *Problem) {
	db, p := s.db(ctx)
	if p != nil {
		return DeadLetter{}, record{}, p
	}
	row := db.QueryRowContext(ctx, "SELECT id, seq, parked, attempts, error_number, error, died_at, record FROM perdure.queue_dead WHERE id=?", id[:])
	d, rec, err := scanDead(row)
	if errors.Is(err, sql.ErrNoRows) {
		return d, rec, notFound("there is no dead letter %s", id)
	}
	if err != nil {
		return d, rec, wrapDB(err, "reading a dead letter")
	}
	return d, rec, nil
}

func scanDead(row interface{ Scan(...any) error }) (DeadLetter, record, error) {
	var d DeadLetter
	var id, body []byte
	var died int64
	if err := row.Scan(&id, &d.Sequence, &d.Parked, &d.Attempts, &d.Number, &d.Error, &died, &body); err != nil {
		return d, record{}, err
	}
	rec, err := decodeRecord(body)
	if err != nil {
		return d, rec, fmt.Errorf("dead letter %x: %w", id, err)
	}
	d.ID, d.Died = ID(id), time.UnixMilli(died).UTC()
	d.Key, d.Operation, d.By, d.Accepted = rec.key, rec.operation, rec.by, rec.at
	for _, st := range rec.stmts {
		d.Statements = append(d.Statements, st.show())
	}
	return d, rec, nil
}

// show is a stored statement as a client would have sent it.
func (s stmt) show() Statement {
	out := Statement{SQL: strings.ReplaceAll(s.sql, mark, "?")}
	for _, a := range s.args {
		v := a.any()
		if b, ok := v.([]byte); ok {
			v = map[string]any{"bytes": b}
		}
		out.Args = append(out.Args, v)
	}
	lo, hi := s.min, s.max
	if lo > 0 {
		out.MinRows = &lo
	}
	if hi >= 0 {
		out.MaxRows = &hi
	}
	return out
}

// Retry takes a dead letter up again: once more as it is, or with other
// statements where edited is not nil. It goes through the log, so it has its
// place among the writes of its key: where the key is parked, its own place in
// front of all that waits; where the key went on, now. The error is a *Problem.
func (s *Service) Retry(ctx context.Context, c Caller, id ID, edited []Statement) error {
	if p := mustOperate(c); p != nil {
		return p
	}
	_, rec, p := s.dead(ctx, id)
	if p != nil {
		return p
	}
	rec.kind, rec.by = kindRetry, c.Name
	if edited != nil {
		rec.stmts = nil
		sure := c
		sure.SQL = true
		if p := s.fillSQL(&rec, Write{Statements: edited}, sure); p != nil {
			return p
		}
	}
	return s.command(ctx, &rec)
}

// Discard gives a dead letter up for good. A parked key goes on behind it.
func (s *Service) Discard(ctx context.Context, c Caller, id ID) error {
	if p := mustOperate(c); p != nil {
		return p
	}
	_, rec, p := s.dead(ctx, id)
	if p != nil {
		return p
	}
	rec.kind, rec.by, rec.stmts = kindDiscard, c.Name, nil
	return s.command(ctx, &rec)
}

func (s *Service) command(ctx context.Context, rec *record) error {
	if _, err := s.gather.put(ctx, []*record{rec}); err != nil {
		return unavailable(err)
	}
	return nil
}
