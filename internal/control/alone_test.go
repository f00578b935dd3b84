package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perdure/perdure/internal/lease"
	"github.com/perdure/perdure/internal/state"
)

func TestANodeAloneOpensNoPortAndHidesItsFiles(t *testing.T) {
	t.Parallel()
	cfg := alone(t)
	c := open(t, cfg)
	if n := len(c.now.etcd.Peers) + len(c.now.etcd.Clients); n != 0 {
		t.Errorf("%d listeners are open", n)
	}
	for _, dir := range []string{cfg.Dir, cfg.Dir + "/etcd", cfg.Dir + "/etcd/member"} {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
	s, err := c.Status(t.Context())
	if err != nil || !s.Quorum || s.Leader != "node1" || len(s.Nodes) != 1 || s.Nodes[0].Address != "" {
		t.Errorf("status %+v, %v", s, err)
	}
}

func TestASecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	cfg := alone(t)
	open(t, cfg)
	began := time.Now()
	_, err := Open(t.Context(), cfg, logTo(t))
	want := fmt.Sprintf("%s is in use by another process (pid %d)", cfg.Dir, os.Getpid())
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("refused after %s", took)
	}
}

func TestAcknowledgedDocumentsSurviveKill(t *testing.T) {
	t.Parallel()
	cfg := alone(t)
	const rounds = 5
	last := 0
	for range rounds {
		p := spawn(t, cfg)
		ctx := within(t, 20*time.Second)
		_, next := p.says(ctx, t, "did", 0)
		if count := p.did(); count <= last {
			t.Fatalf("after %d acts were acknowledged the next process counted %d", last, count)
		}
		for range 5 {
			_, next = p.says(ctx, t, "did", next)
		}
		p.kill()
		last = p.did()
	}
	a, _, err := state.NewDoc[acts](open(t, cfg), "acts").Get(t.Context())
	if err != nil || a.Count < last || len(a.Epochs) != rounds {
		t.Errorf("%d acts were acknowledged, then: %+v, %v", last, a, err)
	}
}

func TestARestartedNodeLeadsAtOnce(t *testing.T) {
	t.Parallel()
	cfg := alone(t)
	p := spawn(t, cfg)
	ctx := within(t, 20*time.Second)
	p.says(ctx, t, "leads", 0)
	p.kill()
	p = spawn(t, cfg)
	_, next := p.says(ctx, t, "open", 0)
	began := time.Now()
	p.says(ctx, t, "leads", next)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("led %s after it was open", took)
	}
}

func TestACallAfterCloseIsRefused(t *testing.T) {
	t.Parallel()
	c := open(t, alone(t))
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		for range c.Watch(context.Background(), "") {
		}
	}()
	c.Close()
	if _, err := c.Get(t.Context(), "a"); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("get: %v", err)
	}
	select {
	case <-watch:
	case <-time.After(10 * time.Second):
		t.Error("a watch goes on")
	}
	if err := c.Run(t.Context()); err == nil {
		t.Error("Run ended well")
	}
}

func TestAWatchSurvivesThatItsChangesWereForgotten(t *testing.T) {
	t.Parallel()
	c := open(t, alone(t))
	first := state.Revision(0)
	var err error
	put := func(key string, rev state.Revision) state.Revision {
		rev, err = c.Put(t.Context(), key, []byte("x"), rev, state.Fence{})
		if err != nil {
			t.Fatal(err)
		}
		return rev
	}
	first = put("w/a", 0)
	gone := put("w/gone", 0)
	last := state.Revision(0)
	seen := map[string]state.Revision{}
	w := watching{seen: map[string]state.Revision{}, yield: func(e state.Entry) bool {
		seen[e.Key] = e.Revision
		return true
	}}
	now, at, err := c.list(t.Context(), "w/")
	if err != nil {
		t.Fatal(err)
	}
	w.catchUp(now)

	// While nobody reads, things change and the changes are forgotten.
	for range 20 {
		first = put("w/a", first)
	}
	if err := c.Delete(t.Context(), "w/gone", gone, state.Fence{}); err != nil {
		t.Fatal(err)
	}
	last = put("w/b", 0)
	if _, err := c.now.client.Compact(t.Context(), int64(last), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	c.follow(within(t, 5*time.Second), &w, "w/", at)
	if seen["w/b"] != 0 {
		t.Fatal("the changes were not forgotten")
	}
	if now, _, err = c.list(t.Context(), "w/"); err != nil {
		t.Fatal(err)
	}
	w.catchUp(now)
	if seen["w/a"] != first || seen["w/b"] != last || seen["w/gone"] != 0 {
		t.Errorf("saw %v, want a at %d, b at %d and nothing else", seen, first, last)
	}
}

func TestAFullStoreSaysSoAndRunMakesRoom(t *testing.T) {
	t.Parallel()
	cfg := alone(t)
	cfg.Quota = 16 << 20
	c := open(t, cfg)
	big := state.NewDoc[string](c, "big")
	write := func(size int) error {
		_, err := big.Change(t.Context(), state.Fence{}, func(s *string) error { *s = strings.Repeat("x", size); return nil })
		return err
	}
	var err error
	for n := 0; n < 64 && err == nil; n++ {
		err = write(1 << 19)
	}
	if !errors.Is(err, state.ErrUnavailable) || !strings.Contains(err.Error(), "full") {
		t.Fatalf("with a quota of 16 MiB the store took 32 MiB: %v", err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err := c.makeRoom(t.Context(), c.now); err != nil {
			t.Fatal(err)
		}
		if err = write(1); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after making room: %v", err)
		}
	}
}

func TestMistakesInTheConfigurationAreReportedTogether(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]Config{
		"neither a directory": {},
		"both a directory":    {Dir: "x", Endpoints: []string{"h:1"}},
		"five times":          {Dir: "x", Heartbeat: time.Second, Election: time.Second},
		"is not among":        {Dir: "x", Name: "c", Peers: []Peer{{"a", "h:1"}, {"b", "h:2"}}},
		"listed twice":        {Dir: "x", Name: "a", Peers: []Peer{{"a", "h:1"}, {"a", "h:2"}}},
		"host:port":           {Dir: "x", Name: "a", Peers: []Peer{{"a", "h"}}},
		"TLS certificate":     {Dir: "x", Name: "a", Peers: []Peer{{"a", "h:1"}}},
		"needs the names":     {Dir: "x", Start: Join},
	} {
		if _, err := Open(t.Context(), cfg, logTo(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
	_, err := Open(t.Context(), Config{TLS: TLS{Key: "k"}, Start: "begin"}, logTo(t))
	for _, want := range []string{"neither a directory", "come together", `"begin"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
}

func TestALeaseIsHandedOverInTheRealStore(t *testing.T) {
	t.Parallel()
	c := open(t, alone(t))
	var terms []lease.Term
	var stop []func()
	for _, holder := range []string{"a", "b"} {
		k, err := lease.New(c, lease.Config{Holder: holder}, logTo(t))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = k.Run(ctx) }()
		stop = append(stop, func() { cancel(); <-done })
		if holder == "b" {
			stop[0]() // a gives the lease back
		}
		began := time.Now()
		_, term, err := k.Hold(within(t, 10*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s waited %s for a free lease", holder, took)
		}
		terms = append(terms, term)
	}
	defer stop[1]()
	if _, err := c.Put(t.Context(), "doc", nil, 0, terms[0].Fence()); !errors.Is(err, state.ErrStale) {
		t.Errorf("a change in a's term: %v", err)
	}
	if _, err := c.Put(t.Context(), "doc", nil, 0, terms[1].Fence()); err != nil {
		t.Errorf("a change in b's term: %v", err)
	}
}
