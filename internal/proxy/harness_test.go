package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/outcome"
	"github.com/perdure/perdure/internal/route"
	"github.com/perdure/perdure/internal/topology"
	"github.com/perdure/perdure/internal/watch"
)

func TestMain(m *testing.M) { mysqltest.Main(m) }

// The account tests sign in with: it may do everything.
const testUser, testPassword = "tester", "T3ster-pass"

// rig is a proxy in front of real servers.
type rig struct {
	members []*mysqltest.Member
	table   *route.Table
	proxy   *Proxy
	watcher *watch.Watcher
	// unfollow ends what hands Views to the table.
	unfollow func()
	// open and settings are how a member is spoken to and what it needs to join.
	open     func(topology.Instance) (*mysql.Server, error)
	settings func(i int) [][2]string
}

// prepare gives a member that just started what its group needs it to know.
func (r *rig) prepare(t testing.TB, i int) *mysql.Server {
	t.Helper()
	m := r.members[i]
	s, err := r.open(topology.Instance{Name: m.Name(), Address: m.Address()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for _, v := range r.settings(i) {
		if err := s.SetGlobal(t.Context(), map[string]string{"group_replication_" + v[0]: v[1]}); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, m.Root(t), "SET GLOBAL max_connections=2000", "SET GLOBAL local_infile=ON",
		"CHANGE REPLICATION SOURCE TO SOURCE_USER='root_rpl', SOURCE_PASSWORD='R3plica-pass' FOR CHANNEL 'group_replication_recovery'")
	return s
}

func (r *rig) join(t testing.TB, i int) {
	t.Helper()
	if err := r.prepare(t, i).Join(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// alone is a proxy in front of one server that is in no group.
func alone(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{members: mysqltest.Start(t, 1), table: route.New()}
	m := r.members[0]
	m.OpenForWrites(t)
	exec(t, m.Root(t), "CREATE USER "+testUser+" IDENTIFIED BY '"+testPassword+"'", "GRANT ALL ON *.* TO "+testUser+" WITH GRANT OPTION",
		"CREATE DATABASE test", "SET GLOBAL local_infile=ON")
	r.table.SetView(topology.View{Number: 1, Members: []topology.Member{{
		Instance: topology.Instance{Name: m.Name(), Address: m.Address()}, State: topology.Online, Writable: true, Readable: true,
		Report: &topology.Report{Version: serverVersion(t, m)},
	}}})
	r.start(t, change...)
	return r
}

func serverVersion(t testing.TB, m *mysqltest.Member) (v string) {
	t.Helper()
	if err := m.Root(t).QueryRow("SELECT VERSION()").Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// group is a proxy in front of a multi-primary group that is really watched.
func group(t testing.TB, n int, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{members: mysqltest.Start(t, n), table: route.New()}
	var locals []string
	for range r.members {
		port, err := mysqld.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		locals = append(locals, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	}
	user, password := mysqltest.AdminAccount()
	open := func(in topology.Instance) (*mysql.Server, error) {
		return mysql.Open(in.Name, mysql.Login{Address: in.Address, User: user, Password: password, TLS: &tls.Config{InsecureSkipVerify: true}})
	}
	r.open = open
	r.settings = func(i int) [][2]string {
		return [][2]string{
			{"group_name", "5ca1ab1e-0000-4000-8000-0000000000aa"},
			{"local_address", locals[i]},
			{"member_expel_timeout", "0"},
			{"group_seeds", strings.Join(locals, ",")},
			{"single_primary_mode", "OFF"},
			{"enforce_update_everywhere_checks", "ON"},
			{"start_on_boot", "OFF"},
			{"recovery_get_public_key", "ON"},
		}
	}
	var instances []topology.Instance
	for i, m := range r.members {
		instances = append(instances, topology.Instance{Name: m.Name(), Address: m.Address()})
		if i == 0 {
			s := r.prepare(t, i)
			if err := s.Bootstrap(t.Context()); err != nil {
				t.Fatal(err)
			}
			exec(t, m.Root(t), "CREATE USER root_rpl IDENTIFIED BY 'R3plica-pass'", "GRANT REPLICATION SLAVE, CONNECTION_ADMIN, BACKUP_ADMIN, GROUP_REPLICATION_STREAM ON *.* TO root_rpl",
				"CREATE USER "+testUser+" IDENTIFIED BY '"+testPassword+"'", "GRANT ALL ON *.* TO "+testUser+" WITH GRANT OPTION", "CREATE DATABASE test")
			continue
		}
		r.join(t, i)
	}
	r.watcher = watch.New(open, slog.New(slog.DiscardHandler))
	r.watcher.Watch(topology.Expect{Cluster: "test"}, instances)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.watcher.Run(ctx) })
	changes, stop := r.watcher.Changes()
	following, unfollow := context.WithCancel(ctx)
	var follow sync.WaitGroup
	r.unfollow = func() { unfollow(); follow.Wait() }
	follow.Go(func() {
		for {
			select {
			case <-following.Done():
				return
			case <-changes:
				r.table.SetView(*r.watcher.View())
			}
		}
	})
	t.Cleanup(func() { r.unfollow(); cancel(); stop(); wg.Wait() })
	wait, done := context.WithTimeout(t.Context(), 60*time.Second)
	defer done()
	if _, err := r.watcher.Until(wait, func(v *topology.View) bool { return len(v.In(topology.Online)) == n }); err != nil {
		t.Fatal(err)
	}
	r.table.SetView(*r.watcher.View())
	finder := outcome.New(r.watcher, func(address string) mysql.Login {
		return mysql.Login{Address: address, User: user, Password: password, TLS: &tls.Config{InsecureSkipVerify: true}}
	}, testLog(t))
	wg.Go(func() { _ = finder.Run(ctx) })
	r.start(t, append([]func(*Config){func(c *Config) { c.Doubt, c.Outcomes = r.watcher, outcomes{finder} }}, change...)...)
	return r
}

// still ends what hands Views to the table, with one in force in which all
// members are well, and returns that. The one that happens to be the last may
// suspect a member: on a busy machine one late answer is enough.
func (r *rig) still(t testing.TB) topology.View {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	well, err := r.watcher.Until(ctx, func(v *topology.View) bool { return len(v.In(topology.Online)) == len(r.members) })
	if err != nil {
		t.Fatalf("not all members are well: %v: %+v", err, well.Members)
	}
	r.unfollow()
	v := *well
	v.Number = r.watcher.View().Number + 1 // the table may have taken a newer one meanwhile
	r.table.SetView(v)
	return v
}

// follow waits until one server has applied all that another one has.
func follow(t testing.TB, who, whom *sql.DB) {
	t.Helper()
	set := ask(t, whom, "SELECT @@GLOBAL.gtid_executed")
	if ask(t, who, "SELECT WAIT_FOR_EXECUTED_GTID_SET('"+strings.ReplaceAll(set, "\n", "")+"', 60)") != "0" {
		t.Fatal("it did not apply", set)
	}
}

// start runs a proxy with a listener of every mode.
func (r *rig) start(t testing.TB, change ...func(*Config)) {
	t.Helper()
	cfg := Config{
		Route: r.table, Log: testLog(t), TLS: certificate(t), MemberTLS: &tls.Config{InsecureSkipVerify: true},
		Listeners: []Listener{
			{Mode: ReadWrite, Address: "127.0.0.1:0"}, {Mode: ReadOnly, Address: "127.0.0.1:0"}, {Mode: Split, Address: "127.0.0.1:0"},
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.proxy = p
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Error("the proxy did not stop")
		}
	})
}

// outcomes is where the proxy of a group asks about commits.
type outcomes struct{ finder *outcome.Finder }

func (o outcomes) Committed(ctx context.Context, c LostCommit) (bool, error) {
	return o.finder.Committed(ctx, outcome.Commit(c))
}

func testLog(t testing.TB) *slog.Logger {
	level := slog.LevelWarn
	if os.Getenv("PERDURE_TEST_DEBUG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// transaction makes every listener pool by transaction.
func transaction(c *Config) {
	for i := range c.Listeners {
		c.Listeners[i].Pooling = PerTransaction
	}
}

var certificate = func() func(testing.TB) *tls.Config {
	make := sync.OnceValues(func() (*tls.Config, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "proxy"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
		der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
		return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, err
	})
	return func(t testing.TB) *tls.Config {
		t.Helper()
		c, err := make()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
}()

// dsn is how a test client reaches one of the proxy's listeners.
func (r *rig) dsn(m Mode, change ...func(*driver.Config)) *driver.Config {
	return clientOf(r.proxy.Addr(m).String(), change...)
}

func clientOf(addr string, change ...func(*driver.Config)) *driver.Config {
	c := driver.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName = testUser, testPassword, "tcp", addr, "test"
	c.Timeout = 15 * time.Second
	c.Logger = log.New(io.Discard, "", 0)
	c.CheckConnLiveness = false
	for _, f := range change {
		f(c)
	}
	return c
}

func inTLS(c *driver.Config) { c.TLS = &tls.Config{InsecureSkipVerify: true} }

func openDB(t testing.TB, c *driver.Config) *sql.DB {
	t.Helper()
	connector, err := driver.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// conn is one session through the proxy.
func (r *rig) conn(t testing.TB, m Mode, change ...func(*driver.Config)) *sql.Conn {
	t.Helper()
	c, err := openDB(t, r.dsn(m, change...)).Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

type execer interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}

func exec(t testing.TB, db execer, statements ...string) {
	t.Helper()
	for _, q := range statements {
		if _, err := db.ExecContext(context.Background(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

type querier interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// ask returns the first column of the first row as text.
func ask(t testing.TB, db querier, q string, args ...any) string {
	t.Helper()
	var v sql.NullString
	if err := db.QueryRowContext(context.Background(), q, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	if !v.Valid {
		return "NULL"
	}
	return v.String
}

// until waits for a condition.
func until(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

var _ = fmt.Sprint
