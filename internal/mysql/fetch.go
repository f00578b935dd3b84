package mysql

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/perdure/perdure/internal/gtid"
)

// fetchChannel is the channel over which one server takes what it lacks from
// another, outside of any group.
const fetchChannel = "perdure_fetch"

// Fetch makes this server read and apply what from has executed and it has not,
// until it has set, and removes every trace of that. Transactions keep their
// numbers. Both servers may be read-only: only the applier writes. It logs in
// at from with the account that from is spoken to with; the server forgets the
// password when it stops. Needs REPLICATION_SLAVE_ADMIN and RELOAD here,
// REPLICATION SLAVE there. It may be called again after it was broken off.
func (s *Server) Fetch(ctx context.Context, from *Server, set gtid.Set) (err error) {
	d, err := s.Dialect(ctx)
	if err != nil {
		return err
	}
	if d.RDS {
		return &ErrManaged{"fetching from another instance", "restore a snapshot of that instance"}
	}
	host, port, err := net.SplitHostPort(from.login.Address)
	if err != nil {
		return fmt.Errorf("%s: its address %q is not host:port: %w", from.name, from.login.Address, err)
	}
	if err := s.EndFetch(ctx); err != nil {
		return err
	}
	defer func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), CallLimit)
		defer cancel()
		err = errors.Join(err, s.EndFetch(after))
	}()
	if err := s.exec(ctx, "prepare to fetch from "+from.name, fmt.Sprintf(
		"CHANGE REPLICATION SOURCE TO SOURCE_HOST = %s, SOURCE_PORT = %s, SOURCE_SSL = 1, SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 10 FOR CHANNEL '%s'",
		quote(host), port, fetchChannel)); err != nil {
		return err
	}
	// Named here, user and password are never written to disk.
	if err := s.exec(ctx, "fetch from "+from.name, fmt.Sprintf("START REPLICA USER = %s PASSWORD = %s FOR CHANNEL '%s'",
		quote(from.login.User), quote(from.login.Password), fetchChannel)); err != nil {
		return err
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		have, err := s.Executed(ctx)
		if err != nil {
			return err
		}
		if have.Contains(set) {
			return nil
		}
		if said, err := s.channelError(ctx); err != nil || said != "" {
			return errors.Join(err, fmt.Errorf("%s (%s): fetch from %s: %s", s.name, s.login.Address, from.name, said))
		}
		select {
		case <-ctx.Done():
			return s.wrap(ctx, "fetch from "+from.name, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// channelError is why the fetch does not go on: its applier stopped, or its
// receiver gave up.
func (s *Server) channelError(ctx context.Context) (string, error) {
	var receiver, receiverSaid, applierSaid string
	err := s.read(ctx, "look at the fetch", `SELECT c.SERVICE_STATE, c.LAST_ERROR_MESSAGE,
		COALESCE((SELECT MAX(w.LAST_ERROR_MESSAGE) FROM performance_schema.replication_applier_status_by_worker w WHERE w.CHANNEL_NAME = c.CHANNEL_NAME), '')
		FROM performance_schema.replication_connection_status c WHERE c.CHANNEL_NAME = ?`, []any{fetchChannel}, &receiver, &receiverSaid, &applierSaid)
	switch {
	case err != nil:
		return "", err
	case applierSaid != "":
		return applierSaid, nil
	case receiver == "OFF" && receiverSaid != "":
		return receiverSaid, nil
	}
	return "", nil
}

// EndFetch removes what a Fetch that was broken off left behind.
func (s *Server) EndFetch(ctx context.Context) error {
	var n int
	if err := s.read(ctx, "look for a fetch", "SELECT COUNT(*) FROM performance_schema.replication_connection_configuration WHERE CHANNEL_NAME = ?",
		[]any{fetchChannel}, &n); err != nil || n == 0 {
		return err
	}
	if err := s.exec(ctx, "end the fetch", "STOP REPLICA FOR CHANNEL '"+fetchChannel+"'"); err != nil {
		return err
	}
	return s.exec(ctx, "end the fetch", "RESET REPLICA ALL FOR CHANNEL '"+fetchChannel+"'")
}
