package node_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysqltest"
)

// PERDURE_BENCH=rest measures what a node costs: at rest in front of a group of
// three, alone and as one of three.
func TestWhatANodeCostsAtRest(t *testing.T) {
	if os.Getenv("PERDURE_BENCH") != "rest" {
		t.Skip("PERDURE_BENCH=rest measures it")
	}
	h := newThree(t, mysqltest.Start(t, 3))
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
