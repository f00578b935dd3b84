package watch

import (
	"time"

	"github.com/perdure/perdure/internal/topology"
)

// awayLeast is how late a judgement must be before the time that passed counts
// as our own absence.
const awayLeast = 4 * JudgePause

// absences are times in which this process did not run: its host was frozen,
// moved or starved. Silence of others in such a time is no evidence: we could
// not have heard them. Believing that all are gone at once is the classic
// mistake of a watcher that wakes up.
type absences struct {
	last time.Time // the judgement before
	past []absence
}

type absence struct {
	end  time.Time
	long time.Duration
}

// awayMost bounds what is remembered. On a host that starves us more often than
// that within the patience of a judge, no judgement is worth much.
const awayMost = 32

// excuse notices an absence that ended now, and takes absences out of the
// silence of every server, so that each has its usual time to answer.
func (a *absences) excuse(now time.Time, obs []topology.Observation) {
	if late := now.Sub(a.last); !a.last.IsZero() && late >= awayLeast {
		a.past = append(a.past, absence{now, late})
		a.past = a.past[max(0, len(a.past)-awayMost):]
	}
	a.last = now
	for i := range obs {
		h := obs[i].Heard
		if h.IsZero() {
			continue
		}
		for _, p := range a.past {
			if p.end.After(h) {
				obs[i].Heard = obs[i].Heard.Add(min(p.long, p.end.Sub(h)))
			}
		}
	}
}
