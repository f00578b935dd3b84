package jet_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/jet"
)

// A server alone has streams. It becomes the first of a cluster without moving
// anything, two others come, every stream gets three copies; the first one is
// lost for good and replaced; and the cluster shrinks to one again.
func TestAServerAloneGrowsToThreeLosesOneAndShrinks(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	cluster := tr.cfgs[0].Cluster
	tr.cfgs[0].Cluster = nil
	tr.start(0)
	l := openLog(t, tr.srv[0], jet.LogConfig{Name: "w", MaxBytes: 1 << 26})
	n := 0
	add := adder(t, &n)
	add(l, 20)
	generation := l.Generation()
	tr.srv[0].Close()

	cluster.Found = true
	cluster.Peers = cluster.Peers[:1]
	tr.cfgs[0].Cluster = cluster
	began := time.Now()
	tr.start(0)
	l = openLog(t, tr.srv[0], jet.LogConfig{Name: "w", MaxBytes: 1 << 26, Expect: generation})
	readAll(t, l, 1, uint64(n))
	t.Logf("first of a cluster after %s", time.Since(began).Round(time.Millisecond))
	add(l, 5)
	v := tr.srv[0].Events(jet.EventsConfig{}, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { _ = v.Run(ctx) }()
	v.Publish(event.New(event.NodeStarted, "node/n0", "1"))

	join := func(i int) {
		began := time.Now()
		tr.start(i)
		eventually(t, 2*time.Minute, "it is in the cluster", func() bool {
			for _, p := range tr.srv[0].Linked() {
				if p.Name == tr.cfgs[i].Name && p.Answers {
					return true
				}
			}
			return false
		})
		t.Logf("node %d joined after %s", i, time.Since(began).Round(time.Millisecond))
	}
	copies := func(s *jet.Server, want int) {
		t.Helper()
		began := time.Now()
		eventually(t, 2*time.Minute, "every stream has its copies", func() bool {
			whole, err := s.Copies(t.Context(), want)
			return whole && err == nil
		})
		t.Logf("%d copies after %s", want, time.Since(began).Round(time.Millisecond))
	}
	join(1)
	add(l, 5)
	join(2)
	copies(tr.srv[0], 3)
	add(l, 5)

	// The first is lost for good.
	tr.srv[0].Close()
	l1 := openLog(t, tr.srv[1], jet.LogConfig{Name: "w", MaxBytes: 1 << 26, Replicas: 3, Expect: generation})
	add(l1, 5)
	readAll(t, l1, 1, uint64(n))
	eventually(t, 30*time.Second, "it is removed", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		return tr.srv[1].Unlink(ctx, "n0") == nil
	})
	add(l1, 5)
	t.Logf("%+v", tr.srv[1].Linked())
}

func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}
