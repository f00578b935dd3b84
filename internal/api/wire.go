package api

import (
	"time"

	"github.com/perdure/perdure/internal/topology"
)

// Ask is what every change can carry.
type Ask struct {
	AcceptLoss []string `json:"accept_loss,omitempty" doc:"Members that cannot be reached and whose own transactions may be lost."`
	CloneOver  []string `json:"clone_over,omitempty" doc:"Members whose own transactions may be lost: their data are replaced by a copy."`
	Method     string   `json:"method,omitempty" enum:"auto,clone,incremental" doc:"How new members get their data. Default auto."`
	DryRun     bool     `json:"dry_run,omitempty" doc:"Decide and answer with the plan, and do nothing."`
}

// Apply asks that the cluster become what Spec says.
type Apply struct {
	Ask
	Spec   Spec     `json:"spec"`
	Remove []string `json:"remove,omitempty" doc:"Members that leave the cluster. Absence from the spec is not enough."`
}

// AddMember asks for one more member.
type AddMember struct {
	Ask
	Member Member `json:"member"`
}

// Upgrade asks for a rolling upgrade.
type Upgrade struct {
	Ask
	To string `json:"to,omitempty" doc:"The version every member shall run; those that do are left alone. Default: whatever comes back."`
}

// SetGroup changes settings of the group; fields left out stay as they are.
type SetGroup struct {
	Ask
	Mode             *topology.Mode `json:"mode,omitempty" enum:"multi-primary,single-primary"`
	Consistency      *string        `json:"consistency,omitempty" enum:"EVENTUAL,BEFORE_ON_PRIMARY_FAILOVER,BEFORE,AFTER,BEFORE_AND_AFTER"`
	FlowControl      *string        `json:"flow_control,omitempty" enum:"QUOTA,DISABLED"`
	FlowThreshold    *int           `json:"flow_threshold,omitempty" minimum:"1" maximum:"2147483647"`
	TransactionLimit *int           `json:"transaction_limit,omitempty" minimum:"1" maximum:"2147483647"`
	ExpelTimeout     *int           `json:"expel_timeout,omitempty" minimum:"0" maximum:"3600"`
}

// Operation is a change that takes several steps, as its journal tells.
type Operation struct {
	ID      string          `json:"id" doc:"Empty if there was nothing to do or nothing was to be done."`
	Kind    string          `json:"kind"`
	Title   string          `json:"title"`
	State   string          `json:"state" enum:"planned,running,undoing,done,undone,failed"`
	Steps   []OperationStep `json:"steps"`
	Error   string          `json:"error,omitempty"`
	Hint    string          `json:"hint,omitempty" doc:"What to do next."`
	Refused bool            `json:"refused,omitempty" doc:"A safety rule said no; nothing was changed, or all was taken back."`
	Actor   string          `json:"actor,omitempty"`
	Node    string          `json:"node,omitempty"`
	Created time.Time       `json:"created"`
	Ended   time.Time       `json:"ended,omitzero"`
}

// Over tells whether the operation has ended.
func (o *Operation) Over() bool { return o.State != "running" && o.State != "undoing" }

// OperationStep is one step of an operation.
type OperationStep struct {
	Name   string    `json:"name"`
	Member string    `json:"member,omitempty"`
	State  string    `json:"state"`
	Note   string    `json:"note,omitempty"`
	Begin  time.Time `json:"begin,omitzero"`
	End    time.Time `json:"end,omitzero"`
}

// Status is the cluster as it is now.
type Status struct {
	Summary string        `json:"summary" doc:"One sentence: what the cluster can still lose, and what to do next."`
	Level   string        `json:"level" enum:"ok,degraded,down" doc:"ok: as it should be. degraded: works, something is missing. down: cannot commit."`
	Node    string        `json:"node" doc:"The node that answers."`
	Control string        `json:"control,omitempty" doc:"Why the control store does not answer, if it does not."`
	Nodes   *Nodes        `json:"nodes,omitempty" doc:"Where there are several nodes."`
	View    topology.View `json:"view"`
	Cluster *Cluster      `json:"cluster,omitempty"`
	Running *Operation    `json:"running,omitempty"`
	Paused  *Pause        `json:"paused,omitempty" doc:"Set while healing is paused."`
	Asking  string        `json:"asking,omitempty" doc:"What healing cannot do without a human."`
}

// Cluster is what was asked for and recorded.
type Cluster struct {
	Name    string          `json:"name"`
	Group   string          `json:"group"`
	Spec    Group           `json:"spec"`
	Members []ClusterMember `json:"members"`
	Stopped bool            `json:"stopped,omitempty"`
}

// ClusterMember is one recorded member.
type ClusterMember struct {
	Member
	Slot    int  `json:"slot"`
	Stopped bool `json:"stopped,omitempty"`
}

// Finding is something about a server or a table that Group Replication, or
// Perdure, will refuse or that costs safety.
type Finding struct {
	Member   string `json:"member,omitempty"`
	Kind     string `json:"kind"`
	Severity string `json:"severity" enum:"refuses,warns"`
	Subject  string `json:"subject"`
	Text     string `json:"text"`
	SQL      string `json:"sql,omitempty" doc:"A statement that fixes it."`
}

// Checked is the answer of a check.
type Checked struct {
	Findings []Finding `json:"findings"`
	Tables   int       `json:"tables,omitempty" doc:"How many tables were looked at."`
}

// CheckServers asks for a look at servers; none means all members.
type CheckServers struct {
	Members []Member `json:"members,omitempty"`
}

// Proxy is the proxy of one node as it is now.
type Proxy struct {
	Node      string            `json:"node"`
	Writers   string            `json:"writers" doc:"The writer policy: spread, pinned:NAME or a number."`
	Listeners map[string]string `json:"listeners" doc:"Addresses by mode: rw, ro, split."`
	Members   []ProxyMember     `json:"members"`
	Pins      map[string]int    `json:"pins" doc:"Sessions that cannot move, by reason."`
}

// ProxyMember is one member as a proxy uses it.
type ProxyMember struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	Sessions int64  `json:"sessions"`
	Writes   bool   `json:"writes"`
	Reads    bool   `json:"reads"`
	Drained  bool   `json:"drained,omitempty"`
}

// SetWriters changes the writer policy.
type SetWriters struct {
	Writers string `json:"writers" doc:"spread, pinned, pinned:NAME or a number."`
}

// Drain asks to take a member out of use.
type Drain struct {
	Wait int `json:"wait,omitempty" minimum:"0" maximum:"60" doc:"Seconds to wait until its sessions have left."`
}

// Drained says how far a drain is.
type Drained struct {
	Left int `json:"left" doc:"Sessions of this node's proxy that still sit on the member."`
}

// Session is one session of a proxy.
type Session struct {
	ID       uint32        `json:"id"`
	User     string        `json:"user"`
	Client   string        `json:"client"`
	Listener string        `json:"listener"`
	Member   string        `json:"member,omitempty"`
	State    string        `json:"state"`
	For      time.Duration `json:"for_ns"`
	Queries  int64         `json:"queries"`
	Moves    int64         `json:"moves"`
	Pins     []string      `json:"pins,omitempty"`
	PinnedBy string        `json:"pinned_by,omitempty"`
}

// Pause is maintenance mode.
type Pause struct {
	Since time.Time `json:"since,omitzero"`
	By    string    `json:"by,omitempty"`
	Why   string    `json:"why,omitempty"`
}

// RetryDeadLetter takes a dead letter up again.
type RetryDeadLetter struct {
	Statements []Statement `json:"statements,omitempty" doc:"Statements to use instead of its own. Default: as it is."`
}

// Statement is SQL with bound values for its question marks.
type Statement struct {
	SQL  string `json:"sql"`
	Args []any  `json:"args,omitempty"`
}

// Drill asks for a fault made on purpose.
type Drill struct {
	Kind   string `json:"kind" enum:"kill,hang,stall,stop,drain,quorum-loss,outage"`
	Member string `json:"member,omitempty" doc:"Who is hit. Default: the last member."`
}

// DrillReport is what a drill found. Times are milliseconds since the fault, -1
// where it did not come to it.
type DrillReport struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"`
	Members   []string  `json:"members"`
	At        time.Time `json:"at"`
	Detect    int64     `json:"detect_ms"`
	Notice    int64     `json:"notice_ms"`
	Decide    int64     `json:"decide_ms"`
	Act       int64     `json:"act_ms"`
	Normal    int64     `json:"normal_ms"`
	Writes    int64     `json:"writes"`
	Failed    int64     `json:"failed"`
	Pause     int64     `json:"longest_pause_ms"`
	Error     string    `json:"error,omitempty"`
	Recovered bool      `json:"recovered"`
}
