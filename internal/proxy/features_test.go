package proxy

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/mysql/wire"
)

// login opens one connection, says whom the server takes it for, and closes it.
func login(t testing.TB, c *driver.Config) (string, error) {
	t.Helper()
	db := openDB(t, c)
	var who string
	err := db.QueryRowContext(t.Context(), "SELECT CURRENT_USER()").Scan(&who)
	_ = db.Close()
	return who, err
}

func as(user, password string) func(*driver.Config) {
	return func(c *driver.Config) { c.User, c.Passwd = user, password }
}

func code(err error) uint16 {
	if e, ok := errors.AsType[*driver.MySQLError](err); ok {
		return e.Number
	}
	return 0
}

func TestAccountsOfOtherPluginsSignInAsTheyDoDirectly(t *testing.T) {
	t.Parallel()
	r := alone(t)
	root := r.members[0].Root(t)
	exec(t, root, "CREATE USER old IDENTIFIED WITH sha256_password BY 'Old-pass1'", "GRANT ALL ON test.* TO old",
		"CREATE USER expired IDENTIFIED BY 'Exp-pass1' PASSWORD EXPIRE", "CREATE USER locked IDENTIFIED BY 'Loc-pass1' ACCOUNT LOCK",
		"CREATE USER nobody IDENTIFIED BY ''")
	users := [][2]string{{"old", "Old-pass1"}, {"old", "wrong"}, {"expired", "Exp-pass1"}, {"locked", "Loc-pass1"}, {"nobody", ""}, {"who", "x"}}
	if _, err := root.ExecContext(t.Context(), "INSTALL PLUGIN mysql_no_login SONAME 'mysql_no_login.so'"); err == nil {
		exec(t, root, "CREATE USER never IDENTIFIED WITH mysql_no_login")
		users = append(users, [2]string{"never", "x"})
	}
	if _, err := root.ExecContext(t.Context(), "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'"); err == nil {
		exec(t, root, "CREATE USER bysocket IDENTIFIED WITH auth_socket")
		users = append(users, [2]string{"bysocket", ""})
	}
	noDB := func(c *driver.Config) { c.DBName = "" }
	for _, u := range users {
		for _, way := range []func(*driver.Config){inTLS, func(*driver.Config) {}} {
			for _, mode := range []Mode{ReadWrite, Split} {
				who, err := login(t, clientOf(r.members[0].Address(), as(u[0], u[1]), noDB, way))
				got, through := login(t, r.dsn(mode, as(u[0], u[1]), noDB, way))
				if got != who || code(err) != code(through) || (err == nil) != (through == nil) {
					t.Errorf("%s: directly %q %v, through the proxy %q %v", u, who, err, got, through)
				}
			}
		}
	}
	// Who gives us the password can be moved, whatever the server does with it.
	exec(t, r.conn(t, ReadWrite, as("old", "Old-pass1"), inTLS), "SET @a = 1")
	// Those that were refused hear of it a moment before their session is gone.
	until(t, 5*time.Second, "no session is without a credential", func() bool { return r.proxy.Pins()["no-credential"] == 0 })
	// Who insists on a method of its own settles it with the server.
	for _, plugin := range []string{"sha256_password", "mysql_clear_password", "unheard_of"} {
		for _, addr := range []string{r.members[0].Address(), r.proxy.Addr(ReadWrite).String()} {
			rc, err := rawLoginBy(plugin, addr, wire.ClientDeprecateEOF, testUser, testPassword)
			if err != nil {
				t.Error(plugin, addr, err)
				continue
			}
			if a, err := rc.query("SELECT 'here'"); err != nil || !bytes.Contains(a, []byte("here")) {
				t.Error(plugin, addr, err)
			}
			if got := r.proxy.Pins()["no-credential"]; addr != r.members[0].Address() && got != 1 {
				t.Error("sessions without a credential:", got)
			}
			rc.close()
			until(t, 5*time.Second, "it is gone", func() bool { return r.proxy.Pins()["no-credential"] == 0 })
			if _, err := rawLoginBy(plugin, addr, 0, testUser, "wrong"); err == nil || !strings.Contains(err.Error(), "denied") {
				t.Error(plugin, addr, err)
			}
			until(t, 5*time.Second, "the refused one is gone", func() bool { return r.proxy.Pins()["no-credential"] == 0 })
		}
	}
}

func TestAPlaintextClientSealsItsPasswordWithOurKey(t *testing.T) {
	t.Parallel()
	for _, memberTLS := range []*tls.Config{nil, {InsecureSkipVerify: true}} {
		r := alone(t, func(c *Config) { c.TLS, c.MemberTLS = nil, memberTLS })
		if who, err := login(t, r.dsn(ReadWrite)); err != nil || who != testUser+"@%" {
			t.Errorf("TLS to members %v: %q %v", memberTLS != nil, who, err)
		}
		if _, err := login(t, r.dsn(ReadWrite, as(testUser, "wrong"))); code(err) != 1045 {
			t.Error(err)
		}
	}
}

// authority makes a CA and a certificate for 127.0.0.1 signed by it, as files.
func authority(t testing.TB, dir string) (ca *x509.CertPool, cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "member"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(rootDER)
	if err != nil {
		t.Fatal(err)
	}
	pkcs, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	ca = x509.NewCertPool()
	ca.AddCert(parsed)
	cert, key = filepath.Join(dir, "member.pem"), filepath.Join(dir, "member.key")
	for file, block := range map[string]*pem.Block{filepath.Join(dir, "ca.pem"): {Type: "CERTIFICATE", Bytes: rootDER}, cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return ca, cert, key
}

func TestAMemberWithAForeignCertificateIsRefused(t *testing.T) {
	t.Parallel()
	right, cert, key := authority(t, t.TempDir())
	wrong, _, _ := authority(t, t.TempDir())
	tlsOf := &tls.Config{RootCAs: right}
	r := alone(t, func(c *Config) { c.MemberTLS, c.HoldLimit = tlsOf, time.Second })
	bad := &rig{members: r.members, table: r.table}
	bad.start(t, func(c *Config) { c.MemberTLS, c.HoldLimit = &tls.Config{RootCAs: wrong}, time.Second })
	exec(t, r.members[0].Root(t), "SET GLOBAL ssl_cert='"+cert+"'", "SET GLOBAL ssl_key='"+key+"'", "SET GLOBAL ssl_ca='"+filepath.Join(filepath.Dir(cert), "ca.pem")+"'", "ALTER INSTANCE RELOAD TLS")
	if who, err := login(t, r.dsn(ReadWrite, inTLS)); err != nil || who != testUser+"@%" {
		t.Error(who, err)
	}
	_, err := login(t, bad.dsn(ReadWrite, inTLS))
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Error("a member of another authority:", err)
	}
}

func TestTheBinlogIsReadThroughTheProxy(t *testing.T) {
	t.Parallel()
	r := alone(t)
	exec(t, r.members[0].Root(t), "CREATE TABLE test.t (id INT PRIMARY KEY, v LONGTEXT)", "INSERT INTO test.t VALUES (1, REPEAT('x', 3000000)), (2, 'y')")
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", r.members[0].PID()))
	if err != nil {
		t.Skip(err)
	}
	tool := filepath.Join(filepath.Dir(exe), "mysqlbinlog")
	if _, err := os.Stat(tool); err != nil {
		t.Skip(err)
	}
	var file string
	if err := r.members[0].Root(t).QueryRow("SELECT LOG_NAME FROM performance_schema.log_status, JSON_TABLE(LOCAL, '$' COLUMNS (LOG_NAME VARCHAR(100) PATH '$.binary_log_file')) j").Scan(&file); err != nil {
		t.Fatal(err)
	}
	dump := func(addr string) []byte {
		host, port, _ := net.SplitHostPort(addr)
		cmd := osexec.Command(tool, "--no-defaults", "-h"+host, "-P"+port, "-u"+testUser, "--read-from-remote-server", "--raw", "--result-file=-", file)
		cmd.Args[len(cmd.Args)-2] = "--result-file=" + filepath.Join(t.TempDir(), "x")
		cmd.Env = append(os.Environ(), "MYSQL_PWD="+testPassword)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		b, err := os.ReadFile(strings.TrimPrefix(cmd.Args[len(cmd.Args)-2], "--result-file=") + file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	direct, through := dump(r.members[0].Address()), dump(r.proxy.Addr(ReadWrite).String())
	if len(direct) < 3_000_000 || !bytes.Equal(direct, through) {
		t.Errorf("%d bytes directly, %d through the proxy", len(direct), len(through))
	}
}

func TestCommandsWeDoNotKnowAreTheServersToAnswer(t *testing.T) {
	t.Parallel()
	r := alone(t)
	for _, command := range []byte{0x2a, 0x7f, 0} {
		var answers [][]byte
		for _, addr := range []string{r.members[0].Address(), r.proxy.Addr(ReadWrite).String()} {
			rc := mustRaw(t, addr, wire.ClientDeprecateEOF)
			a, err := rc.do(wire.AppendCommand(nil, command, "x"), wire.ShapeOK)
			if err != nil {
				t.Error(addr, err)
			}
			b, err := rc.query("SELECT 7")
			answers = append(answers, append(append(a, b...), fmt.Sprint(err)...))
		}
		if !bytes.Equal(answers[0], answers[1]) {
			t.Errorf("command %d: directly %q, through the proxy %q", command, answers[0], answers[1])
		}
	}
}

func TestClientsAreHeldToTheLimits(t *testing.T) {
	t.Parallel()
	r := alone(t, func(c *Config) { c.IdleTimeout, c.RequireTLS = time.Second, true })
	if _, err := login(t, r.dsn(ReadWrite)); code(err) != 3159 {
		t.Error("a plaintext client:", err)
	}
	rc := mustRaw(t, r.proxy.Addr(ReadWrite).String(), 0)
	until(t, 10*time.Second, "the idle session has ended", func() bool { return r.proxy.session(rc.id) == nil })
	p, _, err := rc.c.ReadPacket(1 << 16)
	if err != nil || wire.ErrCode(p) != 1053 {
		t.Errorf("an idle client was told %q %v", p, err)
	}
	many := &rig{members: r.members, table: r.table}
	many.start(t, func(c *Config) { c.ConnRate = 5 })
	var refused atomic.Int32
	var wg sync.WaitGroup
	for range 30 { // one after the other they may be slower than the rate
		wg.Go(func() {
			if _, err := login(t, many.dsn(ReadWrite, inTLS)); err != nil {
				if code(err) != 1040 {
					t.Error(err)
				}
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	if refused.Load() == 0 {
		t.Error("30 connections at once were all let in")
	}
	until(t, 10*time.Second, "the rate allows another", func() bool { _, err := login(t, many.dsn(ReadWrite, inTLS)); return err == nil })
}

// announced dials and says first, in the words of the PROXY protocol, for whom.
func announced(header []byte) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		var d net.Dialer
		nc, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			_, err = nc.Write(header)
		}
		return nc, err
	}
}

func TestABalancerNamesItsClientOnlyFromListedNetworks(t *testing.T) {
	t.Parallel()
	v2 := append(append([]byte(nil), v2Signature...), 0x21, 0x11, 0, 12, 203, 0, 113, 9, 10, 0, 0, 1, 0x30, 0x39, 0x0c, 0xea)
	local := append(append([]byte(nil), v2Signature...), 0x20, 0, 0, 0)
	driver.RegisterDialContext("proxy-v1", announced([]byte("PROXY TCP4 203.0.113.8 10.0.0.1 12345 3306\r\n")))
	driver.RegisterDialContext("proxy-v2", announced(v2))
	driver.RegisterDialContext("proxy-local", announced(local))
	// What an application says of itself keeps its connections apart from others'.
	via := func(n string) func(*driver.Config) {
		return func(c *driver.Config) { c.Net, c.ConnectionAttributes = n, "via:"+n }
	}
	r := alone(t, func(c *Config) {
		c.LoginTimeout = 2 * time.Second
		c.ProxyNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	for network, want := range map[string]string{"proxy-v1": "203.0.113.8:12345", "proxy-v2": "203.0.113.9:12345", "proxy-local": "127.0.0.1:"} {
		for _, way := range []func(*driver.Config){inTLS, func(*driver.Config) {}} {
			c := r.conn(t, ReadWrite, via(network), way)
			id := ask(t, c, "SELECT ATTR_VALUE FROM performance_schema.session_connect_attrs WHERE PROCESSLIST_ID=CONNECTION_ID() AND ATTR_NAME='_client_ip'")
			if !strings.HasPrefix(want, id+":") {
				t.Errorf("%s: the server was told %s", network, id)
			}
			if got := r.proxy.Sessions(); len(got) != 1 || !strings.HasPrefix(got[0].Client, want) {
				t.Errorf("%s: %v", network, got)
			}
			closeNow(t, r, c)
		}
	}
	if _, err := login(t, r.dsn(ReadWrite, func(c *driver.Config) { c.Timeout = 2 * time.Second; c.ReadTimeout = 15 * time.Second })); err == nil {
		t.Error("a connection without a header was let in from a network that has to send one")
	}
	strict := alone(t)
	for _, network := range []string{"proxy-v1", "proxy-v2"} {
		if _, err := login(t, strict.dsn(ReadWrite, via(network))); err == nil {
			t.Error(network, "was believed from an unlisted network")
		}
	}
}

func closeNow(t testing.TB, r *rig, c *sql.Conn) {
	t.Helper()
	_ = c.Raw(func(any) error { return errors.New("close it") })
	_ = c.Raw(func(any) error { return driver.ErrInvalidConn })
	_ = c.Close()
	for _, s := range r.proxy.list() {
		s.end()
	}
	until(t, 5*time.Second, "the session has ended", func() bool { return len(r.proxy.Sessions()) == 0 })
}
