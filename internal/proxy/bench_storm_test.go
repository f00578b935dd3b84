package proxy

import (
	"crypto/tls"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	driver "github.com/go-sql-driver/mysql"
)

// storms measures clients that connect, ask one thing and leave.
func (b *bench) storms(title string, ways []peer) {
	b.t.Helper()
	got := map[string][]figure{}
	for range b.rounds {
		for _, p := range ways {
			got[p.name] = append(got[p.name], b.storm(p, 8))
		}
	}
	fmt.Printf("\n%s: 8 clients that connect, SELECT 1, and leave; CPU ms per connection\n", title)
	direct := medians(got["direct"])
	for _, p := range ways {
		f := medians(got[p.name])
		fmt.Printf("  %-8s %8.0f/s  p95 %6.2f  proxy %6.3f  server %6.3f  %.2f x direct, server's CPU %+.0f %%\n", p.name, f.perSecond, f.p95, f.cpu, f.serverCPU,
			f.perSecond/direct.perSecond, (f.serverCPU/direct.serverCPU-1)*100)
	}
}

func (b *bench) storm(p peer, clients int) (f figure) {
	b.t.Helper()
	c := clientOf(p.addr)
	c.AllowNativePasswords = true
	if p.tls {
		c.TLS = &tls.Config{InsecureSkipVerify: true}
	}
	connector, err := driver.NewConnector(c)
	if err != nil {
		b.t.Fatal(err)
	}
	var n atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	before, serverBefore := cpuOf(b.t, p.pid), cpuOf(b.t, b.server.PID())
	began := time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			var mine []time.Duration
			for time.Since(began) < time.Duration(b.seconds)*time.Second {
				at := time.Now()
				db := sql.OpenDB(connector)
				var one int
				if err := db.QueryRow("SELECT 1").Scan(&one); err != nil {
					b.t.Errorf("%s: %v", p.name, err)
					_ = db.Close()
					return
				}
				_ = db.Close()
				n.Add(1)
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	elapsed := time.Since(began)
	each := float64(max(n.Load(), 1))
	slices.Sort(took)
	if len(took) > 0 {
		f.p95 = took[len(took)*95/100].Seconds() * 1000
	}
	f.perSecond = each / elapsed.Seconds()
	f.cpu = (cpuOf(b.t, p.pid) - before).Seconds() * 1000 / each
	f.serverCPU = (cpuOf(b.t, b.server.PID()) - serverBefore).Seconds() * 1000 / each
	return f
}
