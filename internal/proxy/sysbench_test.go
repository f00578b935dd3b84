package proxy

import (
	"fmt"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
)

// TestCost compares the CPU time of the proxy with HAProxy's, in one run and in
// turns: sysbench point selects at a fixed moderate rate, and at saturation. It
// runs where PERDURE_BENCH is set and sysbench and haproxy are on PATH.
func TestCost(t *testing.T) {
	if os.Getenv("PERDURE_BENCH") == "" {
		t.Skip("PERDURE_BENCH is not set")
	}
	sysbench, err := osexec.LookPath("sysbench")
	if err != nil {
		t.Skip(err)
	}
	haproxy, err := osexec.LookPath("haproxy")
	if err != nil {
		t.Skip(err)
	}
	r := alone(t, func(c *Config) { c.MemberTLS = nil })
	exec(t, r.members[0].Root(t), "SET GLOBAL max_connections=1000")
	b := &bench{t: t, sysbench: sysbench, haproxy: haproxy, dir: t.TempDir(), member: r.members[0]}
	direct, through := r.members[0].Address(), r.proxy.Addr(ReadWrite).String()
	mustRaw(t, direct, 0).close()  // from here on the password is known to both,
	mustRaw(t, through, 0).close() // and plaintext clients get in
	b.run(direct, 4, 0, 0, "prepare")
	seconds := 6
	for _, w := range []struct {
		threads, rate int
		extra         string
	}{{16, 6000, "auto"}, {16, 6000, "disable"}, {8, 0, "auto"}, {32, 0, "auto"}} {
		for round := range 2 {
			d := b.run(direct, w.threads, w.rate, seconds, "run", "--db-ps-mode="+w.extra)
			h := b.throughHAProxy(direct, w.threads, w.rate, seconds, "--db-ps-mode="+w.extra)
			before := cpu()
			p := b.run(through, w.threads, w.rate, seconds, "run", "--db-ps-mode="+w.extra)
			p.cpu = cpu() - before
			t.Logf("threads %d rate %d ps %s round %d\n direct  %s\n haproxy %s\n perdure %s", w.threads, w.rate, w.extra, round, d, h, p)
		}
	}
}

type bench struct {
	t                      *testing.T
	sysbench, haproxy, dir string
	member                 *mysqltest.Member
}

type result struct {
	queries int
	p95     float64
	cpu     time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("%7d queries, p95 %5.2f ms, %5.2f CPU s per 100k", r.queries, r.p95, r.cpu.Seconds()/float64(max(r.queries, 1))*1e5)
}

var (
	queriesLine = regexp.MustCompile(`queries:\s+(\d+)`)
	p95Line     = regexp.MustCompile(`95th percentile:\s+([\d.]+)`)
)

func (b *bench) run(addr string, threads, rate, seconds int, verb string, more ...string) (r result) {
	b.t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	args := append([]string{
		"oltp_point_select", "--mysql-host=" + host, "--mysql-port=" + port, "--mysql-user=" + testUser, "--mysql-password=" + testPassword,
		"--mysql-db=test", "--tables=1", "--table-size=10000", "--percentile=95", "--threads=" + strconv.Itoa(threads), "--time=" + strconv.Itoa(seconds),
		"--rate=" + strconv.Itoa(rate),
	}, more...)
	cmd := osexec.Command(b.sysbench, append(args, verb)...)
	cmd.Dir = filepath.Dir(filepath.Dir(b.sysbench)) + "/share/sysbench"
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("sysbench: %v\n%s", err, out)
	}
	if m := queriesLine.FindSubmatch(out); m != nil {
		r.queries, _ = strconv.Atoi(string(m[1]))
	}
	if m := p95Line.FindSubmatch(out); m != nil {
		r.p95, _ = strconv.ParseFloat(string(m[1]), 64)
	}
	if strings.Contains(string(out), "FATAL") {
		b.t.Errorf("sysbench: %s", out)
	}
	return r
}

func (b *bench) throughHAProxy(server string, threads, rate, seconds int, more ...string) result {
	b.t.Helper()
	port, err := mysqld.FreePort()
	if err != nil {
		b.t.Fatal(err)
	}
	file := filepath.Join(b.dir, "haproxy.cfg")
	text := fmt.Sprintf("global\n maxconn 2000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\nlisten mysql\n bind 127.0.0.1:%d\n server a %s\n", port, server)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	cmd := osexec.Command(b.haproxy, "-f", file)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	until(b.t, 5*time.Second, "haproxy listens", func() bool {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			_ = nc.Close()
		}
		return err == nil
	})
	r := b.run(addr, threads, rate, seconds, "run", more...)
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	r.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return r
}
