package consistency

import (
	"context"
	"strconv"
	"time"

	"github.com/perdure/perdure/internal/pause"
	"github.com/perdure/perdure/internal/topology"
)

// A member that has so much to apply, or is so late, is left alone until it has
// not: what the audit takes would make it later.
const (
	longQueue = 1000
	longLag   = 5 * time.Second
	// fewThreads is what runs on a server without work: our own statement, and
	// one for whoever looks at it.
	fewThreads = 2
	// longestWait is how long the audit waits for them before it goes on all the
	// same; and all its waits together are no longer than what else it does, give or
	// take one. Some members are late all day, and an audit that never ends finds
	// nothing.
	longestWait = 20 * time.Second
	// longestRest keeps one long statement from stopping the audit for minutes.
	longestRest = 5 * time.Second
)

// pace knows whether the members have other work.
type pace struct {
	busy  time.Time // when a member last had other work
	asked time.Time
	owed  time.Duration // rest not taken yet
	row   time.Duration // what a row costs, where nobody else wants the processor
	// yielded is how long the audit waited for late members.
	yielded time.Duration
}

// cost tells how much of the time that reading rows took was work of the
// members. On a loaded machine most of it is waiting for others, and the audit
// would come to a stop if it rested for that too. What a row really costs shows
// where it was read fastest; that is forgotten by and by, for the next rows may
// be longer, or not in memory.
func (p *pace) cost(rows uint64, took time.Duration) time.Duration {
	if rows < smallSlice {
		return min(took, 5*time.Millisecond)
	}
	this := max(took/time.Duration(rows), 10*time.Nanosecond)
	if p.row = p.row + p.row/100; p.row == 0 || this < p.row {
		p.row = this
	}
	// Never less than a quarter: reading from a disk is waiting, too, and others
	// want the disk.
	return min(took, max(p.row*time.Duration(rows), took/4))
}

// rest waits after so much work, so that the members' time for the audit stays
// within its share.
func (r *run) rest(ctx context.Context, worked time.Duration) error {
	r.report.Worked += worked
	share := r.cfg.IdleShare
	if r.isBusy(ctx) {
		share = r.cfg.BusyShare
	}
	r.pace.owed = min(r.pace.owed+time.Duration(float64(worked)*(1-share)/share), longestRest)
	if r.pace.owed < time.Millisecond {
		return ctx.Err()
	}
	began := time.Now()
	err := pause.For(ctx, r.pace.owed)
	r.pace.owed = 0
	r.report.Rested += time.Since(began)
	return err
}

// yield waits between slices while a member is late. Not within them: a slice in
// which much was written is looked at in many small parts, and would take all
// day if each of them waited.
func (r *run) yield(ctx context.Context) error {
	began := time.Now()
	other := began.Sub(r.begun) - r.pace.yielded
	limit := min(longestWait, longestWait+other-r.pace.yielded)
	for time.Since(began) < limit && burdened(r.cfg.Watch.View(), r.sessions) {
		r.tell(false)
		if err := pause.For(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	r.pace.yielded += time.Since(began)
	r.report.Rested += time.Since(began)
	return ctx.Err()
}

// stillBusy is how long a member counts as busy after it was: work comes in
// bursts, and one look may fall between two.
const stillBusy = 10 * time.Second

// isBusy asks the members once a second.
func (r *run) isBusy(ctx context.Context) bool {
	if time.Since(r.pace.asked) < time.Second {
		return time.Since(r.pace.busy) < stillBusy
	}
	r.pace.asked = time.Now()
	for _, s := range r.sessions {
		rows, err := s.query(ctx, "SHOW GLOBAL STATUS LIKE 'Threads_running'")
		if err != nil || len(rows) != 1 {
			continue
		}
		n, err := strconv.Atoi(rows[0][1])
		if err != nil || n > fewThreads {
			r.pace.busy = time.Now()
		}
	}
	return time.Since(r.pace.busy) < stillBusy
}

// burdened tells whether one of the members has more to apply than it should.
func burdened(v *topology.View, sessions []*session) bool {
	for _, s := range sessions {
		m, ok := v.Member(s.Name)
		if ok && m.State == topology.Online && m.Report != nil && (m.Report.Queue > longQueue || m.Report.Lag > longLag) {
			return true
		}
	}
	return false
}
