package queue_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/pki"
	"github.com/perdure/perdure/internal/queue"
)

// TestBench prints what the queue costs and gains next to the same writes sent
// directly, on one server with the durability of production. All rows of a
// table come from one interleaved run; each is the median of its rounds.
//
//	PERDURE_BENCH=queue go test ./internal/queue -run 'TestBench$' -v -timeout 30m
func TestBench(t *testing.T) {
	if os.Getenv("PERDURE_BENCH") != "queue" {
		t.Skip("set PERDURE_BENCH=queue to measure")
	}
	p := newPlace(t, mysqltest.Durable(), roomy)
	r := newRig(t, p)
	bench(t, p, r)
}

// TestBenchThree is the same with a log on three nodes, next to a group of
// three members. All of it is on this one machine.
//
//	PERDURE_BENCH=three go test ./internal/queue -run 'TestBenchThree$' -v -timeout 30m
func TestBenchThree(t *testing.T) {
	if os.Getenv("PERDURE_BENCH") != "three" {
		t.Skip("set PERDURE_BENCH=three to measure")
	}
	p := placeOn(t, newGroup(t, mysqltest.Durable())[0])
	lg := threeNodes(t)
	r := newRig(t, p, func(c *queue.Config) { c.Log, c.Flights = lg, 3 })
	bench(t, p, r)
}

var roomy = mysqltest.Settings(map[string]string{"innodb_buffer_pool_size": "1G", "innodb_redo_log_capacity": "2G"})

// threeNodes is a log on three linked servers in this process.
func threeNodes(t *testing.T) *jet.Log {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.Open(filepath.Join(dir, "pki"))
	if err != nil {
		t.Fatal(err)
	}
	peers := []string{freeAddr(t), freeAddr(t), freeAddr(t)}
	var first *jet.Server
	for i, listen := range peers {
		name := fmt.Sprint("n", i)
		cert, key, err := ca.Issue(name, "127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		srv, err := jet.Open(t.Context(), jet.Config{Name: name, Dir: filepath.Join(dir, name), Cluster: &jet.Cluster{
			Name: "bench", Listen: listen, Peers: peers, Secret: "bench",
			TLS: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: ca.Pool(), ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert},
		}}, quiet())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(srv.Close)
		if first == nil {
			first = srv
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lg, err := first.OpenLog(ctx, jet.LogConfig{Name: "writes", Replicas: 3, MaxBytes: 16 << 30})
	if err != nil {
		t.Fatal(err)
	}
	return lg
}

// leftovers is how long the servers get to be done with one measurement before
// the next.
const leftovers = 1500 * time.Millisecond

func bench(t *testing.T, p *place, r *rig) {
	p.do(t, "CREATE TABLE q.row1k (id BIGINT AUTO_INCREMENT PRIMARY KEY, wid BINARY(16) NOT NULL, body VARBINARY(2000) NOT NULL)")
	body := make([]byte, 1024)
	_, _ = rand.Read(body)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.svc.Run(ctx) })
	defer wg.Wait()
	defer cancel()

	f, err := os.Create(filepath.Join(t.TempDir(), "wal"))
	if err != nil {
		t.Fatal(err)
	}
	bare := queue.NewGather(&fileLog{f: f}, 1)
	wg.Go(func() { _ = bare.Run(ctx) })
	insert := p.sql("INSERT INTO q.row1k (wid, body) VALUES (?, ?)")
	db := p.member.App(t)
	db.SetMaxIdleConns(200)
	stmt, err := db.Prepare(insert)
	if err != nil {
		t.Fatal(err)
	}
	write := func() queue.Write {
		id := queue.NewID(time.Now())
		return sqlWrite("key-"+strconv.Itoa(int(id[15])), insert, id[:], body)
	}
	ways := []struct {
		name string
		per  int // writes of one call
		do   func(int) error
	}{
		{"bare file, shared flush", 1, func(int) error { return bare.Put(ctx, queue.NewID(time.Now()), body, 1) }},
		{"direct autocommit INSERT", 1, func(int) error {
			id := queue.NewID(time.Now())
			_, err := stmt.Exec(id[:], body)
			return err
		}},
		{"queue, accepted", 1, func(int) error {
			_, err := r.svc.Submit(ctx, boss, []queue.Write{write()})
			return err
		}},
		{"queue, 100 a request", 100, func(int) error {
			w := make([]queue.Write, 100)
			for i := range w {
				w[i] = write()
			}
			_, err := r.svc.Submit(ctx, boss, w)
			return err
		}},
	}
	rounds := envInt("PERDURE_BENCH_ROUNDS", 3)
	best := 0.0
	fmt.Println("accepting (acknowledged writes a second, latency of one call)")
	several := []int{1, 16, 128}
	if n := envInt("PERDURE_BENCH_CLIENTS", 0); n > 0 {
		several = []int{n}
	}
	for _, clients := range several {
		got := make([][]row, len(ways))
		for range rounds {
			for i, w := range ways {
				// What the last way left to be flushed, and to be applied by the
				// other members, is not the next one's.
				time.Sleep(leftovers)
				x, err := drive(clients, time.Second, w.do)
				if err != nil {
					t.Fatal(w.name, err)
				}
				x.rate *= float64(w.per)
				got[i] = append(got[i], x)
			}
		}
		for i, w := range ways {
			m := median(got[i])
			fmt.Printf("  %4d clients  %-26s %9.0f/s  p50 %-11v p99 %v\n", clients, w.name, m.rate, m.p50.Round(time.Microsecond), m.p99.Round(time.Microsecond))
			if i == 1 {
				best = max(best, m.rate)
			}
		}
	}
	benchApply(t, r, p, insert, body, best)
	benchBoth(t, r, write)
}

// benchBoth accepts while it applies: one write a request from 128 clients.
func benchBoth(t *testing.T, r *rig, write func() queue.Write) {
	var accepted, applied []row
	for range envInt("PERDURE_BENCH_ROUNDS", 3) {
		stop := r.startApplier(0)
		r.drained(5 * time.Minute)
		before := r.applied()
		began := time.Now()
		x, err := drive(128, 4*time.Second, func(int) error {
			_, err := r.svc.Submit(t.Context(), boss, []queue.Write{write()})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		accepted = append(accepted, x)
		applied = append(applied, row{rate: float64(r.applied()-before) / time.Since(began).Seconds()})
		r.drained(5 * time.Minute)
		_ = stop()
	}
	m := median(accepted)
	fmt.Printf("both at once, 128 clients: accepted %.0f/s (p50 %v, p99 %v), applied meanwhile %.0f/s\n",
		m.rate, m.p50.Round(time.Microsecond), m.p99.Round(time.Microsecond), median(applied).rate)
}

// applied is how many writes were applied so far.
func (r *rig) applied() int64 {
	st, err := r.svc.Status(r.t.Context())
	if err != nil || st.Applying == nil {
		r.t.Fatal("no status: ", err)
	}
	return st.Applying.Applied
}

// benchApply drains what was accepted, between rounds of direct writes.
func benchApply(t *testing.T, r *rig, p *place, insert string, body []byte, _ float64) {
	preload := envInt("PERDURE_BENCH_PRELOAD", 40_000)
	db := p.member.App(t)
	db.SetMaxIdleConns(200)
	stmt, err := db.Prepare(insert)
	if err != nil {
		t.Fatal(err)
	}
	var direct, applied []row
	for range envInt("PERDURE_BENCH_ROUNDS", 3) {
		stop := r.startApplier(0)
		r.drained(5 * time.Minute)
		_ = stop()
		for range preload / 100 {
			w := make([]queue.Write, 100)
			for i := range w {
				id := queue.NewID(time.Now())
				w[i] = sqlWrite("key-"+strconv.Itoa(int(id[15])), insert, id[:], body)
			}
			r.submit(w...)
		}
		time.Sleep(leftovers)
		bestDirect := row{}
		for _, clients := range []int{16, 64, 128} {
			x, err := drive(clients, time.Second, func(int) error {
				id := queue.NewID(time.Now())
				_, err := stmt.Exec(id[:], body)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if x.rate > bestDirect.rate {
				bestDirect = x
			}
		}
		direct = append(direct, bestDirect)
		time.Sleep(leftovers)
		began := time.Now()
		stop = r.startApplier(0)
		r.drained(5 * time.Minute)
		applied = append(applied, row{rate: float64(preload) / time.Since(began).Seconds()})
		_ = stop()
	}
	a, d := median(applied).rate, median(direct).rate
	fmt.Printf("applying (%d writes of 1 KiB, %d rounds): direct autocommit at its best %.0f/s, queue %.0f/s = %.2f times\n",
		preload, len(applied), d, a, a/d)
}

func median(rows []row) row {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b row) int { return int(a.rate - b.rate) })
	return rows[len(rows)/2]
}

func envInt(name string, def int) int {
	if n, err := strconv.Atoi(strings.TrimSpace(os.Getenv(name))); err == nil {
		return n
	}
	return def
}
