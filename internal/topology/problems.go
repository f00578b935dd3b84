package topology

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/gtid"
)

// settle is how long after a member left its group the positions are compared.
// Before that, a transaction the member committed last may simply not have
// been seen elsewhere yet.
const settle = 2 * time.Second

// problems lists what a human should know, in a stable order.
func problems(v View, main *camp, all []camp) []Problem {
	var out []Problem
	out = append(out, rivalGroups(v, main, all)...)
	out = append(out, sharedUUIDs(v)...)
	if main != nil {
		out = append(out, strangers(v, main)...)
		out = append(out, errants(v, main)...)
	}
	return append(out, zones(v)...)
}

// rivalGroups finds servers that live in a group that is not ours.
func rivalGroups(v View, main *camp, all []camp) []Problem {
	var out []Problem
	for i, c := range all {
		if main != nil && i == 0 {
			continue
		}
		names := c.names(v)
		switch {
		case main == nil || c.group != main.group:
			out = append(out, Problem{OtherGroup, names, fmt.Sprintf(
				"%s: in a group named %s, which is not this cluster's", strings.Join(names, ", "), c.group)})
		case disjoint(c, *main) && c.quorum != LostQuorum:
			out = append(out, Problem{TwoGroups, names, fmt.Sprintf(
				"two groups with the name %s: %s form one, %s another; each commits by itself",
				c.group, strings.Join(main.names(v), ", "), strings.Join(names, ", "))})
		}
	}
	return out
}

func (c *camp) names(v View) []string {
	var out []string
	for _, x := range c.voters {
		out = append(out, v.Members[x.at].Name)
	}
	slices.Sort(out)
	return out
}

func sharedUUIDs(v View) []Problem {
	var out []Problem
	first := map[string]string{}
	for _, m := range v.Members {
		if m.UUID == "" {
			continue
		}
		if other, taken := first[m.UUID]; taken {
			out = append(out, Problem{SameUUID, []string{other, m.Name}, fmt.Sprintf(
				"%s and %s answer with the same server_uuid %s: one data directory was copied with its auto.cnf, or both names lead to one server",
				other, m.Name, m.UUID)})
			continue
		}
		first[m.UUID] = m.Name
	}
	return out
}

// strangers are members of the group that the configuration does not name.
func strangers(v View, main *camp) []Problem {
	var out []Problem
	for uuid, l := range main.listed {
		if _, ours := v.ByUUID(uuid); ours {
			continue
		}
		at := fmt.Sprintf("%s:%d", l.peer.Host, l.peer.Port)
		out = append(out, Problem{ForeignPeer, []string{at}, fmt.Sprintf(
			"the group has a member that the configuration does not name: %s (%s)", at, uuid)})
	}
	slices.SortFunc(out, func(a, b Problem) int { return strings.Compare(a.Text, b.Text) })
	return out
}

// errants finds members outside the group with transactions the group lacks.
func errants(v View, main *camp) []Problem {
	var group gtid.Set
	var heard time.Time
	for _, x := range main.voters {
		group = group.Union(x.report.Holds())
		if h := v.Members[x.at].Heard; heard.IsZero() || h.Before(heard) {
			heard = h
		}
	}
	var out []Problem
	for _, m := range v.Members {
		outside := m.State == Offline || m.State == Error || m.State == Isolated
		if !outside || heard.Before(m.Since.Add(settle)) {
			continue
		}
		if extra := m.Report.Executed.Subtract(group); !extra.IsEmpty() {
			out = append(out, Problem{Errant, []string{m.Name}, fmt.Sprintf(
				"%s has %d transactions that the group does not have: %s", m.Name, extra.Count(), extra)})
		}
	}
	return out
}

// zones warns when one failure domain holds the majority of the group.
func zones(v View) []Problem {
	count, total := map[string][]string{}, 0
	for _, m := range v.In(Online, Recovering, Suspect, Unreachable) {
		total++
		if m.Zone != "" {
			count[m.Zone] = append(count[m.Zone], m.Name)
		}
	}
	for zone, names := range count {
		if total > 1 && 2*len(names) > total {
			return []Problem{{ZoneRisk, names, fmt.Sprintf(
				"zone %s holds %d of %d members: losing it stops the group", zone, len(names), total)}}
		}
	}
	return nil
}
