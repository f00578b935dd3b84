package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Status is what an operator wants to know about the queue.
type Status struct {
	Log      LogStatus       `json:"log"`
	Accepted int64           `json:"accepted"` // by this node since it started
	Refused  int64           `json:"refused"`
	Paused   string          `json:"paused,omitempty"`   // by whom
	Halted   string          `json:"halted,omitempty"`   // why, until a person resumes
	Lost     string          `json:"lost,omitempty"`     // generation of the log that is gone, until its loss is accepted
	Applying *ApplyingStatus `json:"applying,omitempty"` // on the node that applies
}

// LogStatus is the state of the log.
type LogStatus struct {
	Generation string    `json:"generation"`
	First      uint64    `json:"first_frame"`
	Last       uint64    `json:"last_frame"`
	Bytes      int64     `json:"bytes"`
	MaxBytes   int64     `json:"max_bytes"`
	Replicas   int       `json:"replicas"`
	Oldest     time.Time `json:"oldest,omitzero"`
}

// ApplyingStatus is the state of applying.
type ApplyingStatus struct {
	Working      bool     `json:"working"`
	HeldBack     []string `json:"held_back,omitempty"` // why applying is held, if it is
	Troubles     []string `json:"troubles,omitempty"`  // what stands in the way now
	Partitions   int      `json:"partitions"`
	Position     uint64   `json:"position"` // every write up to here is applied or set aside
	BehindFrames uint64   `json:"behind_frames"`
	// Waiting is how many writes were read from the log and are not applied. They
	// are all that wait when Unread is 0; the writes of frames that were not read
	// yet nobody has counted.
	Waiting    int64         `json:"waiting_writes"`
	Unread     uint64        `json:"unread_frames"`
	OldestAge  time.Duration `json:"oldest_age_ns"`
	Applied    int64         `json:"applied"`
	Batches    int64         `json:"batches"`
	Duplicates int64         `json:"duplicates"`
	Attempts   int64         `json:"failed_attempts"`
	Dead       int64         `json:"dead_letters"`
	// Letters is how many dead letters lie there, at most maxLetters; nil while
	// the database does not tell.
	Letters  *int64 `json:"dead_letters_waiting,omitempty"`
	HeldKeys int64  `json:"held_keys"`
}

// Status reports without asking the database.
func (s *Service) Status(ctx context.Context) (Status, error) {
	out := Status{Accepted: s.count.accepted.Load(), Refused: s.count.refused.Load()}
	st, err := s.log.State(ctx)
	if err == nil {
		out.Log = LogStatus{
			Generation: fmt.Sprintf("%016x", st.Generation), First: st.First, Last: st.Last,
			Bytes: st.Bytes, MaxBytes: st.MaxBytes, Replicas: st.Replicas, Oldest: st.Oldest,
		}
	}
	if d := s.obeyed.Load(); d != nil {
		out.Paused, out.Halted = d.Paused, d.Halted
		if err == nil && d.Generation != "" && d.Generation != out.Log.Generation {
			out.Lost = d.Generation
		}
	}
	out.Applying = s.Applier.status(st.Last)
	if n := s.letters.Load(); n >= 0 && out.Applying != nil {
		out.Applying.Letters = &n
	}
	if a := out.Applying; err == nil && a != nil && a.BehindFrames > 0 && a.OldestAge == 0 {
		a.OldestAge = s.ageAt(ctx, max(st.First, frameOf(a.Position)+1))
	}
	if err != nil {
		return out, unavailable(err)
	}
	return out, nil
}

// ageAt is how old the writes of a frame are, for when no partition has them in
// hand. It remembers the frame it read last.
func (s *Service) ageAt(ctx context.Context, frame uint64) time.Duration {
	if m := s.aged.Load(); m != nil && m.frame == frame {
		return time.Since(m.at)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	entries, err := s.log.Read(ctx, frame)
	if err != nil || len(entries) == 0 {
		return 0
	}
	plain, err := s.open(entries[0].Data)
	if err != nil {
		return 0
	}
	records, err := decodeFrame(plain)
	if err != nil || len(records) == 0 {
		return 0
	}
	s.aged.Store(&checkpoint{frame, records[0].at})
	return time.Since(records[0].at)
}

func (a *Applier) status(last uint64) *ApplyingStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.running && len(a.troubles) == 0 {
		return nil
	}
	out := &ApplyingStatus{
		Working: a.running && len(a.troubles) == 0, HeldBack: a.gate.why(), Partitions: len(a.position),
		Applied: a.count.applied.Load(), Batches: a.count.batches.Load(), Duplicates: a.count.duplicates.Load(),
		Attempts: a.count.attempts.Load(), Dead: a.count.dead.Load(), HeldKeys: a.heldKeys.Load(),
	}
	seen := map[string]bool{}
	for _, err := range a.troubles {
		if t := err.Error(); !seen[t] {
			seen[t] = true
			out.Troubles = append(out.Troubles, t)
		}
	}
	if len(a.position) > 0 {
		out.Position = ^uint64(0)
	}
	oldest := int64(0)
	for i, p := range a.position {
		out.Position = min(out.Position, p.Load())
		if at := a.oldest[i].Load(); at != 0 && (oldest == 0 || at < oldest) {
			oldest = at
		}
	}
	if f := frameOf(out.Position); f < last {
		out.BehindFrames = last - f
	}
	out.Waiting = a.inHand.Load()
	if f := max(a.handed.Load(), frameOf(out.Position)); f < last {
		out.Unread = last - f
	}
	if oldest != 0 {
		out.OldestAge = max(0, a.now().Sub(time.UnixMicro(oldest)))
	}
	return out
}

// Receipt says what became of a write: the ledger first, then what is set
// aside, then the log. The error is a *Problem.
func (s *Service) Receipt(ctx context.Context, id ID) (Receipt, error) {
	r, err := s.settled(ctx, id)
	if err == nil && (r.State != Queued || r.Attempts > 0 || r.Sequence > 0) {
		return r, nil
	}
	if old, ok := s.recent.get(id); ok {
		return Receipt{ID: id, State: Queued, Sequence: old.seq}, nil
	}
	seq, found, lerr := s.search(ctx, id)
	switch {
	case found:
		return Receipt{ID: id, State: Queued, Sequence: seq}, nil
	case err != nil:
		return Receipt{}, err
	case lerr != nil:
		return Receipt{}, unavailable(lerr)
	}
	return Receipt{}, notFound("no write with this id is known; if it was sent, it was not accepted, or it is older than %s", s.window)
}

// settled asks the database what it knows about a write. A receipt in state
// queued without sequence means: nothing.
func (s *Service) settled(ctx context.Context, id ID) (Receipt, error) {
	db, p := s.db(ctx)
	if p != nil {
		return Receipt{}, p
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r := Receipt{ID: id, State: Queued}
	var outcome int
	var affected int64
	err := db.QueryRowContext(ctx, "SELECT seq, outcome, attempts, affected FROM perdure.queue_ledger WHERE id=?", id[:]).Scan(&r.Sequence, &outcome, &r.Attempts, &affected)
	switch {
	case err == nil:
		r.State = stateOf(outcome)
		if r.State == Applied {
			r.Affected = &affected
		}
		if r.State == Dead {
			_ = db.QueryRowContext(ctx, "SELECT error FROM perdure.queue_dead WHERE id=?", id[:]).Scan(&r.Error)
		}
		return r, nil
	case !errors.Is(err, sql.ErrNoRows):
		return Receipt{}, wrapDB(err, "asking the ledger")
	}
	err = db.QueryRowContext(ctx, "SELECT seq, attempts, error FROM perdure.queue_held WHERE id=? ORDER BY seq LIMIT 1", id[:]).Scan(&r.Sequence, &r.Attempts, &r.Error)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Receipt{}, wrapDB(err, "asking what waits")
	}
	return r, nil
}

// search reads the log for an id from where it is not applied yet, for at most
// two seconds.
func (s *Service) search(ctx context.Context, id ID) (uint64, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	st, err := s.log.State(ctx)
	if err != nil {
		return 0, false, err
	}
	from := max(st.First, frameOf(s.Applier.lowest()))
	for from <= st.Last {
		entries, err := s.log.Read(ctx, from)
		if err != nil {
			return 0, false, err
		}
		for _, e := range entries {
			plain, err := s.open(e.Data)
			if err != nil {
				return 0, false, err
			}
			records, err := decodeFrame(plain)
			if err != nil {
				return 0, false, err
			}
			for i := range records {
				if records[i].id == id && records[i].kind == kindWrite {
					return writeSeq(e.Seq, i), true, nil
				}
			}
			from = e.Seq + 1
		}
	}
	return 0, false, nil
}

// Tailed is one write as it lies in the log.
type Tailed struct {
	Sequence  uint64    `json:"sequence"`
	ID        ID        `json:"id"`
	Kind      string    `json:"kind"`
	Key       string    `json:"key"`
	Operation string    `json:"operation,omitempty"`
	By        string    `json:"by,omitempty"`
	At        time.Time `json:"at"`
	Bytes     int       `json:"bytes"`
}

// Tail calls each for the writes in the log from frame on (0: only new ones),
// and waits for more, until ctx ends or each returns an error.
func (s *Service) Tail(ctx context.Context, frame uint64, each func(Tailed) error) error {
	if frame == 0 {
		st, err := s.log.State(ctx)
		if err != nil {
			return unavailable(err)
		}
		frame = st.Last + 1
	}
	for {
		entries, err := s.log.Read(ctx, frame)
		if err != nil {
			return err
		}
		for _, e := range entries {
			plain, err := s.open(e.Data)
			if err != nil {
				return err
			}
			records, err := decodeFrame(plain)
			if err != nil {
				return err
			}
			for i := range records {
				r := &records[i]
				t := Tailed{
					Sequence: writeSeq(e.Seq, i), ID: r.id, Kind: [...]string{"", "write", "retry", "discard"}[r.kind],
					Key: r.key, Operation: r.operation, By: r.by, At: r.at, Bytes: r.size(),
				}
				if err := each(t); err != nil {
					return err
				}
			}
			frame = e.Seq + 1
		}
	}
}
