package queue

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	driversql "github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/mysql"
)

// currentSession is the pinned context that new writes are recorded with.
const currentSession = 1

// sessions are pinned contexts by the number a record carries. A write means
// the same wherever and whenever it is applied, so none of this may depend on
// a server's settings, and a published entry never changes: a new number does.
// READ COMMITTED: partitions run side by side and gap locks would only make
// them wait for each other. Lock waits are short because a write that cannot
// get its lock is set aside instead of blocking its partition.
var sessions = map[byte]string{
	1: `SET SESSION time_zone='+00:00', sql_mode='ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',
		collation_connection='utf8mb4_0900_ai_ci', transaction_isolation='READ-COMMITTED', transaction_read_only=0,
		autocommit=1, foreign_key_checks=1, unique_checks=1, sql_safe_updates=0, div_precision_increment=4,
		group_concat_max_len=1048576, innodb_lock_wait_timeout=2, lock_wait_timeout=2`,
}

// Target is the member that takes the writes now.
type Target struct {
	Member string
	DB     *sql.DB // made by OpenTarget; the owner of the route closes it
}

// Route says where writes go. Package node answers from route.
type Route interface {
	// Writer gives the member that all partitions write to, or an error while
	// there is none. It answers at once.
	Writer(ctx context.Context) (Target, error)
}

// OpenTarget prepares connections to one member the way the applier needs them.
func OpenTarget(login mysql.Login) (*sql.DB, error) {
	cfg := driversql.NewConfig()
	cfg.User, cfg.Passwd, cfg.Net, cfg.Addr = login.User, login.Password, "tcp", login.Address
	cfg.TLS = login.TLS
	if login.TLS == nil {
		cfg.TLSConfig = "preferred"
		cfg.AllowFallbackToPlaintext = true
	}
	cfg.AllowNativePasswords = true
	cfg.MultiStatements = true // a batch is one packet
	cfg.Collation = "utf8mb4_0900_ai_ci"
	cfg.Timeout = 3 * time.Second
	cfg.Logger = &driversql.NopLogger{} // errors come back as errors
	cfg.MaxAllowedPacket = 0            // ask the server
	c, err := driversql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("connection of the queue to %s: %w", login.Address, err)
	}
	db := sql.OpenDB(c)
	db.SetMaxIdleConns(4)
	db.SetConnMaxIdleTime(time.Minute)
	return db, nil
}

// session is one connection of one partition, with the partition claimed on it.
type session struct {
	member  string
	conn    *sql.Conn
	db      *sql.DB
	id      int64 // of the connection, as the server counts
	pinned  byte
	limit   time.Duration
	maxSize int // of a packet, as the server allows
}

// minPacket holds a batch, or one write of the largest size, with every byte
// escaped.
const minPacket = 4 << 20

// abandon closes a session whose last statement may still run on the server. It
// would hold the position row, and nobody could claim it, until that statement
// ends by itself.
func (s *session) abandon() {
	s.close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_, _ = s.db.ExecContext(ctx, "KILL "+i64toa(s.id)) // on another connection; it may be gone already
}

func (s *session) close() {
	// The pool must not hand the pinned connection to anybody else.
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = s.conn.Close()
}

// exec runs statements as one packet and gives the affected rows of each.
func (s *session) exec(ctx context.Context, packet []byte) ([]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	var rows []int64
	err := s.conn.Raw(func(dc any) error {
		res, err := dc.(driver.ExecerContext).ExecContext(ctx, string(packet), nil)
		if err != nil {
			return err
		}
		rows = res.(driversql.Result).AllRowsAffected()
		return nil
	})
	return rows, err
}

func (s *session) pin(ctx context.Context, number byte) error {
	if s.pinned == number {
		return nil
	}
	text, ok := sessions[number]
	if !ok {
		return fmt.Errorf("a write was recorded with session context %d, which this version does not know", number)
	}
	if _, err := s.exec(ctx, []byte(text)); err != nil {
		return fmt.Errorf("pinning the session: %w", err)
	}
	s.pinned = number
	return nil
}

// connect opens a session on the current writer.
func connect(ctx context.Context, r Route, limit time.Duration) (*session, error) {
	t, err := r.Writer(ctx)
	if err != nil {
		return nil, err
	}
	open, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := t.DB.Conn(open)
	if err != nil {
		return nil, err
	}
	s := &session{member: t.Member, conn: conn, db: t.DB, limit: limit}
	if err := s.pin(open, currentSession); err != nil {
		s.close()
		return nil, err
	}
	err = conn.QueryRowContext(open, "SELECT @@max_allowed_packet, CONNECTION_ID()").Scan(&s.maxSize, &s.id)
	if err == nil && s.maxSize < minPacket {
		err = fmt.Errorf("max_allowed_packet of %s is %d, the queue needs %d", t.Member, s.maxSize, minPacket)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	// The first transaction on a member waits for all that was committed before
	// it anywhere in the group: without this, 4 % of dependent writes missed
	// their predecessor when the writer changed. Servers without the plugin do
	// not know the variable.
	_, err = s.exec(open, []byte("SET SESSION group_replication_consistency='BEFORE'"))
	if err != nil && mysql.Number(err) != 1193 {
		s.close()
		return nil, err
	}
	return s, nil
}

// relax ends the wait that only the first transaction needs.
func (s *session) relax(ctx context.Context) error {
	_, err := s.exec(ctx, []byte("SET SESSION group_replication_consistency='EVENTUAL'"))
	if err != nil && mysql.Number(err) != 1193 {
		return err
	}
	return nil
}

// claimed is what a partition's row said when it was claimed.
type claimed struct {
	seq    uint64
	mark   uint64
	epoch  int64
	starts int
}

// ErrFenced says that another applier has claimed a partition with a newer
// epoch. This one must stop; it has not done, and cannot do, anything after.
var ErrFenced = errors.New("another applier has taken over")

// claim takes the partition for epoch and holder. epoch 0 means: one more than
// whatever the row says. again is set when this holder had it before.
func (s *session) claim(ctx context.Context, stream uint64, part int, epoch int64, holder uint64, again bool) (claimed, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var c claimed
	tx, err := s.conn.BeginTx(ctx, nil)
	if err != nil {
		return c, err
	}
	defer func() { _ = tx.Rollback() }()
	var was uint64
	row := tx.QueryRowContext(ctx, "SELECT seq, mark, epoch, holder, starts FROM perdure.queue_position WHERE stream=? AND part=? FOR UPDATE", stream, part)
	if err := row.Scan(&c.seq, &c.mark, &c.epoch, &was, &c.starts); err != nil {
		return c, err
	}
	switch {
	case again && (was != holder || epoch != 0 && c.epoch != epoch):
		return c, fmt.Errorf("partition %d: %w (epoch %d)", part, ErrFenced, c.epoch)
	case epoch != 0 && c.epoch > epoch:
		return c, fmt.Errorf("partition %d: %w (epoch %d, ours is %d)", part, ErrFenced, c.epoch, epoch)
	case again:
	case epoch == 0:
		c.epoch++
	default:
		c.epoch = epoch
	}
	_, err = tx.ExecContext(ctx, "UPDATE perdure.queue_position SET epoch=?, holder=?, beat=beat+1 WHERE stream=? AND part=?", c.epoch, holder, stream, part)
	if err != nil {
		return c, err
	}
	return c, tx.Commit()
}

// setUp makes the rows of a new stream and answers how many partitions it has:
// a number that is fixed when a stream first meets a database.
func setUp(ctx context.Context, db *sql.DB, stream uint64, parts int) (int, error) {
	if err := ensureTables(ctx, db); err != nil {
		return 0, err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }()
	n := 0
	if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM perdure.queue_position WHERE stream=?", stream).Scan(&n); err != nil {
		return 0, err
	}
	if n > 0 {
		return n, nil
	}
	for p := range parts {
		_, err := tx.ExecContext(ctx, "INSERT INTO perdure.queue_position (stream, part, seq, mark, epoch, holder) VALUES (?,?,0,0,0,0)", stream, p)
		if err != nil {
			return 0, err
		}
	}
	return parts, tx.Commit()
}

// frameMark is eight bytes that no two frames share by accident: the end of a
// sealed frame is its authentication tag.
func frameMark(frame []byte) uint64 {
	if len(frame) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(frame[len(frame)-8:])
}
