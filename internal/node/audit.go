package node

import (
	"context"

	"github.com/perdure/perdure/internal/consistency"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/topology"
)

// openConsistency makes the audits of what the members hold, if the file has an
// account for them. It touches no store and no server.
func (n *Node) openConsistency() error {
	c := n.file.Consistency
	if c == nil {
		return nil
	}
	password, err := n.file.Secret(c.Password)
	if err != nil {
		return err
	}
	login := n.login
	login.User, login.Password = c.User, password
	n.consistency = consistency.NewAudits(consistency.Needs{
		Config: consistency.Config{
			Open: func(in topology.Instance) (*mysql.Server, error) {
				l := login
				l.Address = in.Address
				return mysql.Open(in.Name, l)
			},
			Watch: n.watch, Store: n.control, Log: n.log.With("part", "consistency"), BusyShare: c.Busy, IdleShare: c.Idle,
		},
		Scope: c.Scope(), Node: n.file.Node.Name, Keep: c.Keep, Hold: n.hold, Busy: n.idle, To: n.publisher(),
	})
	return nil
}

// idle refuses while a plan runs.
func (n *Node) idle(ctx context.Context) error {
	p, err := n.group.Current(ctx)
	if err != nil || p.ID == "" {
		return err
	}
	return plan.Refuse("wait for it with `perdure op watch "+p.ID+"`", "a plan is running: %s (%s, step %d of %d). Nothing was begun.",
		p.Title, p.ID, p.Done()+1, len(p.Steps))
}
