package mysqltest

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/perdure/perdure/internal/mysql/mysqld"
)

// MaxServers is how many servers one test process keeps alive at a time: the
// largest group there is. Tests that would go beyond wait for others to end.
const MaxServers = 9

var alive = semaphore.NewWeighted(MaxServers)

// lastID numbers the servers of a process; server ids of a group must differ.
var lastID atomic.Uint32

// Option changes the configuration of the servers of one Start.
type Option func(i int, cfg *mysqld.Config)

// Settings sets server variables on all servers.
func Settings(settings map[string]string) Option {
	return func(_ int, cfg *mysqld.Config) { maps.Copy(cfg.Settings, settings) }
}

// Each changes the configuration of the i-th server, counted from 0.
func Each(change func(i int, cfg *mysqld.Config)) Option { return change }

// ComesBack lets servers start again by themselves that long after a crash.
func ComesBack(delay time.Duration) Option {
	return func(_ int, cfg *mysqld.Config) { cfg.RestartDelay = delay }
}

// Durable gives servers the durability of production: a commit waits for the
// disk. Without it a commit survives kill -9 of the server, which is all that a
// test can do to it, but not a power failure.
func Durable() Option {
	return Settings(map[string]string{"sync_binlog": "1", "innodb_flush_log_at_trx_commit": "1"})
}

// Start gives n servers that are up, read-only and in no group. Their server ids
// are consecutive, so that they differ in every auto-increment plan.
func Start(t testing.TB, n int, options ...Option) []*Member {
	t.Helper()
	if n > MaxServers {
		t.Fatalf("a test can have %d servers at most, not %d", MaxServers, n)
	}
	from, binary := template(t)
	if err := alive.Acquire(t.Context(), int64(n)); err != nil {
		t.Fatal("waiting for other tests' servers:", err)
	}
	t.Cleanup(func() { alive.Release(int64(n)) })

	dir, err := os.MkdirTemp(process.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	first := lastID.Add(uint32(n)) - uint32(n) + 1
	members := make([]*Member, n)
	for i := range members {
		cfg := mysqld.Config{
			Name: fmt.Sprintf("m%d", i+1), Binary: binary,
			Dir: filepath.Join(dir, fmt.Sprintf("m%d", i+1)), ServerID: first + uint32(i),
			StartLimit: 3 * time.Minute, // tests of many packages start servers at the same time
			Settings:   map[string]string{"sync_binlog": "0", "innodb_flush_log_at_trx_commit": "2"},
		}
		for _, change := range options {
			change(i, &cfg)
		}
		if members[i], err = newMember(t, from, cfg); err != nil {
			t.Fatal(err)
		}
	}
	if err := startAll(t.Context(), members); err != nil {
		t.Fatal(err)
	}
	return members
}

func newMember(t testing.TB, template string, cfg mysqld.Config) (*Member, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := mysqld.Copy(t.Context(), template, filepath.Join(cfg.Dir, "data")); err != nil {
		return nil, err
	}
	s, err := mysqld.New(cfg)
	if err != nil {
		return nil, err
	}
	m := &Member{Server: s, ID: cfg.ServerID}
	t.Cleanup(func() {
		if m.PID() != 0 {
			// Killed rather than stopped: nobody needs its data any more.
			_ = m.Kill(mysqld.StayDown)
		}
		// It may be between two processes, or have no process for another reason.
		if err := m.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the last lines of the log of %s:\n%s", m.Name(), logTail(m.LogPath(), 40))
		}
	})
	return m, nil
}

// startAll starts the members two at a time: a start is mostly work for the
// processor, and test machines are small.
func startAll(ctx context.Context, members []*Member) error {
	errs := make([]error, len(members))
	var wg sync.WaitGroup
	turn := make(chan struct{}, 2)
	for i, m := range members {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			errs[i] = m.Start(ctx)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // one is enough to read
		}
	}
	return nil
}

func logTail(path string, n int) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
