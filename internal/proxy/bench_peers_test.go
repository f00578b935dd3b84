package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	osexec "os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/route"
	"github.com/perdure/perdure/internal/topology"
)

// peer is one way to the server, as a process of its own.
type peer struct {
	name string
	addr string
	pid  int // 0 for the direct way
	tls  bool
}

// child starts a process that is ended, politely, with the test.
func child(t *testing.T, cmd *osexec.Cmd) int {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := mysqld.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func listens(t *testing.T, addr string) {
	t.Helper()
	until(t, 10*time.Second, addr+" listens", func() bool {
		nc, err := net.Dial("tcp", addr)
		if err == nil {
			_ = nc.Close()
		}
		return err == nil
	})
}

// perdurePeer runs the proxy in a process of its own: a test program, this one
// or an older one, with nothing but TestBenchServes to do.
func perdurePeer(t *testing.T, program, server, version, cert, key string, pooling Pooling) peer {
	t.Helper()
	cmd := osexec.Command(program, "-test.run=^TestBenchServes$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), "PERDURE_BENCH_SERVER="+server, "PERDURE_BENCH_VERSION="+version, "PERDURE_BENCH_POOLING="+string(pooling), "PERDURE_BENCH_CERT="+cert, "PERDURE_BENCH_KEY="+key)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	pid := child(t, cmd)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if addr, ok := strings.CutPrefix(lines.Text(), "serving "); ok {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return peer{name: "perdure", addr: addr, pid: pid}
		}
	}
	t.Fatal("the proxy's process did not start")
	return peer{}
}

// TestBenchServes is the process of perdurePeer.
func TestBenchServes(t *testing.T) {
	server := os.Getenv("PERDURE_BENCH_SERVER")
	if server == "" {
		t.Skip("it is the other half of TestBench")
	}
	r := &rig{table: route.New()}
	r.table.SetView(topology.View{Number: 1, Members: []topology.Member{{
		Instance: topology.Instance{Name: "a", Address: server}, State: topology.Online, Writable: true, Readable: true,
		Report: &topology.Report{Version: os.Getenv("PERDURE_BENCH_VERSION")},
	}}})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	stopProfile := benchProfile(t)
	own, err := tls.LoadX509KeyPair(os.Getenv("PERDURE_BENCH_CERT"), os.Getenv("PERDURE_BENCH_KEY"))
	if err != nil {
		t.Fatal(err)
	}
	r.start(t, func(c *Config) {
		c.TLS, c.MemberTLS = &tls.Config{Certificates: []tls.Certificate{own}}, nil
		if os.Getenv("PERDURE_BENCH_MEMBER_TLS") != "" {
			c.MemberTLS = &tls.Config{InsecureSkipVerify: true}
		}
		c.Listeners = []Listener{{Mode: ReadWrite, Address: "127.0.0.1:0", Pooling: Pooling(os.Getenv("PERDURE_BENCH_POOLING"))}}
	})
	fmt.Println("serving", r.proxy.Addr(ReadWrite))
	<-ctx.Done()
	stopProfile()
}

func haproxyPeer(t *testing.T, program, server string) peer {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf("global\n maxconn 2000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 1h\n timeout server 1h\nlisten mysql\n bind %s\n server a %s\n", addr, server)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	pid := child(t, osexec.Command(program, "-f", file))
	listens(t, addr)
	return peer{name: "haproxy", addr: addr, pid: pid}
}

// routerPeer runs MySQL Router with three ways in: plaintext, TLS to clients
// with the server's own certificate, and that with connection sharing.
func routerPeer(t *testing.T, program, server, data string) (plain, secure, sharing peer) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"log", "run", "lib"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "[DEFAULT]\nlogging_folder=%s/log\nruntime_folder=%s/run\ndata_folder=%s/lib\nmax_total_connections=2000\n", dir, dir, dir)
	if plugins, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(program)), "root/usr/lib/mysqlrouter/plugin")); len(plugins) == 1 {
		fmt.Fprintf(&text, "plugin_folder=%s\n", plugins[0])
	}
	text.WriteString("[logger]\nlevel=WARNING\n[connection_pool]\nmax_idle_server_connections=256\n")
	section := func(name, more string) peer {
		addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
		fmt.Fprintf(&text, "[routing:%s]\nbind_address=%s\nrouting_strategy=round-robin\nprotocol=classic\ndestinations=%s\nmax_connections=1000\n%s", name, addr, server, more)
		return peer{name: "router", addr: addr}
	}
	cert := fmt.Sprintf("client_ssl_cert=%s/server-cert.pem\nclient_ssl_key=%s/server-key.pem\nclient_ssl_mode=REQUIRED\nserver_ssl_mode=DISABLED\n", data, data)
	plain = section("plain", "client_ssl_mode=DISABLED\nserver_ssl_mode=DISABLED\n")
	secure = section("secure", cert)
	sharing = section("sharing", cert+"connection_sharing=1\nconnection_sharing_delay=0\n")
	file := filepath.Join(dir, "router.conf")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := osexec.Command(program, "-c", file)
	cmd.Stderr = os.Stderr
	pid := child(t, cmd)
	for _, p := range []*peer{&plain, &secure, &sharing} {
		p.pid = pid
		listens(t, p.addr)
	}
	secure.tls, sharing.tls = true, true
	return plain, secure, sharing
}

// cpuOf is the CPU time a process has used: all of its threads, in user and
// kernel.
func cpuOf(t testing.TB, pid int) time.Duration {
	t.Helper()
	if pid == 0 {
		return 0
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 everywhere
}
