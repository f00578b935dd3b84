package node_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysqltest"
)

// Three nodes, let in one after the other, in front of a real group. The one
// that acts is killed under load and another acts; two are lost, and queries go
// on as before while status says what does not work; all come back.
// PERDURE_SOAK gives the number of times the acting node is killed.
func TestThreeNodesLoseOneThenTwoAndQueriesGoOn(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts three servers and three nodes")
	}
	t.Parallel()
	rounds := 1
	if s := os.Getenv("PERDURE_SOAK"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		rounds = n
	}
	servers := mysqltest.Start(t, 3)
	h := newThree(t, servers)
	h.begin()
	h.whole(30 * time.Second)
	ackedTable(t, servers[0])
	var loads []*load
	for _, s := range h.nodes {
		loads = append(loads, startLoad(t, s.rw, 4, 5*time.Millisecond))
	}
	var took []time.Duration
	for round := range rounds {
		took = append(took, h.loseActing(round, loads))
	}
	slices.Sort(took)
	t.Logf("%d times the acting node was killed: another acted after %s at the latest, %s in the middle", rounds, took[len(took)-1], took[len(took)/2])
	h.loseTwo(loads)
	for _, l := range loads {
		l.stop()
		l.onEach(t, servers)
	}
	h.nothingTwice()
}

// ackedTable makes the table that a load writes to.
func ackedTable(t *testing.T, m *mysqltest.Member) {
	t.Helper()
	run(t, m.App(t), "CREATE DATABASE IF NOT EXISTS story",
		"CREATE TABLE IF NOT EXISTS story.acked (n BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, id BIGINT NOT NULL, pad CHAR(60) NOT NULL DEFAULT '', KEY (id))")
}

// loseActing kills the node that acts in the middle of a plan, and returns how
// long it took until another acted.
func (h *three) loseActing(round int, loads []*load) time.Duration {
	t := h.t
	t.Helper()
	victim := h.actor()
	var other *serving
	for _, s := range h.nodes {
		if s != victim && s.runs() {
			other = s
		}
	}
	member := "m" + strconv.Itoa(round%3+1)
	o, err := other.Member(t.Context(), "stop", member, api.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Duration(50+round*137%900) * time.Millisecond)
	var from []time.Duration
	for _, l := range loads {
		from = append(from, l.now())
	}
	victim.kill()
	killed, fair := time.Now(), mysqltest.StartFair()
	took := h.eventually(20*time.Second, "another acts", func() error { _, err := h.acting(victim); return err })
	waits := took - fair.Of(took) // for a processor or the disk
	if took-waits > 5*time.Second {
		t.Errorf("round %d: another node acted only after %s", round, took)
	}
	var acted []time.Duration
	for _, l := range loads {
		acted = append(acted, l.now())
	}
	if o, err = other.Wait(t.Context(), o, func(api.Operation) {}); err != nil || o.State != "done" {
		t.Fatalf("the plan of the killed node: %v, %s: %s\n%s", err, o.State, o.Error, story(o))
	}
	stopped := time.Since(killed)
	if o, err = other.Member(t.Context(), "start", member, api.Ask{}); err == nil {
		o, err = other.Wait(t.Context(), o, func(api.Operation) {})
	}
	if err != nil || o.State != "done" {
		t.Fatalf("start %s: %v, %s: %s\n%s", member, err, o.State, o.Error, story(o))
	}
	started := time.Since(killed)
	var pauses []string
	for i, s := range h.nodes[:len(loads)] {
		if s == victim {
			continue
		}
		// What members that stop and start cost the group is none of the nodes' doing.
		nobody, _ := loads[i].gap(from[i], acted[i])
		gap, at := loads[i].gap(from[i], loads[i].now())
		n, text := loads[i].errors(from[i])
		pauses = append(pauses, fmt.Sprintf("%s %s while nobody acted, %s in all, from %.1f s on, %d errors %s",
			s.name, nobody.Round(time.Millisecond), gap.Round(time.Millisecond), (at-from[i]).Seconds(), n, text))
		if nobody-waits > time.Second || gap > 5*time.Second {
			t.Errorf("round %d: the proxy of %s paused for %s while nobody acted, and for %s from %.1f s on", round, s.name, nobody, gap, (at - from[i]).Seconds())
		}
	}
	t.Logf("round %d: %s acts no more, another after %s, %s stopped after %.1f s, is back after %.1f s; longest pause of a proxy: %s",
		round, victim.name, took.Round(time.Millisecond), member, stopped.Seconds(), started.Seconds(), strings.Join(pauses, "; "))
	h.run(victim)
	h.up(victim)
	h.whole(40 * time.Second)
	return took
}

// loseTwo kills two of three nodes and brings them back, the one that is left
// meanwhile too.
func (h *three) loseTwo(loads []*load) {
	t := h.t
	t.Helper()
	left, gone := h.nodes[0], h.nodes[1:3]
	l := loads[0]
	from := l.now() // a member has just come back: what it misses is none of the nodes' doing
	h.sleepLoad(l, 5*time.Second)
	at, fair := l.now(), mysqltest.StartFair()
	base := l.rate(from, at)
	for _, s := range gone {
		s.kill()
	}
	h.eventually(30*time.Second, "status says so", func() error {
		st, err := left.Status(t.Context())
		if err != nil {
			return err
		}
		if st.Control == "" || st.Nodes == nil || !strings.Contains(st.Nodes.Summary, "no majority") || len(st.View.Members) != 3 {
			return fmt.Errorf("%q %+v", st.Control, st.Nodes)
		}
		says(t, st.Nodes.Summary, "queries run")
		return nil
	})
	told := l.now()
	// The tests beside this one may take more of the machine now than before.
	during := 0.0
	for try := 0; during < base/2 && try < 3; try++ {
		began := l.now()
		h.sleepLoad(l, 5*time.Second)
		during = l.rate(began, l.now())
	}
	pause, _ := l.gap(at, l.now())
	t.Logf("two of three nodes lost: told after %s; %.0f writes/s before, %.0f/s meanwhile, longest pause %s", (told - at).Round(time.Millisecond), base, during, pause.Round(time.Millisecond))
	if during < base/2 {
		t.Errorf("queries are slower without a majority of nodes: %.0f/s, before %.0f/s", during, base)
	}
	if fair.Of(pause) > time.Second {
		t.Errorf("the proxy of the node that is left paused for %s", pause)
	}

	// The last one is started anew, with nobody to ask.
	left.kill()
	from = l.now()
	h.run(left)
	h.up(left)
	h.eventually(20*time.Second, "its proxy serves by what it remembers", func() error {
		if l.count(from, l.now()) == 0 {
			return fmt.Errorf("no write was acknowledged")
		}
		return nil
	})
	t.Logf("started without the others: its proxy served after %s", (l.now() - from).Round(time.Millisecond))
	for _, s := range gone {
		h.run(s)
	}
	for _, s := range gone {
		h.up(s)
	}
	t.Logf("whole %s after the others came back", h.whole(60*time.Second).Round(time.Millisecond))
}

// sleepLoad waits while a load runs for so long.
func (h *three) sleepLoad(l *load, d time.Duration) {
	for until := l.now() + d; l.now() < until; time.Sleep(10 * time.Millisecond) {
	}
}

// nothingTwice looks at every journal and at the audit log: every plan ended
// once, every step was done once, the chain is whole.
func (h *three) nothingTwice() {
	t := h.t
	t.Helper()
	s := h.any()
	ops, err := s.Operations(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := s.Audit(t.Context(), 100000)
	if err != nil {
		t.Fatal(err)
	}
	ended := map[string]int{}
	for _, e := range entries {
		if strings.HasPrefix(e.Did, "plan ") {
			id, _, _ := strings.Cut(e.On, ":")
			ended[id]++
		}
	}
	unaudited := 0
	for _, o := range ops {
		if o.State != "done" {
			t.Errorf("%s: %s: %s", o.Title, o.State, o.Error)
		}
		for _, step := range o.Steps {
			if step.State != "done" {
				t.Errorf("%s: step %s %s is %s", o.Title, step.Name, step.Member, step.State)
			}
		}
		switch ended[o.ID] {
		case 1:
		case 0:
			unaudited++
		default:
			t.Errorf("%s ended %d times by the audit log", o.Title, ended[o.ID])
		}
	}
	v, err := s.VerifyAudit(t.Context())
	if err != nil || v.Problem != "" {
		t.Errorf("the audit log: %v, %s", err, v.Problem)
	}
	t.Logf("%d plans, each done once; the ends of %d are in the audit log once, of %d not at all; %d entries, unbroken", len(ops), len(ops)-unaudited, unaudited, v.Entries)
}
