package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

// Log is what the log of a node's files holds.
type Log struct {
	// Accepted is the newest change that this node knows to be accepted, Newest
	// the newest it has. What lies between them may have been acknowledged: who
	// acknowledged it had not told this node yet.
	Accepted, Newest uint64
	At               time.Time // when it was written last
}

// ReadLog looks at the files of an embedded store. Nobody may run there.
func ReadLog(cfg Config, log *slog.Logger) (Log, error) {
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return Log{}, err
	}
	defer lock.release()
	w, st, ents, err := openLog(cfg, log)
	if err != nil {
		return Log{}, fmt.Errorf("read the log of the control store in %s: %w", cfg.Dir, err)
	}
	l := Log{Accepted: st.GetCommit(), Newest: st.GetCommit()}
	if n := len(ents); n > 0 {
		l.Newest = max(l.Newest, ents[n-1].GetIndex())
	}
	files, _ := filepath.Glob(filepath.Join(walDir(cfg), "*.wal"))
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && info.ModTime().After(l.At) {
			l.At = info.ModTime()
		}
	}
	return l, w.Close()
}

func walDir(cfg Config) string { return filepath.Join(cfg.Dir, "etcd", "member", "wal") }

// openLog opens the log for appending and reads it.
func openLog(cfg Config, log *slog.Logger) (*wal.WAL, *raftpb.HardState, []*raftpb.Entry, error) {
	zap := newZap(context.Background(), log)
	snaps, err := wal.ValidSnapshotEntries(zap, walDir(cfg))
	if err != nil {
		return nil, nil, nil, err
	}
	from := &walpb.Snapshot{}
	if n := len(snaps); n > 0 {
		from = &walpb.Snapshot{Index: new(snaps[n-1].GetIndex()), Term: new(snaps[n-1].GetTerm())}
	}
	for repaired := false; ; repaired = true {
		w, err := wal.Open(zap, walDir(cfg), from)
		if err != nil {
			return nil, nil, nil, err
		}
		_, st, ents, err := w.ReadAll()
		if err == nil {
			return w, st, ents, nil
		}
		_ = w.Close()
		// The last record may be torn: it was never acknowledged.
		if repaired || !errors.Is(err, io.ErrUnexpectedEOF) || !wal.Repair(zap, walDir(cfg)) {
			return nil, nil, nil, err
		}
	}
}

// Alone makes this node the only one of its store and opens it: all other nodes
// are lost for good. It goes on with everything that is in its files, also with
// what it does not know to be accepted. Should one of the others still run
// somewhere, there are two stores from here on. cfg.Peers must be this node and
// nobody else. It may be called again after an error.
func Alone(ctx context.Context, cfg Config, log *slog.Logger) (*Control, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("configuration of the control store: %w", err)
	}
	if len(cfg.Peers) != 1 {
		return nil, fmt.Errorf("a node goes on alone, not as one of %d", len(cfg.Peers))
	}
	if err := acceptAll(cfg, log); err != nil {
		return nil, fmt.Errorf("go on with the control store in %s alone: %w", cfg.Dir, err)
	}
	c := &Control{cfg: cfg, log: log, forced: true}
	c.closing, c.close = context.WithCancel(context.Background())
	err := c.beginWith()
	if err == nil {
		err = c.Ready(ctx)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("go on with the control store in %s alone: %w", cfg.Dir, err)
	}
	return c, nil
}

// acceptAll accepts what is in the log. etcd would drop what this node does not
// know to be accepted, and the others may have acknowledged it.
func acceptAll(cfg Config, log *slog.Logger) error {
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return err
	}
	defer lock.release()
	w, st, ents, err := openLog(cfg, log)
	if err != nil {
		return err
	}
	if n := len(ents); n > 0 && ents[n-1].GetIndex() > st.GetCommit() {
		last := ents[n-1]
		// A term of its own makes the record differ, so that it is flushed.
		next := &raftpb.HardState{Term: new(max(st.GetTerm(), last.GetTerm()) + 1), Vote: new(uint64(0)), Commit: new(last.GetIndex())}
		err = w.Save(next, nil)
	}
	return errors.Join(err, w.Close())
}
