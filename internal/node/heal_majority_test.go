package node_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/node"
)

// How long a group of three is without commits when two of its members are killed
// at once, beside 4 and beside 32 writers: PERDURE_MAJORITY rounds of each. It
// prints when each thing happened, in seconds since the kill.
func TestAMajorityIsKilledUnderWriters(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("PERDURE_MAJORITY"))
	if err != nil {
		t.Skip("set PERDURE_MAJORITY to the number of rounds to run it")
	}
	w := &ward{whole: newWhole(t, node.Options{Heal: true}, nil, mysqltest.Durable())}
	for _, writers := range []int{4, 32} {
		for round := range rounds {
			w.load = startLoad(t, w.rw, writers, 20*time.Millisecond)
			waitUntil(t, 30*time.Second, "writers write", func() bool { return w.load.rate(w.load.now()-2*time.Second, w.load.now()) > 20 })
			w.loseMajority(t, fmt.Sprintf("%d writers, round %d", writers, round+1), round%3)
			w.healthy(t, time.Minute)
			sameEverywhere(t, w.three, nil)
			w.load.onEach(t, w.three)
		}
	}
}

// loseMajority kills all but one, and starts them when writers write again.
func (w *ward) loseMajority(t *testing.T, what string, stays int) {
	t.Helper()
	var lost []string
	for i, m := range w.three {
		if i != stays {
			lost = append(lost, m.Name())
		}
	}
	before := w.load.rate(w.load.now()-2*time.Second, w.load.now())
	began, at := time.Now(), w.load.now()
	w.kill(t, mysqld.StayDown, lost...)
	// What was under way may be acknowledged before; that is not writing.
	again := at + time.Second
	waitUntil(t, 2*time.Minute, "writers write again", func() bool {
		for ; again+time.Second < w.load.now(); again += 100 * time.Millisecond {
			if w.load.rate(again, again+time.Second) > before/2 {
				return true
			}
		}
		return false
	})
	var said []string
	for _, e := range w.events(t, began) {
		for _, kind := range []string{"group.quorum-lost", "healing.acts", "group.quorum-regained", "group.bootstrapped", "healing.asks"} {
			if e.Event.Type == "perdure."+kind {
				said = append(said, fmt.Sprintf("%s %.1f", kind, e.Event.Time.Sub(began).Seconds()))
			}
		}
	}
	rows, text := w.load.errors(at)
	fmt.Fprintf(os.Stderr, "%s: writers write again after %.1f s (%s); %d errors %s\n", what, (again - at).Seconds(), strings.Join(slices.Compact(said), ", "), rows, text)
	w.load.stop()
	back := time.Now()
	w.start(t, lost...)
	w.mended(t)
	fmt.Fprintf(os.Stderr, "    whole %.1f s after they were started; plans:\n", time.Since(back).Seconds())
	w.plans(t, began)
}
