package node_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/node"
)

// Every drill on a cluster that is marked as drillable: it is got over without a
// hand, its report has the times, and it is in the history and in the events.
// They take about three minutes, so they are asked for: PERDURE_DRILLS=1.
func TestDrillsAreGotOverAndReported(t *testing.T) {
	if os.Getenv("PERDURE_DRILLS") == "" {
		t.Skip("set PERDURE_DRILLS to run them")
	}
	var servers []*mysqltest.Member
	w := newWhole(t, node.Options{Heal: true, Faults: signals{&servers}}, queued(t), mysqltest.ComesBack(3*time.Second))
	servers = w.three
	run(t, w.three[0].App(t), "CREATE DATABASE IF NOT EXISTS perdure")
	kinds := []string{"drain", "stall", "stop", "kill", "hang", "quorum-loss", "outage"}
	for _, kind := range kinds {
		w.healthy(t, 2*time.Minute)
		r, err := w.node.Drill(t.Context(), api.Drill{Kind: kind})
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		fmt.Fprintf(os.Stderr, "%-12s %v detect %d notice %d decide %d act %d normal %d ms, %d writes, %d failed, longest pause %d ms %s\n",
			kind, r.Members, r.Detect, r.Notice, r.Decide, r.Act, r.Normal, r.Writes, r.Failed, r.Pause, r.Error)
		if !r.Recovered || r.Normal < 0 {
			t.Errorf("%s was not got over: %s", kind, r.Error)
		}
		if r.Writes == 0 {
			t.Errorf("%s: nobody wrote", kind)
		}
		if (kind == "drain" || kind == "stop" || kind == "stall") && r.Failed > 0 {
			t.Errorf("%s: %d writes failed", kind, r.Failed)
		}
	}
	all, err := w.node.Drills(t.Context())
	if err != nil || len(all) != len(kinds) {
		t.Errorf("%v: the history has %d drills, not %d", err, len(all), len(kinds))
	}
	events, err := w.node.Events(t.Context(), []string{"drill.*"}, nil, 20)
	if err != nil || len(events) != len(kinds) {
		t.Errorf("%v: %d events tell of %d drills", err, len(events), len(kinds))
	}
	w.healthy(t, 2*time.Minute)
	audited(t, w.node.Node.Watch(), w.three)
}

// queued gives the node an account to write with, as the playground does.
func queued(t *testing.T) func(*config.File) {
	t.Helper()
	return func(f *config.File) {
		user, password := mysqltest.AppAccount()
		secret := filepath.Join(filepath.Dir(f.Node.Data), "apply.password")
		if err := os.WriteFile(secret, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
		f.Queue = &config.Queue{User: user, Password: "file:" + secret}
	}
}

// A cluster that is not marked is left alone, whatever is asked.
func TestDrillsAreRefusedOnAClusterThatIsNotMarked(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.spec["m1"] = api.Member{Name: "m1", Address: fmt.Sprintf("127.0.0.1:%d", freePort(t)), GroupAddress: fmt.Sprintf("127.0.0.1:%d", freePort(t))} // nobody is there
	text, err := os.ReadFile(s.file(t, "plain", "m1"))
	if err != nil {
		t.Fatal(err)
	}
	n := s.serveFile(t, "plain", string(text))
	for _, kind := range []string{"kill", "hang", "stall", "stop", "drain", "quorum-loss", "outage"} {
		_, err := n.Drill(t.Context(), api.Drill{Kind: kind})
		refused(t, err, "not marked as drillable", "Nothing was done")
	}
	if all, err := n.Drills(t.Context()); err != nil || slices.ContainsFunc(all, func(api.DrillReport) bool { return true }) {
		t.Errorf("%v: there is a history of %d drills", err, len(all))
	}
}
