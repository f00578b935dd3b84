package consistency

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// State of an audit.
type State string

// States of an audit. Waiting and Running go on after a crash of the node.
const (
	Waiting State = "waiting"
	Running State = "running"
	Done    State = "done"    // it came to its end, whatever it found
	Stopped State = "stopped" // somebody stopped it
	Failed  State = "failed"  // it was given up
)

// Over tells whether the audit has ended.
func (s State) Over() bool { return s == Done || s == Stopped || s == Failed }

// Audit is one audit of a cluster as it is kept, without its report.
type Audit struct {
	ID          string    `json:"id"` // later ones are greater
	State       State     `json:"state"`
	By          string    `json:"by,omitempty"` // who asked for it
	Scope       Scope     `json:"scope"`
	Asked       time.Time `json:"asked"`
	Began       time.Time `json:"began,omitzero"`
	Ended       time.Time `json:"ended,omitzero"`
	Node        string    `json:"node,omitempty"` // that carries it out, or did
	Progress    Progress  `json:"progress"`
	Differences int       `json:"differences"` // listed in its report
	Remarks     int       `json:"remarks,omitempty"`
	Error       string    `json:"error,omitempty"` // why it failed, or what it waits for
	StopBy      string    `json:"stop_by,omitempty"`
}

func newID(now time.Time) string {
	return now.UTC().Format("20060102-150405-") + strings.ToLower(rand.Text()[:4])
}

// Where things are kept.
const (
	auditPrefix  = "consistency/audits/"
	reportPrefix = "consistency/reports/"
	placePrefix  = "consistency/places/" // how far an audit is, while it runs
	currentKey   = "consistency/current"
	openKey      = "consistency/open"
)

// current names the audit that runs. There is at most one.
type current struct {
	Audit string `json:"audit,omitempty"`
}

// open is where members differ as far as anybody knows: what an audit found and
// no later audit saw otherwise.
type open struct {
	Tables []openTable `json:"tables,omitempty"`
}

// openTable is one table that differs. Without a table it is about GTID sets.
type openTable struct {
	Schema string    `json:"schema,omitempty"`
	Table  string    `json:"table,omitempty"`
	Audit  string    `json:"audit"` // that saw it last
	At     time.Time `json:"at"`
	Text   string    `json:"text"` // the first difference
}

const maxOpen = 1000

// after is what is open after an audit that came to its end: what it looked at
// and found equal is not any more. Where it did not see everything, nothing is
// taken back.
func (o open) after(id string, r Report, scope Scope) open {
	unseen := map[string]bool{}
	blind := false
	for _, m := range r.Remarks {
		switch {
		case m.Kind == Blind, m.Kind == Incomplete && !strings.Contains(m.Subject, "."): // a member was away
			blind = true
		default:
			unseen[m.Subject] = true
		}
	}
	out := open{}
	known := map[tableName]bool{}
	add := func(t openTable) {
		name := tableName{t.Schema, t.Table}
		if !known[name] && len(out.Tables) < maxOpen {
			known[name] = true
			out.Tables = append(out.Tables, t)
		}
	}
	for _, d := range r.Differences {
		add(openTable{Schema: d.Schema, Table: d.Table, Audit: id, At: r.Ended, Text: cut(d.Text)})
	}
	for _, t := range o.Tables {
		name := tableName{t.Schema, t.Table}
		if blind || unseen[name.String()] || t.Table != "" && !scope.has(name) {
			add(t)
		}
	}
	return out
}

// Check says what is wrong with a scope.
func (s Scope) Check() error {
	var errs []error
	for _, t := range s.Tables {
		if schema, table, ok := strings.Cut(t, "."); !ok || schema == "" || table == "" {
			errs = append(errs, fmt.Errorf("tables: %q is not schema.table", t))
		}
	}
	for key, names := range map[string][]string{"schemas": s.Schemas, "exclude": s.Exclude} {
		for _, n := range names {
			if n == "" {
				errs = append(errs, fmt.Errorf("%s: a name is empty", key))
			}
		}
	}
	return errors.Join(errs...)
}

// partial tells whether something was left out that a whole audit compares.
func (r *Report) partial() bool {
	return slices.ContainsFunc(r.Remarks, func(m Remark) bool { return m.Kind == Denied || m.Kind == Blind || m.Kind == Incomplete })
}

// sum says in one sentence what an audit found.
func (r *Report) sum() string {
	took := r.Ended.Sub(r.Began).Round(100 * time.Millisecond)
	text := fmt.Sprintf("compared %d rows of %d tables on %s in %s: ", r.Rows, r.Tables, strings.Join(r.Members, ", "), took)
	switch n := len(r.Differences); {
	case n == 0:
		text += "no difference"
	case n == 1:
		text += r.Differences[0].Text
	default:
		text += fmt.Sprintf("%d differences, the first: %s", n+r.Unlisted, r.Differences[0].Text)
	}
	if n := len(r.Remarks); n > 0 {
		text += fmt.Sprintf("; %d remarks on what could not be compared", n)
	}
	return text
}
