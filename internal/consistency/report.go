package consistency

import (
	"slices"
	"strings"
	"time"
)

// Kinds of difference.
const (
	Row        = "row"        // a row is not the same, or not everywhere
	Table      = "table"      // a table is not everywhere
	Definition = "definition" // a table is not defined alike
	GTID       = "gtid"       // a member executed transactions that others lack
)

// Difference is one thing that is proved to differ between members.
type Difference struct {
	Kind   string `json:"kind"`
	Schema string `json:"schema,omitempty"`
	Table  string `json:"table,omitempty"`
	// Key is the condition that finds the row.
	Key string `json:"key,omitempty"`
	// Columns are those in which the row differs.
	Columns []string `json:"columns,omitempty"`
	// Members says what each compared member has: a short name of the value,
	// the same for the same value, or "absent".
	Members map[string]string `json:"members"`
	// Odd are the members that differ from the majority, none if there is no
	// majority. What the majority has need not be what was meant.
	Odd  []string `json:"odd,omitempty"`
	Text string   `json:"text"`          // one sentence for a person
	SQL  string   `json:"sql,omitempty"` // to be run on each member, to look
}

// Kinds of remark.
const (
	NotComparable = "not-comparable" // the table has no usable key, or its engine no snapshots
	Denied        = "denied"         // the account may not read it
	Blind         = "blind"          // the account may not see all tables
	Undecided     = "undecided"      // a row changed too fast to say
	Incomplete    = "incomplete"     // a table was not compared to its end, or not on all members
)

// Remark is something the audit could not compare, and why.
type Remark struct {
	Kind    string `json:"kind"`
	Subject string `json:"subject"` // schema.table, a member, or the account
	Text    string `json:"text"`
	SQL     string `json:"sql,omitempty"` // what helps, if a statement can
}

// Report is what an audit found.
type Report struct {
	ID      string    `json:"id"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended,omitzero"` // zero while it runs
	Members []string  `json:"members"`        // that were compared

	Tables  int           `json:"tables"`            // compared
	Of      int           `json:"of"`                // to compare
	Rows    uint64        `json:"rows"`              // compared, as counted on one member
	Slices  int           `json:"slices"`            // compared
	Unequal int           `json:"unequal,omitempty"` // slices that were not equal at the first look
	Again   int           `json:"again,omitempty"`   // rows that were looked at again
	Moving  int           `json:"moving,omitempty"`  // rows that were written too often to be seen the same
	Proofs  int           `json:"proofs,omitempty"`  // attempts to prove a difference
	Worked  time.Duration `json:"worked_ns"`         // spent reading
	Rested  time.Duration `json:"rested_ns"`         // spent waiting, to leave the members to their work
	Resumed int           `json:"resumed,omitempty"` // how often it went on after an interruption

	Differences []Difference `json:"differences,omitempty"`
	Remarks     []Remark     `json:"remarks,omitempty"`
	Unlisted    int          `json:"unlisted,omitempty"` // of both, found after the lists were full
}

// Equal tells whether no difference was found. What could not be compared is
// in Remarks.
func (r *Report) Equal() bool { return len(r.Differences) == 0 }

// What a report lists is bounded, so that it stays a small document whatever
// happened to the data. Keys can have kilobytes.
const (
	maxListed = 500
	maxBytes  = 400_000
	maxSQL    = 400
)

// differs lists a difference, and tells whether it is new and had room.
func (r *Report) differs(d Difference) bool {
	same := func(o Difference) bool {
		return o.Kind == d.Kind && o.Schema == d.Schema && o.Table == d.Table && o.Key == d.Key && o.Text == d.Text
	}
	size := len(d.Key) + len(d.Text) + len(d.SQL)
	for _, o := range r.Differences {
		if same(o) { // found before an interruption
			return false
		}
		size += len(o.Key) + len(o.Text) + len(o.SQL)
	}
	if len(r.Differences) >= maxListed || size > maxBytes {
		r.Unlisted++
		return false
	}
	r.Differences = append(r.Differences, d)
	return true
}

func (r *Report) remark(m Remark) {
	if m.Text = cut(m.Text); len(m.SQL) > maxSQL {
		m.SQL = ""
	}
	switch {
	case slices.Contains(r.Remarks, m):
	case len(r.Remarks) >= maxListed:
		r.Unlisted++
	default:
		r.Remarks = append(r.Remarks, m)
	}
}

// cut shortens what an error of a server, or a key, may have made long.
func cut(s string) string {
	const limit = 500
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// Progress is how far an audit is.
type Progress struct {
	Table  string `json:"table"` // being compared
	Tables int    `json:"tables"`
	Of     int    `json:"of"`
	Rows   uint64 `json:"rows"`
	Found  int    `json:"found"` // differences
}
