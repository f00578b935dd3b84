package proxy

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysqltest"
)

// TestBench prints what the proxy costs next to its peers: CPU seconds of the
// proxy's process per 100,000 queries, and the 95th percentile. All ways of one
// table take turns, so that what else the machine does hits all of them; the
// table has the medians of the rounds. make bench-proxy runs it.
//
//	PERDURE_BENCH          directory with sysbench, haproxy and mysqlrouter
//	PERDURE_BENCH_ONLY     tables to print, by their first word
//	PERDURE_BENCH_SECONDS  of one measurement; default 4
//	PERDURE_BENCH_ROUNDS   default 3
//	PERDURE_BENCH_RATE     the fixed rate; default 4000 a second
//	PERDURE_BENCH_BEFORE   an older test program of this package, to compare with
//	PERDURE_BENCH_PROFILE  file for a CPU profile of the proxy
func TestBench(t *testing.T) {
	tools := os.Getenv("PERDURE_BENCH")
	if tools == "" || os.Getenv("PERDURE_BENCH_SERVER") != "" {
		t.Skip("PERDURE_BENCH names no directory with the peers: make bench-proxy")
	}
	m := mysqltest.Start(t, 1)[0]
	m.OpenForWrites(t)
	exec(t, m.Root(t), "CREATE USER "+testUser+" IDENTIFIED BY '"+testPassword+"'", "GRANT ALL ON *.* TO "+testUser,
		"CREATE DATABASE test", "SET GLOBAL max_connections=3000")
	b := &bench{
		t: t, sysbench: filepath.Join(tools, "sysbench"), server: m, dir: t.TempDir(),
		seconds: env("PERDURE_BENCH_SECONDS", 4), rounds: env("PERDURE_BENCH_ROUNDS", 3), rate: env("PERDURE_BENCH_RATE", 4000),
	}
	data := b.findCertificates()
	direct := peer{name: "direct", addr: m.Address()}
	haproxy := haproxyPeer(t, filepath.Join(tools, "haproxy"), m.Address())
	router, routerTLS, sharing := routerPeer(t, filepath.Join(tools, "mysqlrouter"), m.Address(), data)
	version := serverVersion(t, m)
	// The server's own certificate, as with the others, for sysbench, which
	// accepts no other.
	cert, key := filepath.Join(data, "server-cert.pem"), filepath.Join(data, "server-key.pem")
	perdure := perdurePeer(t, os.Args[0], m.Address(), version, cert, key, PerConnection)
	perTrx := perdurePeer(t, os.Args[0], m.Address(), version, cert, key, PerTransaction)
	for _, p := range []peer{direct, haproxy, perdure, perTrx} {
		mustRaw(t, p.addr, 0).close() // from here on the password is known: plaintext clients get in
	}
	secure := func(p peer) peer { p.tls = true; return p }
	b.sysbenchRun(direct, 4, 0, 0, "prepare")
	fmt.Printf("%d processors, GOMAXPROCS %d, %s, MySQL %s, %d rounds of %d s, medians; CPU s per 100k queries, p95 in ms\n",
		runtime.NumCPU(), runtime.GOMAXPROCS(0), runtime.Version(), version, b.rounds, b.seconds)
	plain := []peer{direct, haproxy, router, perdure}
	if old := os.Getenv("PERDURE_BENCH_BEFORE"); old != "" {
		before := perdurePeer(t, old, m.Address(), version, cert, key, PerConnection)
		before.name = "before"
		mustRaw(t, before.addr, 0).close()
		plain = []peer{haproxy, before, perdure}
	}
	if b.wants("rate") {
		b.table("rate", plain, 16, b.rate, "auto")
		b.table("rate, text protocol", plain, 16, b.rate, "disable")
	}
	if b.wants("full") {
		for _, n := range []int{1, 8, 32, 128} {
			b.table("full", plain, n, 0, "auto")
		}
	}
	if b.wants("tls") {
		ways := []peer{secure(direct), routerTLS, secure(perdure)}
		b.table("tls, rate", ways, 16, b.rate/2, "auto")
		b.table("tls, full", ways, 8, 0, "auto")
		b.table("tls, full", ways, 32, 0, "auto")
	}
	if b.wants("pooling") {
		ways := []peer{sharing, secure(perTrx)}
		b.table("pooling by transaction, rate", ways, 16, b.rate/4, "disable")
		b.table("pooling by transaction, full", ways, 8, 0, "disable")
		b.table("pooling by transaction, full", ways, 32, 0, "disable")
	}
	if b.wants("idle") {
		b.idle(1000, []peer{haproxy, router, perdure})
	}
	if b.wants("storm") {
		b.storms("storm, plaintext", []peer{direct, haproxy, router, perdure})
		own := b.makeCertificate()
		ecdsa := perdurePeer(t, os.Args[0], m.Address(), version, own, own, PerConnection)
		mustRaw(t, ecdsa.addr, 0).close()
		b.storms("storm, TLS", []peer{secure(direct), sharing, secure(ecdsa)})
	}
}

type bench struct {
	t                     *testing.T
	sysbench, dir         string
	server                *mysqltest.Member
	seconds, rounds, rate int
}

func env(name string, otherwise int) int {
	n, _ := strconv.Atoi(os.Getenv(name))
	return cmp.Or(n, otherwise)
}

func (b *bench) wants(table string) bool {
	only := os.Getenv("PERDURE_BENCH_ONLY")
	return only == "" || slices.Contains(strings.Split(only, ","), table)
}

// findCertificates brings what the server made for itself under the names that
// sysbench looks for in its directory.
func (b *bench) findCertificates() (data string) {
	b.t.Helper()
	if err := b.server.Root(b.t).QueryRow("SELECT @@datadir").Scan(&data); err != nil {
		b.t.Fatal(err)
	}
	for from, to := range map[string]string{"client-key.pem": "client-key.pem", "client-cert.pem": "client-cert.pem", "ca.pem": "cacert.pem"} {
		pem, err := os.ReadFile(filepath.Join(data, from))
		if err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.dir, to), pem, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	return filepath.Clean(data)
}

// makeCertificate makes one of the kind a playground's proxy has.
func (b *bench) makeCertificate() (file string) {
	b.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "perdure bench"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		b.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	file = filepath.Join(b.dir, "proxy.pem")
	if err := os.WriteFile(file, append(public, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return file
}

// figure is one measurement, or the medians of several.
type figure struct {
	perSecond, p95, cpu, serverCPU float64
}

func median(all []figure, of func(figure) float64) float64 {
	var v []float64
	for _, f := range all {
		v = append(v, of(f))
	}
	slices.Sort(v)
	if len(v)%2 == 0 {
		return (v[len(v)/2-1] + v[len(v)/2]) / 2
	}
	return v[len(v)/2]
}

func medians(all []figure) figure {
	return figure{
		perSecond: median(all, func(f figure) float64 { return f.perSecond }),
		p95:       median(all, func(f figure) float64 { return f.p95 }),
		cpu:       median(all, func(f figure) float64 { return f.cpu }),
		serverCPU: median(all, func(f figure) float64 { return f.serverCPU }),
	}
}

func (b *bench) table(title string, ways []peer, threads, rate int, ps string) {
	b.t.Helper()
	got := map[string][]figure{}
	for range b.rounds {
		for _, p := range ways {
			got[p.name] = append(got[p.name], b.sysbenchRun(p, threads, rate, b.seconds, "run", "--db-ps-mode="+ps))
		}
	}
	speed := "at saturation"
	if rate > 0 {
		speed = fmt.Sprintf("%d/s", rate)
	}
	fmt.Printf("\n%s: %d clients, %s\n", title, threads, speed)
	ours := medians(got["perdure"])
	for _, p := range ways {
		f := medians(got[p.name])
		fmt.Printf("  %-8s %8.0f/s  p95 %6.2f  cpu %5.2f", p.name, f.perSecond, f.p95, f.cpu)
		if p.pid != 0 && p.name != "perdure" {
			fmt.Printf("  perdure is %.2f x", ours.cpu/f.cpu)
		}
		fmt.Println()
	}
}

var (
	queriesLine = regexp.MustCompile(`queries:\s+(\d+)\s+\(([\d.]+) per sec`)
	p95Line     = regexp.MustCompile(`95th percentile:\s+([\d.]+)`)
)

// sysbenchRun drives point selects through one way.
func (b *bench) sysbenchRun(p peer, threads, rate, seconds int, verb string, more ...string) (f figure) {
	b.t.Helper()
	host, port, _ := net.SplitHostPort(p.addr)
	args := append([]string{
		"oltp_point_select", "--mysql-host=" + host, "--mysql-port=" + port, "--mysql-user=" + testUser, "--mysql-password=" + testPassword,
		"--mysql-db=test", "--tables=1", "--table-size=10000", "--percentile=95", "--threads=" + strconv.Itoa(threads), "--time=" + strconv.Itoa(seconds),
		"--rate=" + strconv.Itoa(rate),
	}, more...)
	if p.tls {
		args = append(args, "--mysql-ssl=on")
	}
	var before time.Duration
	var out []byte
	var err error
	for try := range 5 {
		cmd := osexec.Command(b.sysbench, append(args, verb)...)
		cmd.Dir = b.dir
		before = cpuOf(b.t, p.pid)
		out, err = cmd.CombinedOutput()
		if p.name != "router" || err == nil || !strings.Contains(string(out), "error 2027") {
			break
		}
		// Now and then Router 9.7 answers one of many sign-ins at once with a
		// packet that sysbench's library calls malformed.
		b.t.Logf("router, try %d: a sign-in failed with error 2027", try)
	}
	if err != nil || strings.Contains(string(out), "FATAL") {
		b.t.Fatalf("sysbench through %s: %v\n%s", p.name, err, out)
	}
	if verb != "run" {
		return f
	}
	used := cpuOf(b.t, p.pid) - before
	q, p95 := queriesLine.FindSubmatch(out), p95Line.FindSubmatch(out)
	if q == nil || p95 == nil {
		b.t.Fatalf("sysbench says what we do not know:\n%s", out)
	}
	n, _ := strconv.ParseFloat(string(q[1]), 64)
	f.perSecond, _ = strconv.ParseFloat(string(q[2]), 64)
	f.p95, _ = strconv.ParseFloat(string(p95[1]), 64)
	f.cpu = used.Seconds() / max(n, 1) * 1e5
	return f
}

// benchProfile writes a CPU profile of the proxy if one was asked for.
func benchProfile(t *testing.T) (stop func()) {
	name := os.Getenv("PERDURE_BENCH_PROFILE")
	if name == "" {
		return func() {}
	}
	file, err := os.Create(name + "." + os.Getenv("PERDURE_BENCH_POOLING"))
	if err != nil {
		t.Fatal(err)
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		t.Fatal(err)
	}
	return func() { pprof.StopCPUProfile(); _ = file.Close() }
}
