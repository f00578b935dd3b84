package alarm

import (
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/topology"
)

// Facts is what an evaluation rests on besides the metrics.
type Facts struct {
	View    *topology.View
	Stopped bool            // a human stopped the whole group
	Out     map[string]bool // members a human took out
	Paused  time.Time       // since when the automation is paused; zero: it is not
	Plan    time.Time       // since when a change is running; zero: none is
	Drift   int             // settings that differ
}

// staleView is how old a View may be and still be data.
const staleView = 3 * time.Second

// env is what expressions see. Its tags are their words.
type env struct {
	Cluster   string    `expr:"cluster"`
	Quorum    string    `expr:"quorum"` // yes, lost, none, unsure
	Mode      string    `expr:"mode"`   // multi-primary, single-primary
	Tolerates int       `expr:"tolerates"`
	Members   []member  `expr:"members"`
	Member    member    `expr:"member"`
	Problems  []problem `expr:"problems"`
	Stopped   bool      `expr:"stopped"`
	ViewAge   float64   `expr:"view_age"` // seconds
	PausedFor float64   `expr:"paused_for"`
	PlanAge   float64   `expr:"plan_age"`
	Drift     int       `expr:"drift"`

	Metric  func(name string, labels ...map[string]any) (float64, error)         `expr:"metric"`  // the one series that fits
	Total   func(name string, labels ...map[string]any) (float64, error)         `expr:"total"`   // of all that fit
	Highest func(name string, labels ...map[string]any) (float64, error)         `expr:"highest"` // of all that fit
	Lowest  func(name string, labels ...map[string]any) (float64, error)         `expr:"lowest"`  // of all that fit
	Rate    func(name, window string, labels ...map[string]any) (float64, error) `expr:"rate"`    // a second, of all that fit
	Known   func(name string, labels ...map[string]any) bool                     `expr:"known"`   // is there such a series
}

// viewWords are the words of env that a stale View says nothing about.
var viewWords = map[string]bool{
	"quorum": true, "mode": true, "tolerates": true, "members": true, "member": true, "problems": true,
}

// member is one member, for expressions.
type member struct {
	Name     string  `expr:"name"`
	State    string  `expr:"state"`
	Why      string  `expr:"why"`
	Zone     string  `expr:"zone"`
	Site     string  `expr:"site"`
	Role     string  `expr:"role"`
	Version  string  `expr:"version"`
	Since    float64 `expr:"since"` // seconds in this state
	Heard    float64 `expr:"heard"` // seconds since its last answer
	Writable bool    `expr:"writable"`
	Readable bool    `expr:"readable"`
	Stopped  bool    `expr:"stopped"` // a human took it out

	// Numbers that only the member itself knows are missing without its answer.
	Lag       func() (float64, error) `expr:"lag"`       // seconds
	Queue     func() (float64, error) `expr:"queue"`     // transactions
	Conflicts func() (float64, error) `expr:"conflicts"` // transactions
	Uptime    func() (float64, error) `expr:"uptime"`    // seconds
}

// problem is one problem, for expressions.
type problem struct {
	Kind    string   `expr:"kind"`
	Members []string `expr:"members"`
	Text    string   `expr:"text"`
}

// missingError says which data an expression lacks.
type missingError struct{ what string }

func (e *missingError) Error() string { return e.what }

// tooSoonError says that a rate cannot be told yet: this node has not watched
// for long enough.
type tooSoonError struct{}

func (tooSoonError) Error() string { return "not watched for long enough" }

// newEnv makes the words for one evaluation.
func newEnv(f Facts, samples *samples, now time.Time) env {
	e := env{
		ViewAge: -1, PausedFor: since(f.Paused, now), PlanAge: since(f.Plan, now), Drift: f.Drift, Stopped: f.Stopped,
		Metric: samples.one, Total: samples.total, Highest: samples.highest, Lowest: samples.lowest, Rate: samples.rate, Known: samples.known,
	}
	v := f.View
	if v == nil || v.At.IsZero() {
		e.ViewAge = float64(1 << 31)
		return e
	}
	e.ViewAge = now.Sub(v.At).Seconds()
	e.Cluster, e.Quorum, e.Mode, e.Tolerates = v.Cluster, string(v.Quorum), string(v.Mode), v.Tolerates()
	for _, m := range v.Members {
		e.Members = append(e.Members, newMember(m, f.Out[m.Name], now))
	}
	for _, p := range v.Problems {
		e.Problems = append(e.Problems, problem{Kind: p.Kind, Members: p.Members, Text: p.Text})
	}
	return e
}

func newMember(m topology.Member, out bool, now time.Time) member {
	number := func(get func(*topology.Report) float64) func() (float64, error) {
		return func() (float64, error) {
			if m.Report == nil || now.Sub(m.Heard) > staleView+topology.DefaultPatience {
				return 0, &missingError{m.Name + " gives no numbers"}
			}
			return get(m.Report), nil
		}
	}
	e := member{
		Name: m.Name, State: string(m.State), Why: m.Why, Zone: m.Zone, Site: m.Site, Role: string(m.Role),
		Since: since(m.Since, now), Heard: since(m.Heard, now), Writable: m.Writable, Readable: m.Readable, Stopped: out,
		Lag:       number(func(r *topology.Report) float64 { return r.Lag.Seconds() }),
		Queue:     number(func(r *topology.Report) float64 { return float64(r.Queue) }),
		Conflicts: number(func(r *topology.Report) float64 { return float64(r.Conflicts) }),
		Uptime:    number(func(r *topology.Report) float64 { return r.Uptime.Seconds() }),
	}
	if m.Report != nil {
		e.Version = m.Report.Version
	}
	if e.Why == "" {
		e.Why = "nothing more is known"
	}
	return e
}

func since(t, now time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return now.Sub(t).Seconds()
}

// stale says why the View is no data, or "".
func (e *env) stale() string {
	switch {
	case e.ViewAge >= float64(1<<31):
		return "there is no View of the members yet"
	case e.ViewAge > staleView.Seconds():
		return fmt.Sprintf("the newest View of the members is %.0f s old", e.ViewAge)
	}
	return ""
}
