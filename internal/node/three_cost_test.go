package node_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/notify"
	"github.com/perdure/perdure/internal/rule"
)

// PERDURE_BENCH=rest measures what a node costs: at rest in front of a group of
// three, alone and as one of three.
func TestWhatANodeCostsAtRest(t *testing.T) {
	if os.Getenv("PERDURE_BENCH") != "rest" {
		t.Skip("PERDURE_BENCH=rest measures it")
	}
	h := newThree(t, mysqltest.Start(t, 3))
	heard := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(heard.Close)
	h.edit = func(_ int, f *config.File) { // every event meets rules, some of which fit
		f.Cluster = "shop"
		f.Notify = []notify.Config{{Name: "ops", Webhook: &notify.Webhook{URL: heard.URL}}}
		f.Rules = []rule.Rule{
			{Name: "members", Match: event.Matcher{Kinds: []string{"member.*"}}, Notify: []string{"ops"}},
			{Name: "alarms", Match: event.Matcher{Kinds: []string{"alarm.*"}}, Notify: []string{"ops"}},
			{Name: "critical", Match: event.Matcher{Severity: event.Critical}, Notify: []string{"ops"}},
		}
	}
	first := h.add()
	h.run(first)
	h.up(first)
	o, err := first.Apply(t.Context(), h.wish("m1", "m2", "m3"))
	if err == nil {
		o, err = first.Wait(t.Context(), o, func(api.Operation) {})
	}
	if err != nil || o.State != "done" {
		t.Fatalf("%v, %s", err, o.Error)
	}
	time.Sleep(5 * time.Second) // what the beginning costs is not meant
	t.Log("alone: " + first.rests(t, 60*time.Second))
	stored := func() uint64 {
		newest, err := first.Events(t.Context(), []string{"member.lagging"}, nil, 1)
		if err != nil || len(newest) == 0 {
			t.Fatal(newest, err)
		}
		return newest[0].Sequence
	}
	if err := first.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	t.Log("alone, a hundred events a second: " + first.rests(t, 30*time.Second) + fmt.Sprintf("; %d are stored", stored()))
	first.kill() // it would tell them for ever
	h.run(first)
	h.up(first)
	h.join(h.add(), "")
	h.join(h.add(), "")
	h.whole(30 * time.Second)
	time.Sleep(5 * time.Second)
	began := time.Now()
	before := map[string]time.Duration{}
	for _, s := range h.nodes {
		before[s.name], _ = s.used(t)
	}
	time.Sleep(30 * time.Second)
	for _, s := range h.nodes {
		now, memory := s.used(t)
		t.Logf("one of three, %s: %.2f %% of a core, %d MB", s.name, 100*(now-before[s.name]).Seconds()/time.Since(began).Seconds(), memory)
	}
}

// rests says what a node's process uses in that time.
func (s *serving) rests(t *testing.T, d time.Duration) string {
	before, _ := s.used(t)
	began := time.Now()
	time.Sleep(d)
	after, memory := s.used(t)
	return fmt.Sprintf("%.2f %% of a core, %d MB resident", 100*(after-before).Seconds()/time.Since(began).Seconds(), memory)
}

// used is the processor time and resident memory of a node's process.
func (s *serving) used(t *testing.T) (cpu time.Duration, mb int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", s.cmd.Process.Pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	pages, _ := strconv.Atoi(fields[21])
	return time.Duration(user+system) * 10 * time.Millisecond, pages * os.Getpagesize() >> 20
}
