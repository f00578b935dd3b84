package consistency

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
)

// Viewer knows the members; watch.Watcher is one.
type Viewer interface{ View() *topology.View }

// Config says how an Auditor reaches the members and how hard it works.
type Config struct {
	// Open makes the connections to one member, with an account that may read
	// what is to be compared. The Auditor closes them.
	Open  func(topology.Instance) (*mysql.Server, error)
	Watch Viewer
	// Store keeps how far an audit is, so that another node, or this one after a
	// restart, goes on from there. nil: nothing is kept.
	Store state.Store
	Key   string // of the document in Store; default "consistency/audit"
	Log   *slog.Logger
	ID    string // of the audit; default: made up
	// Progress is called at most once a second, by the goroutine of Run.
	Progress func(Progress)
	// Found is called by it with every difference that gets into the report.
	Found func(Difference)

	// BusyShare is how much of the time a member works for the audit while it
	// has other work; default 0.03. IdleShare is for members that have none;
	// default 0.5.
	BusyShare, IdleShare float64
	// Slice is how long a member shall take for one slice; default 60 ms.
	Slice time.Duration
	// MaxRows is how many rows of one table are named; at that number the rest
	// of the table is left alone. Default 50.
	MaxRows int
	// Patience is how long rows and GTID sets are looked at again before the
	// audit believes that they differ; defaults 2 s and 10 s.
	Patience, GTIDPatience time.Duration
}

// Scope chooses what is compared. The zero Scope is everything but the server's
// own schemas.
type Scope struct {
	Schemas []string `json:"schemas,omitempty"` // only these
	Tables  []string `json:"tables,omitempty"`  // only these, as schema.table
	Exclude []string `json:"exclude,omitempty"` // not these, schema or schema.table
}

// Auditor compares the members of a group. Make one with New.
type Auditor struct {
	cfg Config
	doc state.Doc[journal]
}

// New returns an Auditor. It does nothing until Run.
func New(cfg Config) *Auditor {
	cfg.Key = cmp.Or(cfg.Key, "consistency/audit")
	cfg.BusyShare = cmp.Or(cfg.BusyShare, 0.03)
	cfg.IdleShare = cmp.Or(cfg.IdleShare, 0.5)
	cfg.Slice = cmp.Or(cfg.Slice, 60*time.Millisecond)
	cfg.MaxRows = cmp.Or(cfg.MaxRows, 50)
	cfg.Patience = cmp.Or(cfg.Patience, 2*time.Second)
	cfg.GTIDPatience = cmp.Or(cfg.GTIDPatience, 10*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Progress == nil {
		cfg.Progress = func(Progress) {}
	}
	if cfg.Found == nil {
		cfg.Found = func(Difference) {}
	}
	a := &Auditor{cfg: cfg}
	if cfg.Store != nil {
		a.doc = state.NewDoc[journal](cfg.Store, cfg.Key)
	}
	return a
}

// ErrTooFew says that there are not two members ONLINE to compare.
var ErrTooFew = errors.New("fewer than two members are ONLINE: there is nothing to compare")

// Run compares once and returns what it found. An unfinished audit of the same
// scope, of the last three days, is gone on with. An error means that it did
// not come to its end; the report then holds what was found so far, and the
// next Run goes on. fence is the lease under which its document is written.
func (a *Auditor) Run(ctx context.Context, scope Scope, fence state.Fence) (Report, error) {
	r := &run{Auditor: a, scope: scope, fence: fence, begun: time.Now(), lastSave: time.Now()}
	if err := r.load(ctx); err != nil {
		return r.report, err
	}
	defer r.closeAll()
	log := a.cfg.Log.With("audit", r.report.ID)
	log.Info("consistency audit began", "resumed", r.report.Resumed)
	err := r.all(ctx)
	if err != nil {
		// What is lost is the time since the last save; ctx may be over.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if e := r.save(after); e != nil {
			log.Warn("the state of the audit was not kept", "err", e)
		}
		return r.report, fmt.Errorf("consistency audit: %w", err)
	}
	log.Info("consistency audit ended", "tables", r.report.Tables, "rows", r.report.Rows, "differences", len(r.report.Differences),
		"remarks", len(r.report.Remarks), "took", r.report.Ended.Sub(r.report.Began).Round(time.Millisecond))
	return r.report, nil
}

// run is one run of an Auditor.
type run struct {
	*Auditor
	scope    Scope
	fence    state.Fence
	rev      state.Revision
	report   Report
	at       place
	begun    time.Time // this run, not the audit
	lastSave time.Time
	lastTold time.Time

	sessions []*session // of the members compared now
	opened   map[topology.Instance]*session
	errant   errant
	pace     pace
	heals    bool // a write to a row puts the whole row in place, on all members
}

// all does the audit.
func (r *run) all(ctx context.Context) error {
	if err := r.members(ctx); err != nil {
		return err
	}
	r.sight(ctx)
	r.heals = r.fullImages(ctx)
	if err := r.gtids(ctx); err != nil {
		return err
	}
	tables, err := r.list(ctx)
	if err != nil {
		return err
	}
	r.report.Of = len(tables)
	for _, t := range tables {
		if t.String() < r.at.Table {
			continue // done before an interruption
		}
		if err := r.members(ctx); err != nil {
			return err
		}
		if t.String() != r.at.Table {
			r.at = place{Table: t.String()}
		}
		if err := r.table(ctx, t); err != nil {
			return err
		}
		r.report.Tables++
		if err := r.keep(ctx); err != nil {
			return err
		}
	}
	if err := r.gtids(ctx); err != nil {
		return err
	}
	r.report.Ended = time.Now()
	r.tell(true)
	return r.save(ctx)
}

// members makes ready the sessions with all members that are ONLINE now.
func (r *run) members(ctx context.Context) error {
	if r.opened == nil {
		r.opened = map[topology.Instance]*session{}
	}
	r.sessions = nil
	view := r.cfg.Watch.View()
	for _, m := range view.In(topology.Online) {
		s := r.opened[m.Instance]
		if s == nil {
			server, err := r.cfg.Open(m.Instance)
			if err != nil {
				return err
			}
			s = &session{Instance: m.Instance, server: server}
			r.opened[m.Instance] = s
		}
		if err := s.ready(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			r.report.remark(Remark{Kind: Incomplete, Subject: m.Name, Text: fmt.Sprintf("%s is ONLINE and could not be asked: %v", m.Name, err)})
			continue
		}
		r.sessions = append(r.sessions, s)
	}
	for _, m := range view.Members {
		if m.State != topology.Online {
			r.report.remark(Remark{Kind: Incomplete, Subject: m.Name, Text: fmt.Sprintf("%s was %s for a part of the audit or all of it, and not compared then", m.Name, m.State)})
		}
	}
	if len(r.sessions) < 2 {
		return ErrTooFew
	}
	for _, s := range r.sessions {
		if !contains(r.report.Members, s.Name) {
			r.report.Members = append(r.report.Members, s.Name)
		}
	}
	return nil
}

func (r *run) closeAll() {
	for _, s := range r.opened {
		s.close()
	}
}

// sight says what the account cannot see. The server does not: tables without
// rights on them are simply not there.
func (r *run) sight(ctx context.Context) {
	for _, s := range r.sessions {
		rows, err := s.query(ctx, "SHOW GRANTS")
		if err != nil {
			continue // the next question will say so
		}
		all, account, revoked := false, "the account", ""
		for _, row := range rows {
			grant, to, isGrant := strings.Cut(row[0], " ON *.* TO ")
			if isGrant && strings.HasPrefix(grant, "GRANT ") {
				account, _, _ = strings.Cut(to, " WITH ")
				all = all || strings.Contains(grant, "SELECT") || strings.Contains(grant, "ALL PRIVILEGES")
			}
			if what, found := strings.CutPrefix(row[0], "REVOKE "); found && strings.Contains(what, "SELECT") {
				revoked, _, _ = strings.Cut(what, " FROM ")
			}
		}
		switch {
		case !all:
			r.report.remark(Remark{
				Kind: Blind, Subject: account, SQL: "GRANT SELECT ON *.* TO " + account,
				Text: account + " has no SELECT on everything: tables it has no right on are not seen, and not compared",
			})
		case revoked != "":
			r.report.remark(Remark{Kind: Blind, Subject: account, Text: account + " was denied " + revoked + ": what lies there is not compared"})
		}
	}
}

// fullImages tells whether all members log whole rows. What is written then is
// the same everywhere afterwards, whatever it was before.
func (r *run) fullImages(ctx context.Context) bool {
	answers := each(ctx, r.sessions, func(ctx context.Context, s *session) ([][]string, error) {
		return s.query(ctx, "SELECT @@GLOBAL.binlog_row_image")
	})
	for _, a := range answers {
		if a.err != nil || a.said[0][0] != "FULL" {
			return false
		}
	}
	return true
}

// differs reports a difference that is proved.
func (r *run) differs(d Difference) {
	if r.report.differs(d) {
		r.cfg.Found(d)
	}
}

func contains(all []string, one string) bool {
	return slices.Contains(all, one)
}

// tell calls Progress, at most once a second unless it is now.
func (r *run) tell(now bool) {
	if !now && time.Since(r.lastTold) < time.Second {
		return
	}
	r.lastTold = time.Now()
	r.cfg.Progress(Progress{Table: r.at.Table, Tables: r.report.Tables, Of: r.report.Of, Rows: r.report.Rows, Found: len(r.report.Differences)})
}
