package route

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/internal/topology"
)

// Service is what a session needs a member for.
type Service uint8

// The services.
const (
	Write Service = iota
	Read
)

func (s Service) String() string {
	if s == Read {
		return "read"
	}
	return "write"
}

// Seat is what outlives plans about one member: how many sessions sit there and
// whether somebody had trouble with it.
type Seat struct {
	Sessions atomic.Int64
	doubted  atomic.Int64 // unix nanoseconds until which it is avoided
}

// Member is one server in a plan.
type Member struct {
	Name    string
	Address string
	Version string
	State   topology.State
	Lag     time.Duration
	Queue   int64
	Seat    *Seat

	Drained bool
	linger  [2]bool
	write   bool
	read    bool
	lost    bool
	refuses bool
	counted bool
}

// Serves tells whether the member may do s under its plan.
func (m *Member) Serves(s Service) bool {
	if s == Read {
		return m.read
	}
	return m.write
}

// Lingers tells whether a drained member could do s all the same: nobody is sent
// there, but who is there may stay until there is a place for it elsewhere.
func (m *Member) Lingers(s Service) bool { return m.linger[s] }

// Lost tells that waiting for an answer of this member is in vain: its group
// does not count on it, or it is gone.
func (m *Member) Lost() bool { return m.lost }

// Refuses tells that nobody listens there any more. The server has ended, and
// its connections with it; or it is about to, once it has answered what it was
// asked.
func (m *Member) Refuses() bool { return m.refuses }

// Counted tells that the member is in the group for all that is known: what it
// committed reaches the others, and what they commit has to reach it.
func (m *Member) Counted() bool { return m.counted }

// counts tells whether a member may be taking writes. Silence proves nothing as
// long as no majority says who is in the group: on a busy machine all members
// can be silent at once.
func counts(s topology.State, q topology.Quorum) bool {
	switch s {
	case topology.Online, topology.Suspect, topology.Unreachable:
		return true
	case topology.Isolated, topology.Down, topology.Unknown:
		return q != topology.HasQuorum
	}
	return false // it says itself that it is not a member, or not yet
}

// Plan is one answer. Nothing in it changes but the seats.
type Plan struct {
	Number  uint64
	Members []*Member // by name
	Holding bool      // nothing new may begin
	// Schema is the member that runs changes of schema: the same in every
	// process that sees the same View. Empty if nothing can be written.
	Schema string
	// Spread tells that more than one member takes writes or, for all that is
	// known, may be taking some.
	Spread bool
	// Funnel is the member all writes go to for now, empty if there is none.
	Funnel  string
	changed chan struct{}
	turn    *atomic.Uint32
}

// Changed is closed when a newer plan is in force.
func (p *Plan) Changed() <-chan struct{} { return p.changed }

// Member returns the member with that name, nil if it is not in the plan.
func (p *Plan) Member(name string) *Member {
	for _, m := range p.Members {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// Can tells whether any member serves s now.
func (p *Plan) Can(s Service) bool {
	return slices.ContainsFunc(p.Members, func(m *Member) bool { return m.Serves(s) })
}

// Pick chooses a member for s: one nobody had trouble with lately, then the one
// with the fewest sessions. It returns nil if none serves s, and leaves out the
// member called not as long as there is another.
func (p *Plan) Pick(s Service, now time.Time, not string) *Member {
	if len(p.Members) == 0 {
		return nil
	}
	var best *Member
	var bestScore [3]int64
	start := int(p.turn.Add(1))
	for i := range p.Members {
		m := p.Members[(start+i)%len(p.Members)]
		if !m.Serves(s) {
			continue
		}
		var score [3]int64
		if m.Name == not {
			score[0]++
		}
		if m.Seat.doubted.Load() > now.UnixNano() {
			score[0]++
		}
		if s == Read {
			// Below a step lag is noise and load counts.
			score[1] = int64(m.Lag / lagStep)
		}
		score[2] = m.Seat.Sessions.Load()
		if best == nil || slices.Compare(score[:], bestScore[:]) < 0 {
			best, bestScore = m, score
		}
	}
	return best
}

// Doubt makes Pick avoid the member for a while, as long as there is another.
func (m *Member) Doubt(until time.Time) { m.Seat.doubted.Store(until.UnixNano()) }

// Trust takes a doubt back: the member answered.
func (m *Member) Trust() {
	if m.Seat.doubted.Load() != 0 {
		m.Seat.doubted.Store(0)
	}
}

// wishes is what the operator and running plans ask of a table.
type wishes struct {
	policy Policy
	drains map[string]bool
	hold   bool
	behind map[string]bool // too far behind for clients
	funnel string          // while set, the only member that takes writes
}

// decide makes the members of a plan. It reads nothing but its arguments.
func decide(v *topology.View, w wishes, seats func(name string) *Seat) (members []*Member, schema string, spread bool) {
	var writable []*Member
	for i := range v.Members {
		t := &v.Members[i]
		m := &Member{
			Name: t.Name, Address: t.Address, State: t.State,
			Drained: w.drains[t.Name], Seat: seats(t.Name), read: t.Readable && !w.drains[t.Name] && !w.behind[t.Name],
		}
		m.counted = counts(t.State, v.Quorum)
		if t.Report != nil {
			m.Version, m.Lag, m.Queue = t.Report.Version, t.Report.Lag, t.Report.Queue
		}
		switch t.State {
		case topology.Unreachable, topology.Isolated:
			m.lost = true
		case topology.Down:
			// Silence alone is no evidence: on a busy machine all are silent at
			// once, and what runs on them would be cut for nothing.
			m.refuses = t.Failure == topology.Refused
			m.lost = m.refuses || v.Quorum == topology.HasQuorum
		}
		if m.Drained {
			m.linger = [2]bool{Write: t.Writable && (w.funnel == "" || w.funnel == t.Name), Read: t.Readable}
		}
		if t.Writable && !m.Drained {
			writable = append(writable, m)
		}
		members = append(members, m)
	}
	// Writes leave it too: what it certifies against is old, and the group is
	// slowed down for it. The only writer stays one.
	if kept := slices.DeleteFunc(slices.Clone(writable), func(m *Member) bool { return w.behind[m.Name] }); len(kept) > 0 {
		writable = kept
	}
	slices.SortFunc(members, func(a, b *Member) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(writable, func(a, b *Member) int {
		return cmp.Or(cmpPreferred(a.Name, b.Name, w.policy.Prefer), cmp.Compare(a.Name, b.Name))
	})
	if len(writable) > 0 {
		schema = writable[0].Name
	}
	if w.policy.Max > 0 && len(writable) > w.policy.Max {
		writable = writable[:w.policy.Max]
	}
	for _, m := range writable {
		m.write = w.funnel == "" || w.funnel == m.Name
	}
	counted := 0
	for _, m := range members {
		if m.Counted() {
			counted++
		}
	}
	return members, schema, counted > 1 && v.Mode != topology.SinglePrimary
}

// How far behind a member may be and still take clients: where the events
// member.lagging and member.flow-control begin. It is reached upwards and left
// at half, so that a member at the edge does not come and go.
const (
	lagMost   = 10 * time.Second
	queueMost = 25_000
)

// behind says which members are too far behind for clients, given which were.
// If all that could be read are, none is: old answers are better than none.
func behind(was map[string]bool, v *topology.View) map[string]bool {
	now := map[string]bool{}
	readable := 0
	for _, m := range v.Members {
		if !m.Readable || m.Report == nil {
			continue
		}
		readable++
		lag, queue := lagMost, int64(queueMost)
		if was[m.Name] {
			lag, queue = lagMost/2, queueMost/2
		}
		if m.Report.Lag >= lag || m.Report.Queue >= queue {
			now[m.Name] = true
		}
	}
	if len(now) == readable {
		return nil
	}
	return now
}

func cmpPreferred(a, b, preferred string) int {
	switch preferred {
	case a:
		return -1
	case b:
		return 1
	}
	return 0
}

// lagStep is the difference in lag that makes one reader better than another.
const lagStep = 500 * time.Millisecond
