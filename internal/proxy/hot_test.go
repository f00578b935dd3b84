package proxy

import (
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql/wire"
)

func hotSession(t testing.TB) (*rig, *rawClient) {
	t.Helper()
	// Without TLS on either side: crypto/tls allocates for itself.
	r := alone(t, func(c *Config) { c.MemberTLS = nil })
	mustRaw(t, r.proxy.Addr(ReadWrite).String(), 0).close()
	return r, mustRaw(t, r.proxy.Addr(ReadWrite).String(), wire.ClientDeprecateEOF|plaintext)
}

func TestAQueryAllocatesNothingInTheProxy(t *testing.T) {
	r, rc := hotSession(t)
	exec(t, r.members[0].Root(t), "CREATE TABLE test.t (id INT PRIMARY KEY, v VARCHAR(120))", "INSERT INTO test.t VALUES (1, REPEAT('x', 100))")
	prepared, err := rc.do(wire.AppendCommand(nil, wire.ComStmtPrepare, "SELECT v FROM t WHERE id = 1"), wire.ShapePrepare)
	if err != nil {
		t.Fatal(err)
	}
	execute := wire.AppendCommand(nil, wire.ComStmtExecute, []byte{prepared[5], prepared[6], prepared[7], prepared[8], 0, 1, 0, 0, 0})
	requests := map[string][]byte{
		"text":     wire.AppendQuery(nil, rc.caps, "SELECT v FROM t WHERE id = 1"),
		"prepared": execute,
		"write":    wire.AppendQuery(nil, rc.caps, "UPDATE t SET v = 'y' WHERE id = 2"),
		"ping":     wire.AppendCommand(nil, wire.ComPing, ""),
	}
	for name, req := range requests {
		answer := func() {
			if err := rc.c.Write(req); err != nil {
				t.Fatal(err)
			}
			// Every answer here fits one packet group; read until it is whole.
			var tr wire.Tracker
			shape := wire.ShapeQuery
			if name == "ping" {
				shape = wire.ShapeOK
			}
			tr.Begin(shape, rc.caps)
			for !tr.Done() {
				n, _, size := tr.Scan(rc.c.Buffered())
				rc.c.Advance(n + size)
				if !tr.Done() {
					if err := rc.c.Fill(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for range 200 {
			answer()
		}
		const rounds = 2000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			answer()
		}
		runtime.ReadMemStats(&after)
		// The sweep and the runtime allocate a little beside the queries.
		if per := float64(after.Mallocs-before.Mallocs) / rounds; per > 0.1 {
			t.Errorf("%s: %.2f allocations per query", name, per)
		}
	}
}

// BenchmarkPointSelect measures a point select through the proxy, client and
// proxy in one process; BenchmarkDirect is the same without.
func BenchmarkPointSelect(b *testing.B) {
	r, rc := hotSession(b)
	exec(b, r.members[0].Root(b), "CREATE TABLE test.t (id INT PRIMARY KEY, v VARCHAR(120))", "INSERT INTO test.t VALUES (1, REPEAT('x', 100))")
	benchSelect(b, rc)
}

func BenchmarkDirect(b *testing.B) {
	r, _ := hotSession(b)
	exec(b, r.members[0].Root(b), "CREATE TABLE test.t (id INT PRIMARY KEY, v VARCHAR(120))", "INSERT INTO test.t VALUES (1, REPEAT('x', 100))")
	benchSelect(b, mustRaw(b, r.members[0].Address(), wire.ClientDeprecateEOF|plaintext))
}

func benchSelect(b *testing.B, rc *rawClient) {
	req := wire.AppendQuery(nil, rc.caps, "SELECT v FROM t WHERE id = 1")
	b.ReportAllocs()
	before := cpu()
	for b.Loop() {
		if err := rc.c.Write(req); err != nil {
			b.Fatal(err)
		}
		var tr wire.Tracker
		tr.Begin(wire.ShapeQuery, rc.caps)
		for !tr.Done() {
			n, _, size := tr.Scan(rc.c.Buffered())
			rc.c.Advance(n + size)
			if !tr.Done() {
				if err := rc.c.Fill(); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	b.ReportMetric(float64(cpu()-before)/float64(b.N)/1000, "cpu-µs/op")
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestAnIdleClientIsCheap(t *testing.T) {
	r := alone(t, transaction)
	rc := mustRaw(t, r.proxy.Addr(ReadWrite).String(), 0)
	_ = rc
	n := 1000
	if os.Getenv("PERDURE_LONG") != "" {
		n = 5000
	}
	var clients []net.Conn
	runtime.GC()
	before := rss(t)
	for range n {
		c := mustRaw(t, r.proxy.Addr(ReadWrite).String(), plaintext)
		c.c.Rest()
		clients = append(clients, c.c.Net())
	}
	time.Sleep(2500 * time.Millisecond) // long enough for every session to be told to rest
	runtime.GC()
	start := cpu()
	time.Sleep(2 * time.Second)
	used := cpu() - start
	per := (rss(t) - before) / int64(n)
	t.Logf("%d idle clients: %d bytes each (client side included), %s CPU in 2 s", n, per, used)
	if used > time.Second {
		t.Error("idle clients cost CPU")
	}
	_ = clients
}

func rss(t testing.TB) int64 {
	t.Helper()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

// BenchmarkCommit measures a small writing transaction with the savepoint that
// goes with its COMMIT, and without.
func BenchmarkCommit(b *testing.B) {
	for name, change := range map[string]func(*Config){"plain": func(*Config) {}, "marked": func(c *Config) { c.Outcomes = outcomes{} }} {
		b.Run(name, func(b *testing.B) {
			r := alone(b, change)
			exec(b, r.members[0].Root(b), "CREATE TABLE test.c (id INT PRIMARY KEY, n BIGINT)", "INSERT INTO test.c VALUES (1, 0)")
			c := r.conn(b, ReadWrite)
			for b.Loop() {
				exec(b, c, "BEGIN", "UPDATE c SET n = n + 1 WHERE id = 1", "COMMIT")
			}
		})
	}
}
