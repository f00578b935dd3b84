package node_test

import (
	"crypto/tls"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	driversql "github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/notify/smtptest"
	"github.com/perdure/perdure/internal/pki"
	"github.com/perdure/perdure/internal/proxy"
	"github.com/perdure/perdure/internal/topology"
)

// noticed is a real group of three with a node that has every part, and with
// whom it tells: a web server, a mail server, and commands.
type noticed struct {
	*served
	site    *site
	servers []*mysqltest.Member
	web     *receiver
	mail    *smtptest.Server
	hooks   string // where hooks live and write
	webGate *gate  // between the node and the web server
	smtp    *gate
	secret  string // of webhooks
}

// newNoticed makes the world.
func newNoticed(t *testing.T, options ...mysqltest.Option) *noticed {
	t.Helper()
	w := &noticed{servers: mysqltest.Start(t, 3, options...), secret: "whsec-0123456789"}
	w.site = newSite(t, w.servers)
	w.site.group.ExpelTimeout = new(0) // a member that is killed is out, and may come back, sooner
	for i, z := range []string{"a", "b", "c"} {
		m := w.site.spec[w.servers[i].Name()]
		m.Zone = z
		w.site.spec[m.Name] = m
	}
	w.web = newReceiver(t)
	ca, err := pki.Open(filepath.Join(w.site.dir, "mail-tls"))
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := ca.Issue("mail", "127.0.0.1", "localhost")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	w.mail = smtptest.Start(t, func(s *smtptest.Server) { s.Cert, s.StartTLS, s.Password = cert, true, "mail-password" })
	w.webGate, w.smtp = newGate(t, w.web.Listener.Addr().String()), newGate(t, w.mail.Addr)
	w.hooks = openDir(t)
	w.script(t, "note", `cat > "$1/$PERDURE_ID.part"; { echo "args: $# <$2>"; id -u; env | sort; } > "$1/$PERDURE_ID.env"; mv "$1/$PERDURE_ID.part" "$1/$PERDURE_ID.event"; echo "noted with $API_KEY"`)
	w.script(t, "hang", `echo x >> "$1/hang.runs"; sleep 600`)
	w.script(t, "fail", `echo x >> "$1/fail.runs"; echo "it cannot be done"; exit 3`)
	w.script(t, "talk", `echo x >> "$1/talk.runs"; head -c 20000000 /dev/zero | tr '\0' 'y'; exit 0`)
	for name, text := range map[string]string{"webhook.secret": w.secret, "mail.password": "mail-password", "api.key": "s3cret-t0ken", "apply.password": "apply-password", "audit.password": "audit-password"} {
		if err := os.WriteFile(filepath.Join(w.site.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(w.site.file(t, "node", "m1", "m2", "m3"))
	if err != nil {
		t.Fatal(err)
	}
	full := string(text) + fmt.Sprintf(noticedSection, w.webGate.addr, w.site.dir, w.smtp.addr, ca.CA(), w.hooks, freePort(t), freePort(t), freePort(t)) + hurried
	w.served = w.site.serveFile(t, "node", full)
	o, err := w.Apply(t.Context(), w.site.wish("m1", "m2", "m3"))
	w.done(t, o, err)
	w.until(t, time.Minute, "all ONLINE", allOnline(3))
	run(t, w.servers[0].Root(t), "CREATE DATABASE shop", "CREATE TABLE shop.account (id INT PRIMARY KEY, balance INT NOT NULL)",
		"INSERT INTO shop.account VALUES (1, 0), (2, 0), (3, 0)",
		"CREATE USER apply@'%' IDENTIFIED BY 'apply-password'", "GRANT CREATE, SELECT, INSERT, UPDATE, DELETE ON *.* TO apply@'%'",
		"CREATE USER auditor@'%' IDENTIFIED BY 'audit-password'", "GRANT SELECT ON *.* TO auditor@'%'")
	return w
}

const noticedSection = `
proxy: {rw: "127.0.0.1:%[6]d", ro: "127.0.0.1:%[7]d", split: "127.0.0.1:%[8]d"}
queue:
  user: apply
  password: "file:%[2]s/apply.password"
  max_bytes: 262144
  keep: 5s
  operations:
    - name: open
      key: "new-{id}"
      params: [{name: id, type: int}]
      statements: [{sql: "INSERT INTO shop.account VALUES (:id, 0)"}]
    - name: deposit
      key: "account-{id}"
      params: [{name: id, type: int}, {name: amount, type: int}]
      statements: [{sql: "UPDATE shop.account SET balance = balance + :amount WHERE id = :id"}]
consistency: {user: auditor, password: "file:%[2]s/audit.password"}
notify:
  - name: ops
    webhook: {url: "http://%[1]s/ops", secret: "file:%[2]s/webhook.secret", headers: {X-Team: dba}}
  - name: mail
    email: {server: "%[3]s", user: perdure, password: "file:%[2]s/mail.password", ca: %[4]q, from: "Perdure <perdure@example.com>", to: [dba@example.com, "Night <night@example.com>"]}
hooks:
  - {name: note, command: ["%[5]s/note.sh", "%[5]s", "one two; $HOME"], secrets: {API_KEY: "file:%[2]s/api.key"}, timeout: 10s}
  - {name: deploy, http: {url: "http://%[1]s/deploy", secret: "file:%[2]s/webhook.secret"}, timeout: 5s}
  - {name: hang, command: ["%[5]s/hang.sh", "%[5]s"], timeout: 1s, attempts: 2, always: true}
  - {name: fail, command: ["%[5]s/fail.sh", "%[5]s"], timeout: 5s, attempts: 2, always: true}
  - {name: talk, command: ["%[5]s/talk.sh", "%[5]s"], timeout: 20s, attempts: 2, always: true}
rules:
  - {name: crash, match: {kinds: [member.crashed], labels: {zone: c}}, notify: [ops, mail], hooks: [note, deploy]}
  - {name: elsewhere, match: {kinds: [member.crashed], labels: {zone: b}}, notify: [mail]}
  - {name: bad, match: {kinds: [member.read-only], members: [m2]}, hooks: [hang, fail, talk]}
  - {name: both, match: {kinds: [member.read-only], members: [m1]}, notify: [ops, mail]}
  - {name: flaps, match: {kinds: [queue.*]}, notify: [ops]}
`

// openDir is a directory that nobody may write to as well: hooks run as nobody.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "perdure-notice-") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // the hook runs as nobody
		t.Fatal(err)
	}
	return dir
}

func (w *noticed) script(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.hooks, name+".sh"), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil { //nolint:gosec // the hook runs as nobody
		t.Fatal(err)
	}
}

// back brings a member that was killed into the group again.
func (w *noticed) back(t *testing.T, name string) {
	t.Helper()
	s := w.site.servers[name]
	if s.PID() == 0 {
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.until(t, time.Minute, name+" answers", is(name, topology.Offline))
	// The group may list it for some seconds more.
	limit := time.Now().Add(time.Minute)
	for {
		o, err := w.Member(t.Context(), "rejoin", name, api.Ask{})
		if err == nil {
			w.done(t, o, nil)
			break
		}
		if time.Now().After(limit) {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
	}
	w.until(t, time.Minute, "all ONLINE", allOnline(3))
}

// told waits for the newest event of a kind that came after a moment.
func (w *noticed) told(t *testing.T, kind event.Kind, after time.Time, limit time.Duration) api.Event {
	t.Helper()
	for end := time.Now().Add(limit); ; {
		all, err := w.Events(t.Context(), []string{string(kind)}, nil, 100)
		if err == nil && len(all) > 0 && all[len(all)-1].Event.Time.After(after) {
			return all[len(all)-1]
		}
		if time.Now().After(end) {
			t.Fatalf("no event %s after %s (%v)", kind, limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) time.Time {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("after %s not yet: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Now()
}

// receiver is a web server that keeps what it gets.
type receiver struct {
	*httptest.Server
	mu  sync.Mutex
	all []received
}

type received struct {
	at     time.Time
	path   string
	header http.Header
	body   []byte
	event  event.Event
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		one := received{at: time.Now(), path: req.URL.Path, header: req.Header, body: b}
		_ = json.Unmarshal(b, &one.event)
		r.mu.Lock()
		r.all = append(r.all, one)
		r.mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(r.Close)
	return r
}

// got is what came to a path, about a kind ("" for any) after a moment.
func (r *receiver) got(path string, kind event.Kind, after time.Time) []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []received
	for _, one := range r.all {
		if one.path == path && one.at.After(after) && (kind == "" || one.event.Kind == kind) {
			out = append(out, one)
		}
	}
	return out
}

// gate passes connections on while it is open; closed, nothing listens.
type gate struct {
	addr, to string
	mu       sync.Mutex
	l        net.Listener
	conns    map[net.Conn]bool
	all      sync.WaitGroup
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	g := &gate{to: to, addr: fmt.Sprintf("127.0.0.1:%d", freePort(t)), conns: map[net.Conn]bool{}}
	g.open(t)
	t.Cleanup(func() { g.shut(); g.all.Wait() })
	return g
}

func (g *gate) open(t *testing.T) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.l = l
	g.mu.Unlock()
	g.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.all.Go(func() { g.pass(c) })
		}
	})
}

func (g *gate) pass(c net.Conn) {
	far, err := (&net.Dialer{}).Dial("tcp", g.to)
	if err != nil {
		_ = c.Close()
		return
	}
	g.mu.Lock()
	g.conns[c], g.conns[far] = true, true
	g.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{c, far}, {far, c}} {
		both.Go(func() { _, _ = io.Copy(way[0], way[1]); _ = way[0].Close() })
	}
	both.Wait()
	g.mu.Lock()
	delete(g.conns, c)
	delete(g.conns, far)
	g.mu.Unlock()
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.l.Close()
	for c := range g.conns {
		_ = c.Close()
	}
}

// lines is how many lines a file has.
func lines(path string) int {
	b, _ := os.ReadFile(path)
	return strings.Count(string(b), "\n")
}

// through opens connections to the node's proxy as an application.
func (w *noticed) through(t *testing.T, mode proxy.Mode) *sql.DB {
	t.Helper()
	cfg := driversql.NewConfig()
	cfg.User, cfg.Passwd = mysqltest.AppAccount()
	cfg.Net, cfg.Addr = "tcp", w.Node.Proxy().Addr(mode).String()
	cfg.TLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a proxy of our own on loopback
	c, err := driversql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	t.Cleanup(func() { _ = db.Close() })
	return db
}
