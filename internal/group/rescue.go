package group

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/topology"
)

// forceGroup makes the members that are left the whole group.
func (a *actor) forceGroup(ctx context.Context, s *plan.Step, j plan.Journal) error {
	v, err := a.look(ctx, nil)
	if err != nil {
		return err
	}
	if v.Quorum == topology.HasQuorum {
		j.Note("the group has its majority")
		return nil
	}
	missing := list(s.Args["missing"])
	var left []string
	var first topology.Member
	for _, m := range v.Members {
		switch {
		case m.State == topology.Online:
			k, err := a.memberOf(ctx, m.Name)
			if err != nil {
				return err
			}
			address, err := groupAddress(k.Member)
			if err != nil {
				return err
			}
			left = append(left, address)
			if first.Name == "" {
				first = m
			}
		case listedByOthers(v, m.UUID) && !slices.Contains(missing, m.Name):
			return plan.Refuse("`perdure status`", "%s is %s and was not given up", m.Name, m.State)
		}
	}
	if len(left) == 0 {
		return plan.Refuse("`perdure group start`", "no member is in the group any more")
	}
	server, err := a.server(Known{Member: specOf(first)})
	if err != nil {
		return err
	}
	if err := a.giveUp(ctx, v, missing); err != nil {
		return err
	}
	if err := a.trusted(ctx); err != nil {
		return err
	}
	if err := server.Force(ctx, left); err != nil {
		return err
	}
	limited, cancel := context.WithTimeoutCause(ctx, expelLimit, errors.New("the group still lacks its majority"))
	defer cancel()
	_, err = a.watch.Until(limited, func(v *topology.View) bool { return v.Quorum == topology.HasQuorum && len(writable(v)) > 0 })
	return err
}

// giveUp notes, before the group goes on without them, what the others hold:
// whoever comes back with more than that has transactions that were lost.
func (a *actor) giveUp(ctx context.Context, v *topology.View, lost []string) error {
	var held gtid.Set
	for _, m := range v.In(topology.Online) {
		held = held.Union(m.Report.Holds())
	}
	_, err := a.doc.Change(ctx, a.fence, func(c *Cluster) error {
		for _, name := range lost {
			*c = c.with(name, func(k *Known) {
				if k.GivenUp == "" {
					k.GivenUp = held.String()
				}
			})
		}
		return nil
	})
	return err
}

// forgetReceived deletes what a member received and could not apply.
func (a *actor) forgetReceived(ctx context.Context, m Known, j plan.Journal) error {
	_, x, in, err := a.inGroup(ctx, m.Name)
	if err != nil {
		return err
	}
	if in || x.Report == nil {
		j.Note("it is %s", x.State)
		return nil
	}
	server, err := a.server(m)
	if err != nil {
		return err
	}
	j.Note("%d received transactions forgotten", x.Report.Received.Subtract(x.Report.Executed).Count())
	return server.ForgetReceived(ctx)
}

// salvage saves what only this member has to a file that people can read.
func (a *actor) salvage(ctx context.Context, m Known, j plan.Journal) error {
	v, err := a.look(ctx, nil)
	if err != nil {
		return err
	}
	x, _ := v.Member(m.Name)
	if x.Report == nil {
		return fmt.Errorf("%s: %s", m.Name, x.Why)
	}
	var others gtid.Set
	for _, o := range v.Members {
		if o.Name != m.Name && o.Report != nil {
			others = others.Union(o.Report.Executed)
		}
	}
	own := x.Report.Executed.Subtract(others).Union(m.beyond(x.Report).Intersect(x.Report.Executed))
	never := x.Report.Received.Subtract(x.Report.Executed).Subtract(others)
	if own.IsEmpty() && never.IsEmpty() {
		j.Note("it has nothing of its own")
		return nil
	}
	if own.IsEmpty() { // in no binary log, never visible to anybody
		j.Note("it has nothing of its own but what it received and never applied: %s", describe(never))
		return nil
	}
	if a.Salvage == "" || a.Binlog == nil {
		return plan.Refuse("save them by hand (mysqlbinlog), then `perdure member rejoin "+m.Name+" --clone-over "+m.Name+"`",
			"%s alone has %s, and this node has no directory or no mysqlbinlog to save them with", m.Name, describe(own))
	}
	tool, err := a.Binlog()
	if err != nil {
		return &plan.HintedError{
			Err:  fmt.Errorf("%s alone has %s, and they cannot be saved: %w", m.Name, describe(own), err),
			Hint: "install the MySQL client programs on this node",
		}
	}
	if err := os.MkdirAll(a.Salvage, 0o700); err != nil {
		return err
	}
	server, err := a.server(m)
	if err != nil {
		return err
	}
	path := filepath.Join(a.Salvage, fmt.Sprintf("%s-%s.sql", m.Name, time.Now().UTC().Format("20060102-150405.000")))
	if err := server.SaveTransactions(ctx, tool, own, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	j.Note("%d transactions that only it has are saved in %s", own.Count(), path)
	return nil
}
