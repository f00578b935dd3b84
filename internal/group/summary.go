package group

import (
	"fmt"
	"strings"

	"github.com/perdure/perdure/internal/topology"
)

// Levels of a summary.
const (
	OK       = "ok"
	Degraded = "degraded"
	Down     = "down"
)

// Summary says in one sentence what the cluster can still lose and what to do
// next. running is the title of the plan that runs, if one does.
func Summary(c Cluster, v *topology.View, running string) (level, sentence string) {
	level, sentence = summary(c, v)
	if running != "" {
		sentence += " Running now: " + running + "."
	}
	return level, sentence
}

func summary(c Cluster, v *topology.View) (level, sentence string) {
	for _, p := range v.Problems {
		if p.Kind == topology.TwoGroups {
			return Down, "Two groups with one name: " + p.Text + ". Stop one of them: STOP GROUP_REPLICATION on its members, then `perdure member rejoin NAME`."
		}
	}
	switch {
	case c.Empty() && len(v.Members) == 0:
		return Down, "There is no cluster yet. Describe one in perdure.yaml and run `perdure apply`."
	case c.Stopped && v.Quorum == topology.NoGroup:
		return Down, fmt.Sprintf("Cluster %s is stopped. Start it: `perdure group start`.", c.Name)
	case v.Quorum == topology.NoGroup:
		return Down, fmt.Sprintf("No member of cluster %s is in a group: nothing can be read or written. Start it: `perdure group start`.", c.Name)
	case v.Quorum == topology.LostQuorum:
		return Down, fmt.Sprintf("The group lost its majority (%s): writes block until it is back. Bring members back before anything is forced.", outs(c, v))
	case v.Quorum == topology.Unsure:
		return Down, fmt.Sprintf("Too few members answer this node to tell whether the group can write (%s). Check the network from here.", outs(c, v))
	}
	return running(c, v)
}

// running is the sentence about a group that commits.
func running(c Cluster, v *topology.View) (level, sentence string) {
	online, tolerates := len(v.In(topology.Online)), v.Tolerates()
	can := fmt.Sprintf("The group of %d can lose %s and go on", online, members(tolerates))
	if tolerates == 0 {
		can = fmt.Sprintf("The group of %d cannot lose another member", online)
	}
	if len(writable(v)) == 0 {
		return Down, "The group has its majority, but no member accepts writes: look at `perdure status` and the members' super_read_only."
	}
	missing := outs(c, v)
	switch {
	case missing != "":
		return Degraded, can + ": " + missing + ". " + next(c, v)
	case len(v.Problems) > 0:
		return Degraded, can + ". But " + v.Problems[0].Text + "."
	case online < 3:
		return OK, can + ". Three members would survive the loss of one."
	}
	return OK, can + "; nothing to do."
}

func members(n int) string {
	if n == 1 {
		return "one member"
	}
	return fmt.Sprintf("%d members, one after the other,", n)
}

// outs names the members that are not as they should be.
func outs(c Cluster, v *topology.View) string {
	var out []string
	for _, m := range v.Members {
		k, _ := c.Member(m.Name)
		switch {
		case m.State == topology.Online:
		case k.Stopped:
			out = append(out, m.Name+" is stopped")
		default:
			out = append(out, fmt.Sprintf("%s is %s", m.Name, m.State))
		}
	}
	return strings.Join(out, ", ")
}

// next is the command for the first member that is out.
func next(c Cluster, v *topology.View) string {
	for _, m := range v.Members {
		k, _ := c.Member(m.Name)
		switch {
		case m.State == topology.Online:
		case k.Stopped:
			return "Start it again: `perdure member start " + m.Name + "`."
		case m.State == topology.Offline, m.State == topology.Error:
			return "Bring it back: `perdure member rejoin " + m.Name + "`."
		case m.State == topology.Recovering:
			return "Wait until it has caught up."
		case m.State == topology.Isolated:
			return "Wait: it takes no traffic, and rejoins by itself or falls out."
		default:
			return "Start or wake mysqld on " + m.Name + ", then `perdure member rejoin " + m.Name + "`."
		}
	}
	return ""
}
