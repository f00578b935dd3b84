package node

import (
	"context"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/outcome"
	"github.com/perdure/perdure/internal/proxy"
)

// openOutcomes makes what finds out about commits that were never answered.
func (n *Node) openOutcomes() {
	n.finder = outcome.New(n.watch, func(address string) mysql.Login {
		l := n.login
		l.Address = address
		return l
	}, n.log.With("part", "outcome"))
}

// outcomes answers the proxy.
type outcomes struct{ finder *outcome.Finder }

// Committed implements proxy.Outcomes.
func (o outcomes) Committed(ctx context.Context, c proxy.LostCommit) (bool, error) {
	return o.finder.Committed(ctx, outcome.Commit(c))
}
