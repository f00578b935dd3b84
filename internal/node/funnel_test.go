package node

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/route"
	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/topology"
)

// cuttable is a store that a node can lose.
type cuttable struct {
	state.Store
	cut atomic.Bool
}

func (c *cuttable) Get(ctx context.Context, key string) (state.Entry, error) {
	if c.cut.Load() {
		return state.Entry{}, state.ErrUnavailable
	}
	return c.Store.Get(ctx, key)
}

// routingNode is as much of a node as tells others where writes go.
func routingNode(name string, store state.Store, members []*mysqltest.Member) *Node {
	user, password := mysqltest.AdminAccount()
	n := &Node{
		file: &config.File{}, log: slog.New(slog.DiscardHandler), table: route.New(), funnels: newFunnel(),
		shared: store, wish: state.NewDoc[route.Wish](store, "route"), login: mysql.Login{User: user, Password: password},
	}
	n.file.Node.Name = name
	n.file.Control.Peers = []config.Peer{{Name: "a"}, {Name: "b"}}
	v := topology.View{Number: 1, Quorum: topology.HasQuorum, Mode: topology.MultiPrimary}
	for _, m := range members {
		v.Members = append(v.Members, topology.Member{
			Instance: topology.Instance{Name: m.Name(), Address: m.Address()}, State: topology.Online, Writable: true, Readable: true,
		})
	}
	n.table.SetView(v)
	return n
}

// follow has a node do what the document says until the returned func is called.
func follow(t *testing.T, n *Node) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.followWish(ctx) })
	wg.Go(func() { _ = n.followFunnel(ctx) })
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

func funnelled(t *testing.T, n *Node, to string) {
	t.Helper()
	const limit = time.Minute // it takes six seconds at most on a quiet machine
	for deadline := time.Now().Add(limit); n.table.Plan().Funnel != to; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("writes go to %q, not to %q, after %s", n.table.Plan().Funnel, to, limit)
		}
	}
}

func TestNodesSendTheirWritesWhereAnotherChangesTheSchema(t *testing.T) {
	t.Parallel()
	members := mysqltest.Start(t, 2)
	members[1].OpenForWrites(t)
	store := &cuttable{Store: state.NewMemory()}
	a, b := routingNode("a", store, members), routingNode("b", store, members)
	stop := follow(t, b)

	begin := time.Now()
	release, err := a.Funnel(t.Context(), "m1", "m1")
	if err != nil || b.table.Plan().Funnel != "m1" {
		t.Fatalf("writes of b go to %q: %v", b.table.Plan().Funnel, err)
	}
	t.Logf("b answered after %s", time.Since(begin).Round(time.Millisecond))
	if took := time.Since(begin); took >= silence {
		t.Error("b was not waited for, but given up:", took)
	}
	release()
	funnelled(t, b, "")

	// Whoever is connected directly is seen on the member.
	direct := members[1].Root(t)
	for _, q := range []string{"CREATE DATABASE test", "CREATE TABLE test.t (id INT PRIMARY KEY)"} {
		if _, err := direct.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	tx, err := direct.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "INSERT INTO test.t VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Second) // more than b needs to answer
	defer cancel()
	if _, err := a.Funnel(short, "m1", "m1"); err == nil || !strings.Contains(err.Error(), "m2 has 1 open transactions") {
		t.Error("an open transaction on m2:", err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	funnelled(t, b, "")

	// A node that dies in the middle leaves its word behind, but not its lock.
	if err := a.announce(t.Context(), &route.Funnel{Name: "dead", Node: "a", Member: "m1", LockedOn: "m1"}); err != nil {
		t.Fatal(err)
	}
	funnelled(t, b, "m1")
	funnelled(t, b, "")

	// A node that would not hear of a change behaves as if there were one.
	store.cut.Store(true)
	funnelled(t, b, "m1")
	store.cut.Store(false)
	funnelled(t, b, "")

	// And one that is silent is waited for until it must have done so.
	stop()
	begin = time.Now()
	release, err = a.Funnel(t.Context(), "m1", "m1")
	if err != nil || time.Since(begin) < silence {
		t.Error("a silent node:", err, time.Since(begin))
	}
	if err == nil {
		release()
	}
}
