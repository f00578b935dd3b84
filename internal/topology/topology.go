// Package topology holds the words for servers and groups, and the judgement
// that turns what several servers say into one View.
//
// Nothing here talks to a server or reads a clock. Package watch collects
// Observations; Judge makes a View of them; everybody else reads Views.
package topology

import (
	"time"

	"github.com/perdure/perdure/internal/gtid"
)

// Instance is one configured MySQL server.
type Instance struct {
	Name    string `json:"name"`    // short, unique in the cluster
	Address string `json:"address"` // host:port of the MySQL protocol
	Site    string `json:"site,omitempty"`
	Zone    string `json:"zone,omitempty"` // failure domain inside the site
}

// State is what we believe about one member.
type State string

// The states of a member. Only Online members take traffic.
const (
	// Unknown: we never got an answer and no group lists it.
	Unknown State = "UNKNOWN"
	// Online: it says so and the majority agrees.
	Online State = "ONLINE"
	// Recovering: joined, fetching what it missed.
	Recovering State = "RECOVERING"
	// Suspect: it does not answer us; its group still counts on it.
	Suspect State = "SUSPECT"
	// Unreachable: its group suspects it too, and has not expelled it yet.
	Unreachable State = "UNREACHABLE"
	// Isolated: it believes to be in a group, the majority does not list it.
	// Its reads are stale and its writes will be rolled back.
	Isolated State = "ISOLATED"
	// Offline: it answers and is in no group.
	Offline State = "OFFLINE"
	// Error: it answers and the group threw it out or it gave up.
	Error State = "ERROR"
	// Down: it does not answer and no group lists it.
	Down State = "DOWN"
)

// Role of a member in its group.
type Role string

// Roles as Group Replication names them.
const (
	Primary   Role = "PRIMARY"
	Secondary Role = "SECONDARY"
)

// Mode of a group.
type Mode string

// Modes of a group.
const (
	MultiPrimary  Mode = "multi-primary"
	SinglePrimary Mode = "single-primary"
)

// Peer is one row of a server's own membership table: what that server says
// about one member of its group, itself included.
type Peer struct {
	UUID    string `json:"uuid"`
	Host    string `json:"host"`
	Port    int    `json:"port"`
	State   string `json:"state"` // ONLINE, RECOVERING, UNREACHABLE, OFFLINE, ERROR
	Role    Role   `json:"role"`
	Version string `json:"version"`
}

// Report is what one server said in one answer. It is never changed after it
// was read.
type Report struct {
	UUID          string `json:"uuid"`
	ServerID      uint32 `json:"server_id"`
	Version       string `json:"version"`
	ReadOnly      bool   `json:"read_only"`
	SuperReadOnly bool   `json:"super_read_only"`
	OfflineMode   bool   `json:"offline_mode"`
	GroupName     string `json:"group_name,omitempty"`
	SinglePrimary bool   `json:"single_primary,omitempty"`
	ExpelTimeout  int    `json:"expel_timeout,omitempty"` // seconds
	StatsPeriod   int    `json:"stats_period,omitempty"`  // seconds between two messages about its load to the group
	Peers         []Peer `json:"peers,omitempty"`

	// Executed is what the server committed. Received is what the group
	// certified and handed to this server, applied or not: after an outage it
	// still counts, for it lies in the relay log.
	Executed gtid.Set `json:"executed"`
	Received gtid.Set `json:"received"`

	Stats                   // asked for apart, a second older at most
	Lag       time.Duration `json:"lag_ns"`             // age of the oldest transaction being applied, 0 if none
	Uptime    time.Duration `json:"uptime_ns"`          // of the server process, whole seconds
	Recovery  string        `json:"recovery,omitempty"` // state of the recovery channel's threads, if it exists
	LastError string        `json:"last_error,omitempty"`
}

// Stats is what a group counts about one member.
type Stats struct {
	ViewID    string `json:"view_id,omitempty"` // of the group's membership
	Queue     int64  `json:"queue"`             // certified transactions waiting to be applied
	Conflicts int64  `json:"conflicts"`         // transactions that lost certification, since it joined
}

// Self returns the row a server has about itself, and false if it is in no
// group.
func (r *Report) Self() (Peer, bool) {
	for _, p := range r.Peers {
		if p.UUID == r.UUID {
			return p, true
		}
	}
	return Peer{}, false
}

// Holds is everything the server has or will have once it applied what it
// already received.
func (r *Report) Holds() gtid.Set { return r.Executed.Union(r.Received) }

// Failure says how a question to a server failed. It matters: a refused
// connection is the host's own word that the process is gone, silence is not.
type Failure string

// The ways to fail.
const (
	Answers Failure = ""        // it did not fail
	Refused Failure = "refused" // the host answered: nobody listens there
	Silent  Failure = "silent"  // no answer in time
	Denied  Failure = "denied"  // the server answered and did not let us in
	Broken  Failure = "broken"  // anything else
)

// Observation is what we know first-hand about one instance.
type Observation struct {
	Instance Instance
	Report   *Report   // the last good answer, nil if there was none
	Heard    time.Time // when that answer was complete
	Failure  Failure   // how the newest question ended
	Error    string    // the same in words, no secrets
	Failing  time.Time // since when questions fail; zero while they do not
	Asked    time.Time // when the newest question that ended was sent
}

// Member is what we believe about one instance.
type Member struct {
	Instance
	UUID     string    `json:"uuid,omitempty"`
	State    State     `json:"state"`
	Since    time.Time `json:"since"`         // when the state was first believed
	Why      string    `json:"why,omitempty"` // the evidence, one sentence, if not plainly healthy
	Role     Role      `json:"role,omitempty"`
	Writable bool      `json:"writable"` // a transaction sent now can commit
	Readable bool      `json:"readable"` // a read sent now is not stale
	Failure  Failure   `json:"failure,omitempty"`
	Report   *Report   `json:"report,omitempty"` // last good answer, may be old: see Heard
	Heard    time.Time `json:"heard"`
}

// Quorum says whether the group can commit.
type Quorum string

// The answers to "can the group commit?".
const (
	HasQuorum  Quorum = "yes"
	LostQuorum Quorum = "lost" // a group exists and lacks its majority
	NoGroup    Quorum = "none" // nobody is in a group
	Unsure     Quorum = "unsure"
)

// Problem is something a human should know, by kind so that programs can tell
// them apart too.
type Problem struct {
	Kind    string   `json:"kind"`
	Members []string `json:"members,omitempty"`
	Text    string   `json:"text"`
}

// Kinds of problem that Judge finds.
const (
	TwoGroups   = "two-groups"   // two groups with one name
	ForeignPeer = "foreign-peer" // the group has a member we do not know
	OtherGroup  = "other-group"  // a member of ours is in a group with another name
	Errant      = "errant"       // a member has transactions its group does not have
	SameUUID    = "same-uuid"    // two servers answer with one server_uuid
	ZoneRisk    = "zone-majority"
)

// View is what we believe about all members at one moment. It is never changed
// after Judge made it.
type View struct {
	Number   uint64    `json:"number"` // grows whenever the judgement changed
	At       time.Time `json:"at"`
	Cluster  string    `json:"cluster"`
	Group    string    `json:"group,omitempty"` // group name in force
	Mode     Mode      `json:"mode,omitempty"`
	Quorum   Quorum    `json:"quorum"`
	Members  []Member  `json:"members"` // in the order of the configuration
	Problems []Problem `json:"problems,omitempty"`
}

// Member returns the member with that name.
func (v *View) Member(name string) (Member, bool) {
	for _, m := range v.Members {
		if m.Name == name {
			return m, true
		}
	}
	return Member{}, false
}

// ByUUID returns the member with that server UUID.
func (v *View) ByUUID(uuid string) (Member, bool) {
	for _, m := range v.Members {
		if m.UUID == uuid && uuid != "" {
			return m, true
		}
	}
	return Member{}, false
}

// In returns the members in one of the states.
func (v *View) In(states ...State) []Member {
	var out []Member
	for _, m := range v.Members {
		for _, s := range states {
			if m.State == s {
				out = append(out, m)
			}
		}
	}
	return out
}

// Listed tells whether one of these members counts that server to its group.
func Listed(by []Member, uuid string) bool {
	for _, m := range by {
		for _, p := range m.Report.Peers {
			if p.UUID == uuid {
				return true
			}
		}
	}
	return false
}

// Tolerates is the number of members that may fail now, one after the other
// and without warning, before the group stops committing. It is -1 without
// quorum.
func (v *View) Tolerates() int {
	if v.Quorum != HasQuorum {
		return -1
	}
	// The group counts everybody it lists, also those that already are silent.
	listed := len(v.In(Online, Recovering, Suspect, Unreachable))
	silent := len(v.In(Suspect, Unreachable))
	return max(0, (listed-1)/2-silent)
}
