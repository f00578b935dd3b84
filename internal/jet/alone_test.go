package jet_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/jet"
)

// Two of three servers are lost for good, under appends. The one that is left
// goes on alone with all that was acknowledged, and two new ones join it.
func TestOneServerGoesOnAloneAfterAMajorityWasLost(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]time.Duration{"at once": 0, "interrupted": 2500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) { t.Parallel(); goesOnAlone(t, limit) })
	}
}

// goesOnAlone interrupts the one that is left after a limit, if there is one.
func goesOnAlone(t *testing.T, limit time.Duration) {
	tr := newTrio(t)
	tr.start(0, 1, 2)
	cfg := jet.LogConfig{Name: "w", Replicas: 3, MaxBytes: 1 << 26}
	l := openLog(t, tr.srv[0], cfg)
	v := tr.srv[0].Events(jet.EventsConfig{Replicas: 3}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	running, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = v.Run(running) }()
	v.Publish(event.New(event.NodeStarted, "node/n0", "1"))
	n := 0
	add := adder(t, &n)
	add(l, 50)
	generation := l.Generation()
	// What only a majority has is lost with it. This is about what all have.
	if err := v.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, "every server has all of it", func() bool {
		whole, err := tr.srv[0].Copies(t.Context(), 3)
		return whole && err == nil
	})
	// All are gone at one moment: the last that is left was no leader of everything.
	for _, i := range []int{1, 2, 0} {
		go tr.srv[i].Close()
	}
	stop()
	<-ended
	for _, s := range tr.srv {
		s.Close()
	}

	left := tr.cfgs[2]
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	held, err := jet.Holds(ctx, left, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Logf("%+v, %v", held, err)
	if err != nil || len(held) != 2 || held[1].Last == 0 {
		t.Errorf("it holds %+v, %v", held, err)
	}
	if limit > 0 {
		short, cancel := context.WithTimeout(ctx, limit)
		t.Log("interrupted:", jet.Alone(short, left, []string{"n0", "n1"}, slog.New(slog.DiscardHandler)))
		cancel()
	}
	began := time.Now()
	if err := jet.Alone(ctx, left, []string{"n0", "n1"}, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
		t.Fatal(err)
	}
	t.Logf("alone after %s", time.Since(began).Round(time.Millisecond))

	after, err := jet.Holds(ctx, left, slog.New(slog.DiscardHandler))
	if err != nil || len(after) != 2 || after[0].Last != 1 || after[1].Last != uint64(n) {
		t.Errorf("it had %+v and holds %+v, %v", held, after, err)
	}

	// It is the first of a cluster again.
	k := *left.Cluster
	k.Found, k.Peers = true, []string{k.Listen}
	left.Cluster = &k
	s := open(t, left)
	l = openLog(t, s, jet.LogConfig{Name: "w", MaxBytes: 1 << 26, Expect: generation})
	readAll(t, l, 1, uint64(n))
	add(l, 5)
	for i, name := range []string{"n3", "n4"} {
		cfg := tr.cfgs[i]
		cfg.Name, cfg.Dir = name, t.TempDir()
		open(t, cfg)
		eventually(t, 2*time.Minute, name+" is in the cluster", func() bool {
			for _, p := range s.Linked() {
				if p.Name == name && p.Answers {
					return true
				}
			}
			return false
		})
	}
	eventually(t, 2*time.Minute, "every stream has three copies", func() bool {
		whole, err := s.Copies(t.Context(), 3)
		return whole && err == nil
	})
	add(l, 5)
	readAll(t, l, 1, uint64(n))
}

// What testdata/half holds was left behind by a node whose two others were lost
// when the last entry in its log of a stream made it a member: it has 17 events,
// and could not say by itself that it may lead them.
func TestAServerThatWasAboutToBecomeAMemberGoesOnAlone(t *testing.T) {
	t.Parallel()
	cfg := newTrio(t).cfgs[0]
	cfg.Name, cfg.Dir = "node3", t.TempDir()
	k := *cfg.Cluster
	k.Name = "shop"
	cfg.Cluster = &k
	if err := os.CopyFS(cfg.Dir, os.DirFS(filepath.Join("testdata", "half"))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	began := time.Now()
	if err := jet.Alone(ctx, cfg, []string{"node1", "node2"}, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
		t.Fatal(err)
	}
	t.Logf("alone after %s", time.Since(began).Round(time.Millisecond))
	held, err := jet.Holds(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil || len(held) != 1 || held[0].Last != 17 {
		t.Errorf("it holds %+v, %v", held, err)
	}
	if kept, err := filepath.Glob(filepath.Join(cfg.Dir, "aside-*", "S-*", "msgs", "*.blk")); err != nil || len(kept) != 1 {
		t.Errorf("kept: %v, %v", kept, err)
	}
}
