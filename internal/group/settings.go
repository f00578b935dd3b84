package group

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/perdure/perdure/internal/topology"
)

// setting is one global variable a member shall have.
type setting struct {
	name, value string
	// online: may be changed while the member is in its group.
	online bool
}

// settings is what a member of the cluster must be set to, in an order that
// the server accepts from any starting point.
func settings(c *Cluster, m Known) ([]setting, error) {
	local, err := groupAddress(m.Member)
	if err != nil {
		return nil, err
	}
	var seeds []string
	for _, k := range c.Members {
		a, err := groupAddress(k.Member)
		if err != nil {
			return nil, err
		}
		seeds = append(seeds, a)
	}
	g := c.Spec
	// One step for all members of all sites, in either mode: a site that takes
	// over, and a session that lived through a switch to multi-primary, go on
	// with values nobody else uses. Gaps are cheaper than collisions.
	step := strconv.Itoa(MaxMembers * g.Sites)
	offset := strconv.Itoa((g.Site-1)*MaxMembers + m.Slot)
	multi, single := "ON", "OFF"
	if g.Mode == topology.SinglePrimary {
		multi, single = "OFF", "ON"
	}
	weight := m.Weight
	if weight == 0 {
		weight = 50
	}
	s := []setting{
		{"server_id", strconv.FormatUint(uint64(serverID(c, m)), 10), false},
		{"auto_increment_increment", step, true},
		{"auto_increment_offset", offset, true},
		{"group_replication_auto_increment_increment", step, false},
		{"group_replication_group_name", c.Group, false},
		{"group_replication_local_address", local, false},
		{"group_replication_group_seeds", strings.Join(seeds, ","), true},
		{"group_replication_ip_allowlist", g.Allowlist, true},
		// A member never joins by itself: before it is expelled it could not,
		// after an outage nobody would be there, and a controller that looks
		// first can do both.
		{"group_replication_start_on_boot", "OFF", true},
	}
	// The server refuses "checks ON" while "single ON" and the other way round.
	mode := []setting{
		{"group_replication_enforce_update_everywhere_checks", "OFF", false},
		{"group_replication_single_primary_mode", single, false},
	}
	if multi == "ON" {
		mode = append(mode, setting{"group_replication_enforce_update_everywhere_checks", multi, false})
	}
	s = append(s, mode...)
	leader := "OFF"
	if g.PaxosSingleLeader {
		leader = "ON"
	}
	return append(s,
		setting{"group_replication_paxos_single_leader", leader, false},
		setting{"group_replication_consistency", g.Consistency, true},
		setting{"group_replication_flow_control_mode", g.FlowControl, true},
		setting{"group_replication_flow_control_applier_threshold", strconv.Itoa(g.FlowThreshold), true},
		setting{"group_replication_flow_control_certifier_threshold", strconv.Itoa(g.FlowThreshold), true},
		setting{"group_replication_transaction_size_limit", strconv.Itoa(g.TransactionLimit), true},
		setting{"group_replication_member_expel_timeout", strconv.Itoa(*g.ExpelTimeout), true},
		setting{"group_replication_member_weight", strconv.Itoa(weight), true},
		setting{"group_replication_ssl_mode", g.SSLMode, false},
		setting{"group_replication_recovery_use_ssl", "ON", true},
		setting{"group_replication_communication_stack", "XCOM", false},
	), nil
}

// differing returns which of the wanted settings a server has otherwise.
// Settings the server does not know (an older version) do not count.
func differing(want []setting, have map[string]string) []setting {
	last := map[string]string{} // a setting may be wanted twice, for the order's sake
	for _, s := range want {
		last[s.name] = s.value
	}
	var out []setting
	for _, s := range want {
		value, known := have[s.name]
		if known && !sameValue(value, last[s.name]) {
			out = append(out, s)
		}
	}
	return out
}

func sameValue(a, b string) bool {
	return strings.EqualFold(onOff(a), onOff(b))
}

func onOff(v string) string {
	switch v {
	case "1":
		return "ON"
	case "0":
		return "OFF"
	}
	return v
}

func (s setting) String() string { return fmt.Sprintf("%s = %s", s.name, s.value) }
