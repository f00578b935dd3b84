package group

import (
	"context"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/topology"
)

// stillFor is how long a member applies nothing, though there is something to
// apply, before its error log is read.
const stillFor = 15 * time.Second

// pulse is how far a member was when it was last seen to move.
type pulse struct {
	executed gtid.Set
	since    time.Time
	asked    time.Time // when its error log was read
	said     string    // what healing makes of it, "" if nothing
}

// standsStill updates pulses and tells which members of the group have not moved
// for long although others have more.
func standsStill(pulses map[string]pulse, v *topology.View, now time.Time) []topology.Member {
	var all gtid.Set
	online := v.In(topology.Online)
	for _, m := range online {
		all = all.Union(m.Report.Executed)
	}
	var out []topology.Member
	seen := map[string]bool{}
	for _, m := range online {
		seen[m.Name] = true
		p, known := pulses[m.Name]
		if !known || !p.executed.Equal(m.Report.Executed) || m.Report.Executed.Contains(all) {
			pulses[m.Name] = pulse{executed: m.Report.Executed, since: now}
			continue
		}
		if now.Sub(p.since) >= stillFor {
			out = append(out, m)
		}
	}
	for name := range pulses {
		if !seen[name] {
			delete(pulses, name)
		}
	}
	return out
}

// ailing finds members that are in the group and cannot go on for a reason that
// only a human can remove: a disk without room. Such a server waits, and goes on
// by itself.
func (h *healer) ailing(ctx context.Context, v *topology.View, now time.Time) Remedy {
	for _, m := range standsStill(h.pulses, v, now) {
		p := h.pulses[m.Name]
		if now.Sub(p.asked) >= stillFor {
			p.asked, p.said = now, ""
			if server, err := h.server(Known{Member: specOf(m)}); err == nil {
				ask, cancel := context.WithTimeout(ctx, lookLimit)
				lines, err := server.LoggedErrors(ask, now.Sub(p.since)+logAge)
				cancel()
				if err == nil && diagnose(lines) == Disk {
					p.said = lines
				}
			}
			h.pulses[m.Name] = p
		}
		if p.said != "" {
			return Remedy{Do: Ask, Member: m.Name, Why: fmt.Sprintf("%s is %s and has applied nothing for %s (%s): %s. Make room there; it goes on by itself",
				m.Name, m.State, now.Sub(p.since).Round(time.Second), Disk, p.said)}
		}
	}
	return Remedy{}
}
