package group

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/topology"
)

// switchLimit bounds a change of mode: the group waits for transactions that
// are open.
const switchLimit = time.Minute

// switchMode changes between multi-primary and single-primary, online.
func (a *actor) switchMode(ctx context.Context, to string, j plan.Journal) error {
	v, err := a.look(ctx, nil)
	if err != nil {
		return err
	}
	if string(v.Mode) != to {
		online := v.In(topology.Online)
		if len(online) == 0 {
			return fmt.Errorf("no member is ONLINE: %s", states(v))
		}
		first := online[0]
		for _, m := range online {
			if weight(a, ctx, m.Name) > weight(a, ctx, first.Name) {
				first = m
			}
		}
		server, err := a.server(Known{Member: specOf(first)})
		if err != nil {
			return err
		}
		if err := a.trusted(ctx); err != nil {
			return err
		}
		limited, cancel := context.WithTimeoutCause(ctx, switchLimit, errors.New("open transactions did not end within "+switchLimit.String()))
		defer cancel()
		if to == string(topology.MultiPrimary) {
			err = server.SwitchToMultiPrimary(limited)
		} else {
			j.Note("%s becomes the only primary", first.Name)
			err = server.SwitchToSinglePrimary(limited, first.UUID)
		}
		if err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeoutCause(ctx, switchLimit, errors.New("not every member follows"))
	defer cancel()
	v, err = a.watch.Until(limited, func(v *topology.View) bool { return string(v.Mode) == to && len(writable(v)) > 0 })
	if err != nil {
		return fmt.Errorf("switch to %s: %w", to, err)
	}
	return a.persistMode(ctx, v, to)
}

// persistMode lets every member start in the new mode next time.
func (a *actor) persistMode(ctx context.Context, v *topology.View, to string) error {
	single, checks := "OFF", "ON"
	if to == string(topology.SinglePrimary) {
		single, checks = "ON", "OFF"
	}
	for _, m := range v.In(topology.Online, topology.Recovering) {
		server, err := a.server(Known{Member: specOf(m)})
		if err != nil {
			return err
		}
		if d, err := server.Dialect(ctx); err != nil || d.RDS {
			return err
		}
		if err := server.PersistOnly(ctx, map[string]string{
			"group_replication_single_primary_mode": single, "group_replication_enforce_update_everywhere_checks": checks,
		}); err != nil {
			return err
		}
	}
	return nil
}

func weight(a *actor, ctx context.Context, name string) int {
	if m, err := a.memberOf(ctx, name); err == nil && m.Weight != 0 {
		return m.Weight
	}
	return 50
}

// quiesce closes the group for writes and waits until every member has applied
// everything, so that any of them can start it again.
func (a *actor) quiesce(ctx context.Context, j plan.Journal) error {
	v, err := a.look(ctx, nil)
	if err != nil {
		return err
	}
	for _, m := range v.In(topology.Online) {
		server, err := a.server(Known{Member: specOf(m)})
		if err != nil {
			return err
		}
		if err := server.SetReadOnly(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, onlineLimit, errors.New("not every member applied everything"))
	defer cancel()
	_, err = a.watch.Until(ctx, func(v *topology.View) bool {
		var all gtid.Set
		online := v.In(topology.Online)
		for _, m := range online {
			all = all.Union(m.Report.Holds())
		}
		for _, m := range online {
			if left := all.Subtract(m.Report.Executed); !left.IsEmpty() || !m.Report.SuperReadOnly {
				j.Note("%s has %d transactions to apply", m.Name, left.Count())
				return false
			}
		}
		return true
	})
	return err
}

// reopen gives the primaries back to writers.
func (a *actor) reopen(ctx context.Context) error {
	v, err := a.look(ctx, nil)
	if err != nil {
		return err
	}
	for _, m := range v.In(topology.Online) {
		if m.Role != topology.Primary {
			continue
		}
		server, err := a.server(Known{Member: specOf(m)})
		if err != nil {
			return err
		}
		if err := server.SetWritable(ctx); err != nil {
			return err
		}
	}
	return nil
}

// verify waits until the cluster is what its document says; with only, it looks
// at that member alone: another one that is out must not send this one away.
func (a *actor) verify(ctx context.Context, only string, j plan.Journal) error {
	c, _, err := a.doc.Get(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("30 s were not enough"))
	defer cancel()
	var missing []string
	v, err := a.watch.Until(ctx, func(v *topology.View) bool {
		missing = nil
		for _, m := range c.Members {
			if x, _ := v.Member(m.Name); !m.Stopped && x.State != topology.Online && (only == "" || only == m.Name) {
				missing = append(missing, fmt.Sprintf("%s is %s", m.Name, x.State))
			}
		}
		return len(missing) == 0 && v.Quorum == topology.HasQuorum && v.Mode == c.Spec.Mode && len(writable(v)) > 0
	})
	if err != nil {
		return fmt.Errorf("the cluster is not as it should be: quorum %s, mode %s, %s: %w", v.Quorum, v.Mode, strings.Join(missing, ", "), err)
	}
	j.Note("%d members ONLINE, %d accept writes", len(v.In(topology.Online)), len(writable(v)))
	return nil
}
