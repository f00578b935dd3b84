package api

import "time"

// ConsistencyScope says what is compared. Empty, it is what the configuration
// says.
type ConsistencyScope struct {
	Schemas []string `json:"schemas,omitempty" doc:"Only these schemas."`
	Tables  []string `json:"tables,omitempty" doc:"Only these tables, as schema.table."`
	Exclude []string `json:"exclude,omitempty" doc:"Not these: schema or schema.table."`
}

// ConsistencyAudit is one comparison of what the members hold.
type ConsistencyAudit struct {
	ID          string              `json:"id"`
	State       string              `json:"state" enum:"waiting,running,done,stopped,failed"`
	By          string              `json:"by,omitempty"`
	Scope       ConsistencyScope    `json:"scope"`
	Asked       time.Time           `json:"asked"`
	Began       time.Time           `json:"began,omitzero"`
	Ended       time.Time           `json:"ended,omitzero"`
	Node        string              `json:"node,omitempty"`
	Progress    ConsistencyProgress `json:"progress"`
	Differences int                 `json:"differences"`
	Remarks     int                 `json:"remarks,omitempty"`
	Error       string              `json:"error,omitempty"`
	StopBy      string              `json:"stop_by,omitempty"`
	// Report is only in the answer about one audit.
	Report *ConsistencyReport `json:"report,omitempty"`
}

// Over tells whether the audit has ended.
func (a *ConsistencyAudit) Over() bool {
	return a.State == "done" || a.State == "stopped" || a.State == "failed"
}

// ConsistencyProgress is how far an audit is.
type ConsistencyProgress struct {
	Table  string `json:"table"`
	Tables int    `json:"tables"`
	Of     int    `json:"of"`
	Rows   uint64 `json:"rows"`
	Found  int    `json:"found"`
}

// ConsistencyReport is what an audit found, so far.
type ConsistencyReport struct {
	ID          string          `json:"id"`
	Began       time.Time       `json:"began"`
	Ended       time.Time       `json:"ended,omitzero"`
	Members     []string        `json:"members"`
	Tables      int             `json:"tables"`
	Of          int             `json:"of"`
	Rows        uint64          `json:"rows"`
	Slices      int             `json:"slices"`
	Unequal     int             `json:"unequal,omitempty"`
	Again       int             `json:"again,omitempty"`
	Moving      int             `json:"moving,omitempty"`
	Proofs      int             `json:"proofs,omitempty"`
	Worked      time.Duration   `json:"worked_ns"`
	Rested      time.Duration   `json:"rested_ns"`
	Resumed     int             `json:"resumed,omitempty"`
	Differences []Difference    `json:"differences,omitempty"`
	Remarks     []AuditedRemark `json:"remarks,omitempty"`
	Unlisted    int             `json:"unlisted,omitempty"`
}

// Difference is one thing in which members are proved to differ.
type Difference struct {
	Kind    string            `json:"kind"`
	Schema  string            `json:"schema,omitempty"`
	Table   string            `json:"table,omitempty"`
	Key     string            `json:"key,omitempty"`
	Columns []string          `json:"columns,omitempty"`
	Members map[string]string `json:"members"`
	Odd     []string          `json:"odd,omitempty"`
	Text    string            `json:"text"`
	SQL     string            `json:"sql,omitempty"`
}

// AuditedRemark is something that an audit could not compare, and why.
type AuditedRemark struct {
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	SQL     string `json:"sql,omitempty"`
}

// Schedule is something that begins at times, and what became of it.
type Schedule struct {
	Name   string    `json:"name"`
	Do     string    `json:"do" enum:"consistency,stop,start,restart"`
	At     string    `json:"at" doc:"Cron expression."`
	Zone   string    `json:"zone" doc:"Time zone of it."`
	Missed string    `json:"missed" enum:"skip,run"`
	Next   time.Time `json:"next,omitzero"`
	Due    time.Time `json:"due,omitzero" doc:"The newest time that something became of."`
	Result string    `json:"result,omitempty" enum:"began,missed,refused,failed,unknown"`
	Text   string    `json:"text,omitempty"`
}
