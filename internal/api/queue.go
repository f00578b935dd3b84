package api

import (
	"encoding/json"
	"time"
)

// Write is one unit of work for the write queue: a named operation with its
// parameters, or statements of its own.
type Write struct {
	ID         string                     `json:"id,omitempty"`
	Key        string                     `json:"key,omitempty"`
	Operation  string                     `json:"operation,omitempty"`
	Params     map[string]json.RawMessage `json:"params,omitempty"`
	Statements []Statement                `json:"statements,omitempty"`
	Wait       string                     `json:"wait,omitempty"`    // "applied", or nothing
	Timeout    string                     `json:"timeout,omitempty"` // how long to wait
}

// Receipt is what a client gets for a write, and asks for later.
type Receipt struct {
	ID        string `json:"id"`
	Sequence  uint64 `json:"sequence,omitempty"`
	State     string `json:"state"` // queued, applied, dead, discarded
	Attempts  int    `json:"attempts,omitempty"`
	Affected  *int64 `json:"affected_rows,omitempty"`
	GTID      string `json:"gtid,omitempty"`
	Error     string `json:"error,omitempty"`
	Duplicate bool   `json:"duplicate,omitempty"`
}

// QueueStatus is what an operator wants to know about the write queue.
type QueueStatus struct {
	Log struct {
		Generation string    `json:"generation"`
		First      uint64    `json:"first_frame"`
		Last       uint64    `json:"last_frame"`
		Bytes      int64     `json:"bytes"`
		MaxBytes   int64     `json:"max_bytes"`
		Replicas   int       `json:"replicas"`
		Oldest     time.Time `json:"oldest,omitzero"`
	} `json:"log"`
	Accepted int64  `json:"accepted"`
	Refused  int64  `json:"refused"`
	Paused   string `json:"paused,omitempty"` // by whom
	Halted   string `json:"halted,omitempty"` // why
	Lost     string `json:"lost,omitempty"`   // generation of a log that is gone
	Applying *struct {
		Working      bool          `json:"working"`
		HeldBack     []string      `json:"held_back,omitempty"`
		Troubles     []string      `json:"troubles,omitempty"`
		Partitions   int           `json:"partitions"`
		Position     uint64        `json:"position"`
		BehindFrames uint64        `json:"behind_frames"`
		Waiting      int64         `json:"waiting_writes"` // read from the log and not applied
		Unread       uint64        `json:"unread_frames"`  // whose writes nobody has counted; 0: waiting_writes is all
		OldestAge    time.Duration `json:"oldest_age_ns"`
		Applied      int64         `json:"applied"`
		Batches      int64         `json:"batches"`
		Duplicates   int64         `json:"duplicates"`
		Attempts     int64         `json:"failed_attempts"`
		Dead         int64         `json:"dead_letters"`
		Letters      *int64        `json:"dead_letters_waiting,omitempty"` // absent while the database does not tell
		HeldKeys     int64         `json:"held_keys"`
	} `json:"applying,omitempty"`
}

// TailedWrite is one write as it lies in the log.
type TailedWrite struct {
	Sequence  uint64    `json:"sequence"`
	ID        string    `json:"id"`
	Kind      string    `json:"kind"`
	Key       string    `json:"key"`
	Operation string    `json:"operation,omitempty"`
	By        string    `json:"by,omitempty"`
	At        time.Time `json:"at"`
	Bytes     int       `json:"bytes"`
}

// DeadLetter is a write that was given up.
type DeadLetter struct {
	ID         string      `json:"id"`
	Sequence   uint64      `json:"sequence"`
	Key        string      `json:"key"`
	Operation  string      `json:"operation,omitempty"`
	By         string      `json:"by,omitempty"`
	Accepted   time.Time   `json:"accepted"`
	Died       time.Time   `json:"died"`
	Attempts   int         `json:"attempts"`
	Number     int         `json:"error_number"`
	Error      string      `json:"error"`
	Parked     bool        `json:"parked,omitempty"`
	Statements []Statement `json:"statements,omitempty"`
}

// AcceptLoss names the log that is given up.
type AcceptLoss struct {
	Generation string `json:"generation" doc:"Of the log that is gone, as \"lost\" in the queue's status says."`
}
