package mysql

import (
	"context"
	"errors"
	"strings"
	"time"
)

// JoinLimit bounds START and STOP GROUP_REPLICATION. The server itself gives
// up a join after 60 s; the rest is for a busy machine.
const JoinLimit = 90 * time.Second

// running tells whether START GROUP_REPLICATION failed because the group's
// plugin runs already: an earlier caller's START went through after the caller
// was killed. Whether the server is in its group is for a report to say.
func running(err error) bool { return Number(err) == 3093 }

// Bootstrap makes this server the first member of a group. Nobody but package
// group calls it, and only after its guard: a bootstrap beside a living group
// is a second group with the same name.
func (s *Server) Bootstrap(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, JoinLimit, errors.New("the server did not finish within "+JoinLimit.String()))
	defer cancel()
	d, err := s.Dialect(ctx)
	if err != nil {
		return err
	}
	if d.RDS {
		return s.exec(ctx, "bootstrap the group", "CALL mysql.rds_group_replication_start(1)")
	}
	if err := s.exec(ctx, "prepare the bootstrap", "SET GLOBAL group_replication_force_members = ''; SET GLOBAL group_replication_bootstrap_group = ON"); err != nil {
		return err
	}
	err = s.exec(ctx, "bootstrap the group", "START GROUP_REPLICATION")
	if running(err) {
		err = nil
	}
	// Whatever happened, the next START must not bootstrap. The caller's
	// context may be over by now.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), CallLimit)
	defer cancel()
	return errors.Join(err, s.ForgetBootstrap(after))
}

// ForgetBootstrap makes sure that the next START GROUP_REPLICATION joins a
// group and makes none: a caller of Bootstrap that was killed leaves the switch
// behind.
func (s *Server) ForgetBootstrap(ctx context.Context) error {
	d, err := s.Dialect(ctx)
	if err != nil || d.RDS {
		return err
	}
	return s.exec(ctx, "forget the bootstrap", "SET GLOBAL group_replication_bootstrap_group = OFF")
}

// Join makes the server join its group, with what it was configured for. It
// returns when the server is in the group, RECOVERING or ONLINE.
func (s *Server) Join(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, JoinLimit, errors.New("the server did not finish within "+JoinLimit.String()))
	defer cancel()
	d, err := s.Dialect(ctx)
	if err != nil {
		return err
	}
	if d.RDS {
		return s.exec(ctx, "join the group", "CALL mysql.rds_group_replication_start(0)")
	}
	// Both are left behind by repairs and make START fail or bootstrap.
	if err := s.exec(ctx, "clear old switches",
		"SET GLOBAL group_replication_force_members = ''; SET GLOBAL group_replication_bootstrap_group = OFF"); err != nil {
		return err
	}
	if err := s.exec(ctx, "join the group", "START GROUP_REPLICATION"); !running(err) {
		return err
	}
	return nil
}

// Leave takes the server out of its group and leaves it read-only. It is fine
// to call it on a server that is in no group.
func (s *Server) Leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, JoinLimit, errors.New("the server did not finish within "+JoinLimit.String()))
	defer cancel()
	d, err := s.Dialect(ctx)
	if err != nil {
		return err
	}
	if d.RDS {
		return s.exec(ctx, "leave the group", "CALL mysql.rds_group_replication_stop()")
	}
	if err := s.exec(ctx, "leave the group", "STOP GROUP_REPLICATION"); err != nil {
		return err
	}
	return s.SetReadOnly(ctx)
}

// SwitchToMultiPrimary makes every member a primary, online.
func (s *Server) SwitchToMultiPrimary(ctx context.Context) error {
	var said string
	return s.read(ctx, "switch to multi-primary", "SELECT group_replication_switch_to_multi_primary_mode()", nil, &said)
}

// SwitchToSinglePrimary makes the member with that server UUID the only
// primary, online. In single-primary mode it moves the primary.
func (s *Server) SwitchToSinglePrimary(ctx context.Context, uuid string) error {
	var single bool
	var said string
	if err := s.read(ctx, "read the mode", "SELECT @@group_replication_single_primary_mode", nil, &single); err != nil {
		return err
	}
	if single {
		return s.read(ctx, "move the primary", "SELECT group_replication_set_as_primary(?)", []any{uuid}, &said)
	}
	return s.read(ctx, "switch to single-primary", "SELECT group_replication_switch_to_single_primary_mode(?)", []any{uuid}, &said)
}

// Force makes the members at the given group addresses the whole group,
// although a majority of it is gone. It blocks until the group has agreed, and
// leaves nothing set behind. Whoever is left out must be stopped: if it still
// runs there are two groups.
func (s *Server) Force(ctx context.Context, groupAddresses []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, JoinLimit, errors.New("the group did not agree within "+JoinLimit.String()))
	defer cancel()
	d, err := s.Dialect(ctx)
	if err != nil {
		return err
	}
	if d.RDS {
		return &ErrManaged{"forcing a membership", "stop the group on every instance and bootstrap it on the one that holds most"}
	}
	err = s.exec(ctx, "force the membership", "SET GLOBAL group_replication_force_members = "+quote(strings.Join(groupAddresses, ",")))
	// Left behind it would make the next START fail.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), CallLimit)
	defer cancel()
	return errors.Join(err, s.exec(after, "forget the forced membership", "SET GLOBAL group_replication_force_members = ''"))
}

// ForgetReceived deletes what the server received from its group and did not
// apply. A transaction that cannot be applied would else stop it at every join.
func (s *Server) ForgetReceived(ctx context.Context) error {
	return s.exec(ctx, "forget what it received and did not apply", "RESET REPLICA ALL FOR CHANNEL 'group_replication_applier'")
}

// Restart asks the server to restart itself, which works where something
// supervises it (a service manager, or the environment says so). It returns when
// the server has taken the order; it is gone for some seconds then.
func (s *Server) Restart(ctx context.Context) error {
	err := s.exec(ctx, "restart", "RESTART")
	if broken(err) {
		err = nil
	}
	s.Forget()
	return err
}

// RaiseProtocol lets the group speak the newest protocol that all its members
// know, once none of them is older than version.
func (s *Server) RaiseProtocol(ctx context.Context, version Version) error {
	var said string
	return s.read(ctx, "raise the communication protocol", "SELECT group_replication_set_communication_protocol(?)", []any{version.String()}, &said)
}

// AcceptClients clears offline_mode, which the group sets when a member gives
// up and never clears.
func (s *Server) AcceptClients(ctx context.Context) error {
	return s.SetGlobal(ctx, map[string]string{"offline_mode": "OFF"})
}

// ForgetTransactions deletes all binary logs and GTIDs of the server. Only for
// servers whose data are about to be replaced.
func (s *Server) ForgetTransactions(ctx context.Context) error {
	d, err := s.Dialect(ctx)
	if err != nil {
		return err
	}
	return s.exec(ctx, "forget its transactions", d.binlogReset())
}
