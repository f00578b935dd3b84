package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/envelope"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/pki"
	"github.com/perdure/perdure/internal/queue"
)

// TestSoak throws faults at queue nodes and the database while clients write,
// and counts at the end. Seconds, faults and nodes are set by the environment:
//
//	PERDURE_SOAK=600 PERDURE_SOAK_NODES=1 go test ./internal/queue -run TestSoak -v -timeout 60m
func TestSoak(t *testing.T) {
	seconds := envInt("PERDURE_SOAK", 0)
	if seconds == 0 {
		t.Skip("set PERDURE_SOAK to a number of seconds")
	}
	soak(t, time.Duration(seconds)*time.Second, envInt("PERDURE_SOAK_NODES", 1), 12)
}

// The same, short, so that every change meets some faults.
func TestAShortSoak(t *testing.T) {
	if testing.Short() || os.Getenv("PERDURE_SOAK") != "" {
		t.Skip("long")
	}
	t.Parallel()
	soak(t, 12*time.Second, 1, 4)
}

type soakRun struct {
	t      *testing.T
	place  *place
	nodes  []*nodeProc
	judge  *judge
	epoch  int64
	acked  atomic.Int64
	doubts atomic.Int64
	refuse atomic.Int64
	faults map[string]int
	rnd    *rand.Rand

	group   *soakGroup // nil: one server
	story   []string   // for whoever looks for the cause of a failure
	missing []string   // faults this machine does not allow
}

type nodeProc struct {
	spec nodeSpec
	mu   sync.Mutex
	cmd  *exec.Cmd
	disk *disk // its own, where this machine allows it
}

func (n *nodeProc) start(t *testing.T) {
	t.Helper()
	text, err := json.Marshal(n.spec)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "PERDURE_QUEUE_NODE="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	errs, err := os.OpenFile(filepath.Join(n.spec.Dir, n.spec.Name+".err"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	n.cmd = cmd
	n.mu.Unlock()
}

func (n *nodeProc) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		_ = n.cmd.Process.Kill()
		_ = n.cmd.Wait()
		n.cmd = nil
	}
}

func (n *nodeProc) signal(s os.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd != nil {
		_ = n.cmd.Process.Signal(s)
	}
}

func (n *nodeProc) url(path string) string { return "http://" + n.spec.Listen + path }

func (n *nodeProc) post(path string) {
	c := http.Client{Timeout: 3 * time.Second}
	if res, err := c.Post(n.url(path), "", nil); err == nil {
		res.Body.Close()
	}
}

func freeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func soak(t *testing.T, length time.Duration, nodes, clients int) {
	seed := uint64(envInt("PERDURE_SEED", int(time.Now().UnixNano()%1e9)))
	t.Log("seed", seed)
	s := &soakRun{t: t, judge: newJudge(), faults: map[string]int{}, rnd: rand.New(rand.NewPCG(seed, 1))}
	if os.Getenv("PERDURE_SOAK_GROUP") != "" && length > time.Minute {
		s.group = newSoakGroup(t)
		s.place = placeOn(t, s.group.members[0])
	} else {
		s.place = newPlace(t, mysqltest.Durable())
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last faults: %s", strings.Join(s.story[max(0, len(s.story)-10):], "; "))
		}
	})
	s.setUp(nodes, length > time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() { s.client(ctx, c) })
	}
	s.waitAccepting()
	for end := time.Now().Add(length); time.Now().Before(end); {
		s.pause(300, 1200)
		s.fault()
	}
	s.pause(500, 500)
	cancel()
	wg.Wait()
	s.settle()
	if s.group != nil {
		s.place.member = s.group.members[s.group.writer]
	}
	v := s.judge.check(t, s.place)
	s.print(length, v)
	var dead, held int
	root := s.place.member.Root(t)
	if err := root.QueryRow("SELECT (SELECT COUNT(*) FROM perdure.queue_dead), (SELECT COUNT(*) FROM perdure.queue_held)").Scan(&dead, &held); err != nil {
		t.Fatal(err)
	}
	if v.lost+v.twice+v.strange+v.disorder+dead+held != 0 || v.acked == 0 {
		t.Fatalf("%v, dead letters %d, held %d", v, dead, held)
	}
}

func (s *soakRun) setUp(n int, disks bool) {
	t := s.t
	dir := t.TempDir()
	if s.group != nil {
		s.group.file = filepath.Join(dir, "writer")
		s.group.turn(t, 0)
	}
	keys := filepath.Join(dir, "keys")
	if err := envelope.AddKey(keys); err != nil {
		t.Fatal(err)
	}
	user, pw := mysqltest.AppAccount()
	var peers []string
	for range n {
		peers = append(peers, freeAddr(t))
	}
	for i := range n {
		spec := nodeSpec{Name: fmt.Sprint("n", i), Dir: dir, Keys: keys, Listen: freeAddr(t), MySQL: s.place.member.Address(), User: user, Password: pw, Schema: s.place.schema, Apply: n == 1}
		if n > 1 {
			ca, err := pki.Open(filepath.Join(dir, "pki"))
			if err != nil {
				t.Fatal(err)
			}
			spec.Cert, spec.Key, err = ca.Issue(spec.Name, "127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			spec.CA, spec.Cluster, spec.Peers, spec.Replicas = ca.CA(), peers[i], peers, 3
		}
		p := &nodeProc{spec: spec}
		if s.group != nil {
			p.spec.MySQL, p.spec.Members = "", s.group.addresses()
		}
		if disks {
			var err error
			if p.disk, err = newDisk(t, filepath.Join(dir, spec.Name), 1<<30); err != nil && i == 0 {
				s.missing = append(s.missing, "power loss and full disk: "+err.Error())
			}
		}
		p.start(t)
		t.Cleanup(func() {
			p.kill()
			if t.Failed() {
				b, _ := os.ReadFile(filepath.Join(dir, spec.Name+".err"))
				t.Logf("%s: %.3000s", spec.Name, b)
			}
		})
		s.nodes = append(s.nodes, p)
	}
	s.elect(0)
}

// elect makes one of several nodes the one that applies, with a newer epoch, as
// a lease would.
func (s *soakRun) elect(n int) {
	if len(s.nodes) == 1 {
		return
	}
	s.epoch++
	go func(epoch int64) {
		for range 100 {
			c := http.Client{Timeout: time.Second}
			if res, err := c.Post(s.nodes[n].url(fmt.Sprint("/apply?epoch=", epoch)), "", nil); err == nil {
				res.Body.Close()
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	}(s.epoch)
}

// client writes to its own keys, one request after the other. A request without
// an answer is in doubt, and sent again with the same ids until it is answered.
func (s *soakRun) client(ctx context.Context, c int) {
	hc := &http.Client{Timeout: 20 * time.Second}
	for i := 0; ctx.Err() == nil; i++ {
		k := fmt.Sprintf("c%d-%d", c, i%7)
		writes := make([]queue.Write, 1+i%5)
		wids := make([]string, len(writes))
		for j := range writes {
			wids[j] = fmt.Sprintf("%s-%d-%d", k, i, j)
			writes[j] = chainWrite(k, wids[j])
			writes[j].ID = queue.NewID(time.Now()).String()
		}
		body, _ := json.Marshal(writes)
		for try := 0; ; try++ {
			res, err := hc.Post(s.nodes[(c+try)%len(s.nodes)].url("/w"), "application/json", bytes.NewReader(body))
			if err == nil {
				text, _ := io.ReadAll(res.Body)
				res.Body.Close()
				if res.StatusCode == 202 {
					break
				}
				if res.StatusCode != 503 {
					s.t.Errorf("client %d: %d %s", c, res.StatusCode, text)
					return
				}
				s.refuse.Add(1)
				if strings.Contains(string(text), "in-doubt") {
					s.doubts.Add(1)
				}
			} else {
				s.doubts.Add(1)
			}
			if try > 600 {
				s.t.Errorf("client %d: no answer for too long", c)
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		for _, w := range wids {
			s.judge.acked(k, w)
		}
		s.acked.Add(int64(len(wids)))
		time.Sleep(20 * time.Millisecond) // about 1,500 writes a second in all
	}
}

func (s *soakRun) pause(least, most int) {
	time.Sleep(time.Duration(least+s.rnd.IntN(most-least+1)) * time.Millisecond)
}

func (s *soakRun) waitAccepting() {
	before := s.acked.Load()
	eventually(s.t, 60*time.Second, "writes are accepted", func() bool { return s.acked.Load() > before })
}

func (s *soakRun) mysqlBack() {
	if s.group != nil {
		s.group.back(s.t)
		return
	}
	if err := s.place.member.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.place.member.OpenForWrites(s.t)
}

func (s *soakRun) fault() {
	m := s.place.member
	n := s.rnd.IntN(len(s.nodes))
	node := s.nodes[n]
	if s.group != nil {
		m = s.group.members[s.group.writer]
	}
	kinds := []string{"kill -9 node", "kill -9 mysqld", "kill -9 both", "freeze mysqld", "freeze node", "pause and resume", "two appliers", "database away", "read-only database"}
	if len(s.nodes) > 1 {
		kinds = append(kinds, "kill -9 all nodes", "applier moves", "kill -9 node", "kill -9 node")
	}
	if s.group != nil {
		kinds = append(kinds, "member switch", "member switch", "drain of the writer")
	}
	if node.disk != nil {
		kinds = append(kinds, "power loss of a node", "power loss of all nodes", "disk nearly full", "disk full")
	}
	kind := kinds[s.rnd.IntN(len(kinds))]
	s.faults[kind]++
	began := time.Now()
	defer func() {
		s.story = append(s.story, fmt.Sprintf("%s %s of %s, %s", began.Format("15:04:05"), kind, node.spec.Name, time.Since(began).Round(time.Millisecond)))
	}()
	check := func(err error) {
		if err != nil {
			s.t.Fatal(kind, err)
		}
	}
	switch kind {
	case "kill -9 node":
		node.kill()
		s.pause(0, 300)
		node.start(s.t)
		if len(s.nodes) > 1 {
			s.elect((n + 1) % len(s.nodes))
			s.pause(500, 3000)
		}
		s.waitAccepting()
	case "kill -9 mysqld":
		check(m.Kill(mysqld.StayDown))
		s.mysqlBack()
	case "kill -9 both":
		node.kill()
		check(m.Kill(mysqld.StayDown))
		node.start(s.t)
		s.mysqlBack()
		s.elect(n)
		s.waitAccepting()
	case "freeze mysqld":
		check(m.Freeze())
		s.pause(500, 4000)
		check(m.Thaw())
	case "freeze node":
		node.signal(syscall.SIGSTOP)
		s.pause(300, 2500)
		node.signal(syscall.SIGCONT)
	case "pause and resume":
		for _, n := range s.nodes {
			n.post("/pause")
		}
		s.pause(100, 700)
		for _, n := range s.nodes {
			n.post("/resume")
		}
	case "two appliers":
		if len(s.nodes) == 1 {
			node.post("/duel")
			s.pause(500, 2000)
		} else {
			s.elect(n)
			s.elect((n + 1) % len(s.nodes))
		}
	case "applier moves":
		s.elect(n)
	case "database away":
		check(m.Stop(s.t.Context()))
		s.pause(1000, 4000)
		s.mysqlBack()
	case "member switch":
		s.group.turn(s.t, (s.group.writer+1)%len(s.group.members))
	case "drain of the writer":
		// Nobody is the writer until all agree on another one.
		was := s.group.writer
		s.group.turn(s.t, -1)
		s.pause(100, 800)
		s.group.turn(s.t, (was+1)%len(s.group.members))
	case "power loss of a node", "power loss of all nodes":
		hit := []*nodeProc{node}
		if kind == "power loss of all nodes" {
			hit = s.nodes
		}
		for _, n := range hit {
			n.kill()
		}
		for _, n := range hit {
			check(n.disk.cut())
			n.start(s.t)
		}
		s.elect(n)
		s.waitAccepting()
	case "disk nearly full", "disk full":
		leave := int64(nodeReserve - 1<<20)
		if kind == "disk full" {
			leave = 0
		}
		empty, err := node.disk.fill(leave)
		check(err)
		s.pause(300, 2000)
		check(empty())
		s.waitAccepting()
	case "read-only database":
		_, err := m.Root(s.t).Exec("SET GLOBAL super_read_only=ON")
		check(err)
		s.pause(200, 1000)
		m.OpenForWrites(s.t)
	case "kill -9 all nodes":
		for _, n := range s.nodes {
			n.kill()
		}
		for _, n := range s.nodes {
			n.start(s.t)
		}
		s.elect(n)
		s.waitAccepting()
	}
}

// settle waits until everything acknowledged is in the database.
func (s *soakRun) settle() {
	s.elect(0)
	root := s.place.root
	if s.group != nil {
		root = s.group.members[s.group.writer].Root(s.t)
	}
	eventually(s.t, 3*time.Minute, "everything is applied", func() bool {
		var n int64
		err := root.QueryRow(s.place.sql("SELECT COUNT(*) FROM q.effects")).Scan(&n)
		if err == nil && n < s.acked.Load() {
			time.Sleep(200 * time.Millisecond)
		}
		return err == nil && n >= s.acked.Load()
	})
	time.Sleep(time.Second) // what came twice would come now
}

func (s *soakRun) print(length time.Duration, v verdict) {
	var names []string
	total := 0
	for k, n := range s.faults {
		names = append(names, k)
		total += n
	}
	sort.Strings(names)
	fmt.Printf("soak: %d node(s), %s, %d faults\n", len(s.nodes), length, total)
	for _, k := range names {
		fmt.Printf("  %-20s %d\n", k, s.faults[k])
	}
	for _, m := range s.missing {
		fmt.Printf("  SKIPPED: %s\n", m)
	}
	fmt.Printf("  %v\n  requests without an answer (in doubt, sent again) %d, refused with 503 %d\n", v, s.doubts.Load(), s.refuse.Load())
}
