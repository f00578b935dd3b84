package node_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/group"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/node"
	"github.com/perdure/perdure/internal/topology"
)

// brownOutLimit is how soon after the loss of a member writers are back at nine
// tenths of what they had.
const brownOutLimit = 9 * time.Second

// rateBefore is how long the rate before the loss is measured.
const rateBefore = 10 * time.Second

// A member is lost under 32 writers, by kill -9 and by SIGSTOP, with healing and,
// in turns on the same servers, without it. A measurement:
// PERDURE_BROWNOUT=rounds, PERDURE_FAULT=kill,stop, PERDURE_ALONE=rounds without.
// Writers pause between two writes, so that what two members can do is not the
// measure.
func TestBrownOut(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("PERDURE_BROWNOUT"))
	if err != nil {
		t.Skip("set PERDURE_BROWNOUT to the number of rounds to measure it")
	}
	w := newWhole(t, node.Options{Heal: true}, nil)
	clients, err := strconv.Atoi(cmp.Or(os.Getenv("PERDURE_CLIENTS"), "32"))
	if err != nil {
		t.Fatal(err)
	}
	pause, err := time.ParseDuration(cmp.Or(os.Getenv("PERDURE_THINK"), "25ms"))
	if err != nil {
		t.Fatal(err)
	}
	l := startLoad(t, w.rw, clients, pause)
	var all []loss
	beside, err := strconv.Atoi(cmp.Or(os.Getenv("PERDURE_ALONE"), strconv.Itoa(rounds)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range rounds {
		for kind := range strings.SplitSeq(cmp.Or(os.Getenv("PERDURE_FAULT"), "kill,stop"), ",") {
			for _, alone := range []bool{false, true} {
				if alone && i >= beside {
					continue
				}
				r := w.lose(t, l, kind, w.three[(2+i)%3], alone)
				all = append(all, r)
				fmt.Fprintln(os.Stderr, r)
			}
		}
	}
	l.stop()
	w.healthy(t, 2*time.Minute)
	l.onEach(t, w.three)
	audited(t, w.node.Node.Watch(), w.three)
	summarise(t, all)
}

// loss is one member lost, and when what was seen. Times are since the fault,
// negative if it did not come.
type loss struct {
	kind, member string
	alone        bool
	base, during float64       // writes a second before it, and until the member was expelled
	suspected    time.Duration // we do not hear it any more
	noticed      time.Duration // its group cannot reach it
	decided      time.Duration // to have it expelled
	expelled     time.Duration
	back         time.Duration // nine tenths of base
	stall        time.Duration // the longest time without any acknowledgement
	errors       int
	text         string
	seconds      []int // acknowledged in each second since
	clients      []int // and to how many clients
}

func (r loss) String() string {
	who := "perdure"
	if r.alone {
		who = "MySQL alone"
	}
	return fmt.Sprintf("%-5s %s %-11s base %5.0f/s during %4.0f/s  suspected %s  noticed %s  decided %s  expelled %s  >=90%% %s  longest stall %s  errors %d %s\n      each second: %v\n      clients: %v",
		r.kind, r.member, who, r.base, r.during, secs(r.suspected), secs(r.noticed), secs(r.decided), secs(r.expelled), secs(r.back), secs(r.stall), r.errors, r.text, r.seconds, r.clients)
}

func secs(d time.Duration) string {
	if d < 0 {
		return "    -"
	}
	return fmt.Sprintf("%5.2f", d.Seconds())
}

// lose takes a member away and watches until the writers are back, then brings
// the member back.
func (w *whole) lose(t *testing.T, l *load, kind string, m *mysqltest.Member, alone bool) loss {
	t.Helper()
	// Members and writers share two processors: a member that comes back would
	// not catch up with writers who take all they get.
	l.idle.Store(true)
	w.healthy(t, 2*time.Minute)
	l.idle.Store(false)
	if alone {
		w.pause(t, group.Pause{Since: time.Now(), By: "test", Why: "to see MySQL alone"})
	}
	// The rate before, once the members are warm again: over as long as they
	// need to get into their stride and out of it.
	time.Sleep(3*time.Second + rateBefore)
	r := loss{kind: kind, member: m.Name(), alone: alone, suspected: -1, noticed: -1, decided: -1, expelled: -1, back: -1}
	was, _ := w.node.Node.Watch().View().Member(m.Name())
	at, struck := l.now(), time.Now()
	r.base = l.rate(at-rateBefore, at)
	var err error
	if kind == "kill" {
		err = m.Kill(mysqld.StayDown)
	} else {
		err = m.Freeze()
	}
	if err != nil {
		t.Fatal(err)
	}
	since := func(d *time.Duration, happened bool) {
		if *d < 0 && happened {
			*d = time.Since(struck)
		}
	}
	for limit := 45 * time.Second; time.Since(struck) < limit; time.Sleep(10 * time.Millisecond) {
		v := w.node.Node.Watch().View()
		x, _ := v.Member(m.Name())
		since(&r.suspected, x.State != topology.Online)
		since(&r.noticed, x.State == topology.Unreachable)
		if at := w.node.Node.Group().Decided(); r.decided < 0 && at.After(struck) {
			r.decided = at.Sub(struck)
		}
		if since(&r.expelled, !listedIn(v, was.UUID) && v.Quorum == topology.HasQuorum); r.expelled >= 0 && r.back < 0 {
			r.back = l.back(at, l.now(), r.base, 0.9)
			if r.back >= 0 || time.Since(struck) > r.expelled+12*time.Second {
				break
			}
		}
	}
	if r.expelled > 0 {
		r.during = l.rate(at, at+r.expelled)
	}
	r.stall, _ = l.gap(at, l.now())
	r.errors, r.text = l.errors(at)
	for d := at; d < l.now() && d < at+30*time.Second; d += time.Second {
		r.seconds = append(r.seconds, l.count(d, d+time.Second))
		r.clients = append(r.clients, l.clients(d, d+time.Second))
	}
	if kind == "kill" {
		err = m.Start(t.Context())
	} else {
		err = m.Thaw()
	}
	if err != nil {
		t.Fatal(err)
	}
	w.pause(t, group.Pause{})
	return r
}

func (w *whole) pause(t *testing.T, p group.Pause) {
	t.Helper()
	if err := w.node.Node.Group().SetPause(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

// listedIn tells whether any member that is in the group lists that server.
func listedIn(v *topology.View, uuid string) bool {
	for _, m := range v.In(topology.Online) {
		for _, p := range m.Report.Peers {
			if p.UUID == uuid {
				return true
			}
		}
	}
	return false
}

// summarise prints the table of docs/promises.md and fails beyond the limit.
func summarise(t *testing.T, all []loss) {
	t.Helper()
	for _, kind := range []string{"kill", "stop"} {
		for _, alone := range []bool{false, true} {
			var some []loss
			for _, r := range all {
				if r.kind == kind && r.alone == alone {
					some = append(some, r)
				}
			}
			if len(some) == 0 {
				continue
			}
			spread := func(of func(loss) time.Duration) string {
				var ds []time.Duration
				missed := 0
				for _, r := range some {
					if d := of(r); d >= 0 {
						ds = append(ds, d)
					} else {
						missed++
					}
				}
				if len(ds) == 0 {
					return "-"
				}
				slices.Sort(ds)
				s := fmt.Sprintf("%.1f (%.1f to %.1f)", ds[len(ds)/2].Seconds(), ds[0].Seconds(), ds[len(ds)-1].Seconds())
				if missed > 0 {
					s += fmt.Sprintf(", %d never", missed)
				}
				return s
			}
			who := map[bool]string{false: "perdure", true: "MySQL alone"}[alone]
			fmt.Fprintf(os.Stderr, "| %s, %s, %d times | %s | %s | %s | %s | %s |\n", kind, who, len(some),
				spread(func(r loss) time.Duration { return r.suspected }), spread(func(r loss) time.Duration { return r.noticed }),
				spread(func(r loss) time.Duration { return r.decided }), spread(func(r loss) time.Duration { return r.expelled }),
				spread(func(r loss) time.Duration { return r.back }))
			for _, r := range some {
				if !alone && (r.back < 0 || r.back > brownOutLimit) {
					t.Errorf("%s of %s: writers were back after %s s, not within %s", r.kind, r.member, secs(r.back), brownOutLimit)
				}
			}
		}
	}
}
