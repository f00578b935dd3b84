package proxy

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/route"
	"github.com/perdure/perdure/internal/topology"
)

// pair is what two proxies of one cluster know of each other, as nodes tell it
// through the control store.
type pair struct {
	tables  []*route.Table
	proxies []*Proxy
	quiet   func(ctx context.Context, member string) error
	ready   chan struct{} // closed once the rest is set
}

// side is what one of them sees of the other.
type side struct {
	*pair
	self int
}

func (s side) Funnel(ctx context.Context, member, _ string) (func(), error) {
	<-s.ready
	other := 1 - s.self
	release, err := s.tables[other].Funnel(member)
	if err != nil {
		return nil, err
	}
	for s.proxies[other].WritesElsewhere(member) {
		select {
		case <-ctx.Done():
			release()
			return nil, errors.New("the other proxy has a transaction open")
		case <-time.After(time.Millisecond):
		}
	}
	if err := s.quiet(ctx, member); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// second runs another proxy in front of the same members, with a table of its
// own. Each is told of the other's changes of schema.
func (r *rig) second(t testing.TB, p *pair) *rig {
	t.Helper()
	two := &rig{members: r.members, table: route.New(), watcher: r.watcher}
	ctx, cancel := context.WithCancel(context.Background())
	changes, stop := r.watcher.Changes()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			two.table.SetView(*r.watcher.View())
			select {
			case <-ctx.Done():
				return
			case <-changes:
			}
		}
	})
	t.Cleanup(func() { cancel(); stop(); wg.Wait() })
	two.table.SetView(*r.watcher.View())
	two.start(t, func(c *Config) { c.Doubt = r.watcher; c.Slot = 1; c.Others = side{p, 1} })
	defer close(p.ready)
	p.tables = []*route.Table{r.table, two.table}
	p.proxies = []*Proxy{r.proxy, two.proxy}
	roots := make([]*sql.DB, len(r.members)) // one each: every pool keeps a connection until the test ends
	for i, m := range r.members {
		roots[i] = m.Root(t)
	}
	p.quiet = func(ctx context.Context, member string) error {
		for i, m := range r.members {
			if m.Name() == member {
				continue
			}
			for {
				n := ask(t, roots[i], "SELECT COUNT(*) FROM performance_schema.metadata_locks l JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID "+
					"WHERE t.NAME = 'thread/sql/one_connection' AND l.OBJECT_TYPE = 'TABLE' AND l.LOCK_STATUS = 'GRANTED' AND l.LOCK_TYPE = 'SHARED_WRITE'")
				if n == "0" {
					break
				}
				select {
				case <-ctx.Done():
					return fmt.Errorf("%s writers on %s", n, m.Name())
				case <-time.After(5 * time.Millisecond):
				}
			}
		}
		return nil
	}
	return two
}

// A View that suspects everybody, as a busy machine makes it, must not let a
// change of schema through beside writes.
func TestAChangeOfSchemaWaitsWhileNobodyKnowsWhoIsInTheGroup(t *testing.T) {
	t.Parallel()
	r := group(t, 2, func(c *Config) { c.HoldLimit = 20 * time.Second })
	known := r.still(t)
	c := r.conn(t, ReadWrite)
	exec(t, c, "CREATE TABLE w (id INT PRIMARY KEY)")
	blind := known
	blind.Number, blind.Quorum, blind.Mode = known.Number+100, topology.NoGroup, ""
	blind.Members = nil
	for _, m := range known.Members {
		m.State, m.Readable, m.Writable = topology.Down, false, false
		blind.Members = append(blind.Members, m)
	}
	r.table.SetView(blind)
	if !r.table.Plan().Spread {
		t.Fatal("a View that knows nobody says that there is one writer")
	}
	done := make(chan error, 1)
	go func() { _, err := c.ExecContext(context.Background(), "ALTER TABLE w ADD COLUMN a INT"); done <- err }()
	select {
	case err := <-done:
		t.Fatal("it ran:", err)
	case <-time.After(300 * time.Millisecond):
	}
	known.Number = blind.Number + 1
	r.table.SetView(known)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
