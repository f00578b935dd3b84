package mysql

import (
	"context"
	"fmt"
)

// Account is a MySQL account.
type Account struct{ User, Host string }

func (a Account) String() string { return quote(a.User) + "@" + quote(a.Host) }

// SetRecoveryAccount makes the account with which one member fetches from the
// others what it misses, with a new password and no more rights than that
// needs. It is written to the group, so it is there on every donor.
func (s *Server) SetRecoveryAccount(ctx context.Context, a Account, password string) error {
	d, err := s.Dialect(ctx)
	if err != nil {
		return err
	}
	if d.RDS {
		return s.exec(ctx, "make the recovery account", "CALL mysql.rds_group_replication_create_user(?)", password)
	}
	what := "make the recovery account " + a.User
	if err := s.exec(ctx, what, fmt.Sprintf("CREATE USER IF NOT EXISTS %s IDENTIFIED WITH caching_sha2_password BY %s REQUIRE SSL", a, quote(password))); err != nil {
		return err
	}
	if err := s.exec(ctx, what, fmt.Sprintf("ALTER USER %s IDENTIFIED WITH caching_sha2_password BY %s REQUIRE SSL PASSWORD EXPIRE NEVER", a, quote(password))); err != nil {
		return err
	}
	// REPLICATION SLAVE reads binary logs, BACKUP_ADMIN is asked of a clone's
	// donor, CONNECTION_ADMIN lets a donor serve it although it is full.
	return s.exec(ctx, what, fmt.Sprintf("GRANT REPLICATION SLAVE, BACKUP_ADMIN, CONNECTION_ADMIN ON *.* TO %s", a))
}

// DropAccount removes an account if it exists.
func (s *Server) DropAccount(ctx context.Context, a Account) error {
	return s.exec(ctx, "drop the account "+a.User, "DROP USER IF EXISTS "+a.String())
}

// UseRecoveryAccount tells this server with which account it recovers from the
// others. The server keeps it over restarts.
func (s *Server) UseRecoveryAccount(ctx context.Context, user, password string) error {
	d, err := s.Dialect(ctx)
	if err != nil {
		return err
	}
	if d.RDS {
		return s.exec(ctx, "set the recovery account", "CALL mysql.rds_group_replication_set_recovery_channel(?)", password)
	}
	return s.exec(ctx, "set the recovery account", fmt.Sprintf(
		"CHANGE REPLICATION SOURCE TO SOURCE_USER = %s, SOURCE_PASSWORD = %s FOR CHANNEL 'group_replication_recovery'", quote(user), quote(password)))
}
