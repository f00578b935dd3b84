package group

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/topology"
)

// MaxMembers is how many members Group Replication allows in one group.
const MaxMembers = 9

// Cluster is what the control store knows about a cluster. It names every
// server that may ever have been let into the group: the bootstrap guard asks
// all of them.
type Cluster struct {
	Name    string    `json:"name"`
	Group   string    `json:"group"` // group_replication_group_name
	Created time.Time `json:"created,omitzero"`
	Spec    api.Group `json:"spec"` // settings in force, defaults filled in
	Members []Known   `json:"members"`
	Stopped bool      `json:"stopped,omitempty"` // a human stopped the whole group
	// Former are names the group had before it went on without something that
	// was given up: see fork.
	Former []string `json:"former,omitempty"`
}

// fork gives the group a new name, because it is about to go on without
// transactions that a lost or given-up member may have. Transactions are
// numbered under the group's name: under the old one the group would give its
// next transactions the numbers of those that were lost, and a lost member that
// comes back with them could not be told from one that merely lags.
func (c Cluster) fork() Cluster {
	c.Former = append(slices.Clone(c.Former), c.Group)
	c.Group = newGroupName()
	return c
}

// Known is one member of a cluster.
type Known struct {
	api.Member
	// Slot is the member's number from 1 to 9, for as long as it is a member.
	// Auto-increment offset and server id are made of it.
	Slot    int    `json:"slot"`
	UUID    string `json:"uuid,omitempty"`    // server_uuid, once seen as a member
	Stopped bool   `json:"stopped,omitempty"` // a human took it out
	// GivenUp is set on a member without which the group was forced to go on: the
	// transactions that the others held at that moment. What it has beyond them
	// was numbered under the group's name, as the group's next transactions are,
	// so positions cannot tell the two apart any more. It comes back as a copy,
	// unless it has nothing beyond them.
	GivenUp string `json:"given_up,omitempty"`
}

// beyond is what a server has besides what the others held when it was given
// up; nothing if it never was.
func (m Known) beyond(r *topology.Report) gtid.Set {
	if m.GivenUp == "" || r == nil {
		return gtid.Set{}
	}
	held, err := gtid.Parse(m.GivenUp)
	if err != nil { // written by us; if it is unreadable, everything is doubtful
		return r.Holds()
	}
	return r.Holds().Subtract(held)
}

// Empty tells whether the cluster was never made.
func (c *Cluster) Empty() bool { return c.Group == "" }

// Member returns the known member with that name.
func (c *Cluster) Member(name string) (Known, bool) {
	for _, m := range c.Members {
		if m.Name == name {
			return m, true
		}
	}
	return Known{}, false
}

// Names returns the names of all known members, in order.
func (c *Cluster) Names() []string {
	var out []string
	for _, m := range c.Members {
		out = append(out, m.Name)
	}
	return out
}

// Instances returns what package watch should ask.
func (c *Cluster) Instances() []topology.Instance {
	var out []topology.Instance
	for _, m := range c.Members {
		out = append(out, m.instance())
	}
	return out
}

func (m Known) instance() topology.Instance {
	return topology.Instance{Name: m.Name, Address: m.Address, Zone: m.Zone}
}

// with returns a copy of the cluster with one member changed.
func (c Cluster) with(name string, edit func(*Known)) Cluster {
	c.Members = slices.Clone(c.Members)
	for i := range c.Members {
		if c.Members[i].Name == name {
			edit(&c.Members[i])
		}
	}
	return c
}

// add returns a copy of the cluster with m in the lowest free slot. Slots of
// members that left are used again: there are only nine.
func (c Cluster) add(m api.Member) Cluster {
	taken := map[int]bool{}
	for _, k := range c.Members {
		taken[k.Slot] = true
	}
	slot := 1
	for taken[slot] {
		slot++
	}
	c.Members = append(slices.Clone(c.Members), Known{Member: m, Slot: slot})
	return c
}

// without returns a copy of the cluster that does not know name.
func (c Cluster) without(name string) Cluster {
	c.Members = slices.DeleteFunc(slices.Clone(c.Members), func(m Known) bool { return m.Name == name })
	return c
}

// withDefaults fills in what the file left out.
func withDefaults(g api.Group) api.Group {
	if g.Mode == "" {
		g.Mode = topology.MultiPrimary
	}
	if g.Consistency == "" {
		g.Consistency = "BEFORE_ON_PRIMARY_FAILOVER"
	}
	if g.FlowControl == "" {
		g.FlowControl = "QUOTA"
	}
	if g.FlowThreshold == 0 {
		g.FlowThreshold = 25000
	}
	if g.TransactionLimit == 0 {
		g.TransactionLimit = 150_000_000
	}
	if g.ExpelTimeout == nil {
		g.ExpelTimeout = new(5)
	}
	if g.Sites == 0 {
		g.Sites = 3
	}
	if g.Site == 0 {
		g.Site = 1
	}
	if g.SSLMode == "" {
		g.SSLMode = "REQUIRED"
	}
	if g.Allowlist == "" {
		g.Allowlist = "AUTOMATIC"
	}
	return g
}

// groupAddress is where a member takes the group's own traffic.
func groupAddress(m api.Member) (string, error) {
	if m.GroupAddress != "" {
		return m.GroupAddress, nil
	}
	host, port, err := net.SplitHostPort(m.Address)
	if err != nil {
		return "", fmt.Errorf("member %s: address %q is not host:port", m.Name, m.Address)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n*10+1 > 65535 {
		return "", fmt.Errorf("member %s: port %s leaves no room for the usual group port (port times ten plus one); set group_address", m.Name, port)
	}
	return net.JoinHostPort(host, strconv.Itoa(n*10+1)), nil
}

// serverID is unique among all members of all sites of a cluster, and among
// clusters as far as 23 bits of their group's UUID go.
func serverID(c *Cluster, m Known) uint32 {
	h := crc32.ChecksumIEEE([]byte(c.Group)) & 0x7fffff
	return h<<8 | uint32(c.Spec.Site-1)<<4 | uint32(m.Slot) //nolint:gosec // site <= 16, slot <= 9: checked with the spec
}

// newGroupName makes the UUID of a new group.
func newGroupName() string { return uuid.NewString() }

// newPassword makes a password of 112 random bits that satisfies the usual
// policies of MySQL's password component. Recovery accounts take at most 32
// characters.
func newPassword() string {
	b := make([]byte, 14)
	_, _ = rand.Read(b) // never fails: see crypto/rand
	return "Pd-1" + hex.EncodeToString(b)
}

// newPlan names a plan so that people can say it and lists sort by time. A plan
// without steps is done as it is made; it is kept nowhere and has no id.
func newPlan(kind, title string, steps []plan.Step) plan.Plan {
	b := make([]byte, 2)
	_, _ = rand.Read(b)
	now := time.Now().UTC().Truncate(time.Millisecond)
	if len(steps) == 0 {
		return plan.Plan{Kind: kind, Title: title, State: plan.Done, Created: now, Ended: now}
	}
	for i := range steps {
		steps[i].State = plan.Waiting
	}
	return plan.Plan{
		ID: fmt.Sprintf("%s-%s-%x", kind, now.Format("20060102-150405"), b), Kind: kind, Title: title,
		State: plan.Running, Steps: steps, Created: now,
	}
}
