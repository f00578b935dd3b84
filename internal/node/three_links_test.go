package node_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
)

// streets are network namespaces, one for each node, on one bridge, and what
// cuts the ways between them.
type streets struct {
	t    *testing.T
	name string
	net  string // the first three bytes of every address
}

// newStreets needs root.
func newStreets(t *testing.T, nodes int) *streets {
	t.Helper()
	s := &streets{t: t, name: fmt.Sprintf("pd%d", os.Getpid()%100000), net: fmt.Sprintf("10.213.%d", os.Getpid()%250)}
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	t.Cleanup(func() {
		for i := range nodes {
			_ = exec.Command("ip", "netns", "del", s.space(i+1)).Run()
		}
		_ = exec.Command("ip", "link", "del", s.name).Run()
	})
	s.ip("link add " + s.name + " type bridge")
	s.ip("addr add " + s.net + ".254/24 dev " + s.name)
	s.ip("link set " + s.name + " up")
	for i := 1; i <= nodes; i++ {
		out, in := fmt.Sprintf("%so%d", s.name, i), fmt.Sprintf("%si%d", s.name, i)
		s.ip("netns add " + s.space(i))
		s.ip("link add " + out + " type veth peer name " + in)
		s.ip("link set " + in + " netns " + s.space(i))
		s.ip("link set " + out + " master " + s.name)
		s.ip("link set " + out + " up")
		s.in(i, "addr add "+s.host(i)+"/24 dev "+in)
		s.in(i, "link set "+in+" up")
		s.in(i, "link set lo up")
	}
	return s
}

func (s *streets) space(i int) string { return fmt.Sprintf("%sn%d", s.name, i) }
func (s *streets) host(i int) string  { return fmt.Sprintf("%s.%d", s.net, i) }

func (s *streets) ip(args string) {
	s.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		s.t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

func (s *streets) in(i int, args string) {
	s.t.Helper()
	s.ip("netns exec " + s.space(i) + " ip " + args)
}

// cut drops what node a sends to node b. What b sends still arrives.
func (s *streets) cut(a, b int)  { s.t.Helper(); s.in(a, "route add blackhole "+s.host(b)+"/32") }
func (s *streets) mend(a, b int) { s.t.Helper(); s.in(a, "route del blackhole "+s.host(b)+"/32") }

// Every way between three nodes is cut, each direction by itself, then both, then
// one node from the others, then all. At every moment at most one acts, the
// proxies go on, and when the ways are open all is whole.
func TestWaysBetweenNodesAreCutInEveryDirection(t *testing.T) {
	if os.Getenv("PERDURE_SOAK") == "" {
		t.Skip("PERDURE_SOAK runs it: it takes minutes and root")
	}
	s := newStreets(t, 3)
	var servers []*mysqltest.Member
	if os.Getenv("PERDURE_LINKS") != "bare" { // without a group it shows the nodes alone
		servers = mysqltest.Start(t, 3, mysqltest.Each(func(_ int, cfg *mysqld.Config) { cfg.BindAddress = s.net + ".254" }))
	}
	h := newThree(t, servers)
	h.host = s.host
	h.inNet = func(i int) []string { return []string{"ip", "netns", "exec", s.space(i)} }
	for i, name := range []string{"m1", "m2", "m3"} {
		m, ok := h.spec[name]
		if !ok {
			m = api.Member{Name: name, Address: fmt.Sprintf("127.0.0.1:%d", 20001+i), GroupAddress: fmt.Sprintf("127.0.0.1:%d", 21001+i)}
		}
		m.Address = strings.Replace(m.Address, "127.0.0.1", s.net+".254", 1)
		h.spec[name] = m
	}
	h.edit = func(_ int, f *config.File) { f.Cluster = "shop" }
	var loads []*load
	if servers != nil {
		h.begin()
		h.whole(30 * time.Second)
		ackedTable(t, servers[0])
		for _, n := range h.nodes {
			loads = append(loads, startLoad(t, n.rw, 2, 10*time.Millisecond))
		}
	} else {
		first := h.add()
		h.run(first)
		h.up(first)
		h.join(h.add(), "")
		h.join(h.add(), "")
	}
	type way struct{ a, b int }
	var all []way
	for a := 1; a <= 3; a++ {
		for b := 1; b <= 3; b++ {
			if a != b {
				all = append(all, way{a, b})
			}
		}
	}
	var cases [][]way
	for _, w := range all { // one direction
		cases = append(cases, []way{w})
	}
	for _, w := range all { // both directions
		if w.a < w.b {
			cases = append(cases, []way{w, {w.b, w.a}})
		}
	}
	for n := 1; n <= 3; n++ { // one node is deaf, one is mute, one is alone
		var deaf, mute, alone []way
		for _, w := range all {
			if w.b == n {
				deaf = append(deaf, w)
			}
			if w.a == n {
				mute = append(mute, w)
			}
			if w.a == n || w.b == n {
				alone = append(alone, w)
			}
		}
		cases = append(cases, deaf, mute, alone)
	}
	cases = append(cases, all)
	for _, c := range cases {
		var from []time.Duration
		for _, l := range loads {
			from = append(from, l.now())
		}
		before, _ := h.acting(nil)
		for _, w := range c {
			s.cut(w.a, w.b)
		}
		silent, longest := time.Time{}, time.Duration(0)
		for began := time.Now(); time.Since(began) < 12*time.Second; time.Sleep(100 * time.Millisecond) {
			who := h.claimants()
			if len(who) > 1 {
				if who = h.rivals(); len(who) > 1 {
					t.Errorf("%v cut: %v believe to act at once", c, who)
				}
			}
			switch {
			case len(who) == 1:
				silent = time.Time{}
			case silent.IsZero():
				silent = time.Now()
			default:
				longest = max(longest, time.Since(silent))
			}
		}
		for _, w := range c {
			s.mend(w.a, w.b)
		}
		back := h.nodesWhole(60 * time.Second)
		var pauses []string
		for i, l := range loads {
			gap, _ := l.gap(from[i], l.now())
			n, text := l.errors(from[i])
			pauses = append(pauses, fmt.Sprintf("%s, %d errors %s", gap.Round(time.Millisecond), n, text))
			if gap > 3*time.Second {
				t.Errorf("%v cut: the proxy of node%d paused for %s", c, i+1, gap)
			}
		}
		name := "nobody"
		if before != nil {
			name = before.name
		}
		t.Logf("%v cut while %s acted: nobody acted for %s at most, whole %s after; pauses of the proxies %v", c, name, longest.Round(100*time.Millisecond), back.Round(100*time.Millisecond), pauses)
		if len(c) == 1 && longest > 10*time.Second {
			t.Errorf("%v cut: nobody acted for %s", c, longest)
		}
	}
	for _, l := range loads {
		l.stop()
		l.onEach(t, servers)
	}
	h.nothingTwice()
}

// nodesWhole waits until every node sees all nodes as they should be, and one
// acts.
func (h *three) nodesWhole(limit time.Duration) time.Duration {
	h.t.Helper()
	return h.eventually(limit, "the nodes are whole", func() error {
		for _, s := range h.nodes {
			if !s.runs() {
				continue
			}
			all, err := s.Nodes(h.t.Context())
			if err != nil {
				return err
			}
			if all.Level != "ok" {
				return fmt.Errorf("%s: %+v", s.name, all)
			}
		}
		_, err := h.acting(nil)
		return err
	})
}
