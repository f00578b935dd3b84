package node

import (
	"context"

	"github.com/perdure/perdure/internal/group"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/run"
	"github.com/perdure/perdure/internal/schedule"
)

// openSchedules makes what begins at times.
func (n *Node) openSchedules() (err error) {
	n.schedules, err = schedule.New(schedule.Needs{
		Entries: n.file.Schedules, Node: n.file.Node.Name, Store: n.control, Hold: n.hold, To: n.publisher(), Log: n.log.With("part", "schedule"),
		Actions: map[string]schedule.Action{
			schedule.Consistency: n.auditAtTime,
			schedule.Stop:        n.planAtTime(n.group.StopGroup),
			schedule.Start:       n.planAtTime(n.group.StartGroup),
			schedule.Restart:     n.planAtTime(n.group.RestartGroup),
		},
	})
	return err
}

func (n *Node) auditAtTime(ctx context.Context, entry string) (string, error) {
	a, err := n.consistency.Ask(ctx, n.consistency.Scope, "schedule "+entry)
	return "audit " + a.ID, err
}

// planAtTime begins a plan, unless one runs or a human asked the automation to
// keep its hands off.
func (n *Node) planAtTime(ask func(context.Context, group.Request) (plan.Plan, error)) schedule.Action {
	return func(ctx context.Context, entry string) (string, error) {
		if err := n.idle(ctx); err != nil {
			return "", err
		}
		paused, err := n.group.Paused(ctx)
		if err != nil {
			return "", err
		}
		if !paused.Since.IsZero() {
			return "", plan.Refuse("`perdure resume`", "%s paused the automation. Nothing was begun.", paused.By)
		}
		p, err := ask(ctx, group.Request{Actor: "schedule " + entry})
		if err != nil {
			return "", err
		}
		if len(p.Steps) == 0 { // it is so already
			return p.Title, nil
		}
		return p.Title + " (" + p.ID + ")", nil
	}
}

// keeping are the parts that look after the group by themselves.
func (n *Node) keeping() []run.Part {
	parts := []run.Part{{Name: "schedules", Run: n.schedules.Run}}
	if n.consistency != nil {
		parts = append(parts, run.Part{Name: "consistency", Run: n.consistency.Run})
	}
	return parts
}
