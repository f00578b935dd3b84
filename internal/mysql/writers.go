package mysql

import (
	"context"
	"fmt"
)

// Writers counts the clients' transactions that have tables open for writing,
// from the first change until the commit is complete. Appliers are not clients.
func (s *Server) Writers(ctx context.Context) (n int, err error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	// Metadata locks go when a commit is over; innodb_trx forgets transactions
	// earlier, and is up to 100 ms old.
	err = s.db.QueryRowContext(ctx, `SELECT COUNT(DISTINCT l.OWNER_THREAD_ID) FROM performance_schema.metadata_locks l
		JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID
		WHERE t.NAME = 'thread/sql/one_connection' AND l.OBJECT_TYPE = 'TABLE' AND l.LOCK_STATUS = 'GRANTED'
		AND l.LOCK_TYPE IN ('SHARED_WRITE', 'SHARED_WRITE_LOW_PRIO', 'SHARED_UPGRADABLE', 'SHARED_NO_WRITE', 'SHARED_NO_READ_WRITE', 'EXCLUSIVE')`).Scan(&n)
	if err != nil {
		err = fmt.Errorf("count the writers of member %s: %w", s.name, err)
	}
	return n, err
}

// LockFree tells whether nobody holds a user-level lock on the server.
func (s *Server) LockFree(ctx context.Context, lock string) (free bool, err error) {
	ctx, cancel := bound(ctx)
	defer cancel()
	if err := s.db.QueryRowContext(ctx, "SELECT IS_FREE_LOCK(?)", lock).Scan(&free); err != nil {
		return false, fmt.Errorf("look at the lock %s on member %s: %w", lock, s.name, err)
	}
	return free, nil
}
