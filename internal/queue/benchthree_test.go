package queue_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/queue"
)

// TestBenchFlights compares how many frames on their way at once suit a log on
// three nodes best.
//
//	PERDURE_BENCH=flights go test ./internal/queue -run TestBenchFlights -v
func TestBenchFlights(t *testing.T) {
	if os.Getenv("PERDURE_BENCH") != "flights" {
		t.Skip("set PERDURE_BENCH=flights to measure")
	}
	ctx, cancel := context.WithCancel(t.Context())
	body := make([]byte, 1024)
	_, _ = rand.Read(body)
	lg := threeNodes(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var names []string
	ways := map[string]func(int) error{}
	for _, n := range []int{1, 2, 3, 4, 8} {
		g := queue.NewGather(lg, n)
		wg.Go(func() { _ = g.Run(ctx) })
		name := "flights/" + strconv.Itoa(n)
		names = append(names, name)
		ways[name] = func(int) error { return g.Put(ctx, queue.NewID(time.Now()), body, 1) }
	}
	for _, clients := range []int{1, 16, 128} {
		got := map[string][]row{}
		for range 3 {
			for _, n := range names {
				r, err := drive(clients, time.Second, ways[n])
				if err != nil {
					t.Fatal(n, err)
				}
				got[n] = append(got[n], r)
			}
		}
		for _, n := range names {
			m := median(got[n])
			fmt.Printf("%4d clients  %-10s %9.0f/s  p50 %-12v p99 %v\n", clients, n, m.rate, m.p50, m.p99)
		}
	}
}
