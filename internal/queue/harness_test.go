package queue_test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/envelope"
	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/queue"
)

// place is a schema of its own on a server that is open for writes. Statements
// in tests say q for it.
type place struct {
	member *mysqltest.Member
	root   *sql.DB
	schema string
}

var schemas atomic.Int32

// newPlace starts a server for a test that kills or changes it.
func newPlace(t testing.TB, options ...mysqltest.Option) *place {
	t.Helper()
	m := mysqltest.Start(t, 1, options...)[0]
	m.OpenForWrites(t)
	return placeOn(t, m)
}

func placeOn(t testing.TB, m *mysqltest.Member) *place {
	t.Helper()
	p := &place{member: m, root: m.Root(t), schema: fmt.Sprint("q", schemas.Add(1))}
	for _, q := range []string{
		"CREATE DATABASE " + p.schema,
		"CREATE TABLE q.effects (n BIGINT AUTO_INCREMENT PRIMARY KEY, wid VARCHAR(64) NOT NULL, k VARCHAR(64) NOT NULL, KEY (wid))",
		"CREATE TABLE q.chain (k VARCHAR(64) PRIMARY KEY, n INT NOT NULL, h CHAR(64) NOT NULL)",
		"CREATE TABLE q.account (id INT PRIMARY KEY, balance INT NOT NULL, CHECK (balance >= 0))",
		"CREATE TABLE q.parent (id INT PRIMARY KEY)",
		"CREATE TABLE q.child (id INT PRIMARY KEY, p INT NOT NULL, FOREIGN KEY (p) REFERENCES q.parent(id))",
		"CREATE TABLE q.things (id INT PRIMARY KEY, name VARCHAR(10) NOT NULL, at DATETIME(6), r DOUBLE, d DECIMAL(10,2), b VARBINARY(100), j JSON, u TINYINT UNSIGNED)",
	} {
		p.do(t, q)
	}
	return p
}

func (p *place) sql(text string) string { return inSchema(text, p.schema) }

func inSchema(text, schema string) string {
	return strings.NewReplacer(" q.", " "+schema+".").Replace(text)
}

func (p *place) one(t testing.TB, query string, args ...any) string {
	t.Helper()
	var s sql.NullString
	if err := p.root.QueryRow(p.sql(query), args...).Scan(&s); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if !s.Valid {
		return "NULL"
	}
	return s.String
}

func (p *place) do(t testing.TB, query string, args ...any) {
	t.Helper()
	if _, err := p.root.Exec(p.sql(query), args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// direct is a route to one address, which a test may change.
type direct struct {
	mu     sync.Mutex
	target queue.Target
	err    error
}

func (d *direct) Writer(context.Context) (queue.Target, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.target, d.err
}

func (d *direct) set(t queue.Target, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.target, d.err = t, err
}

func routeTo(t testing.TB, m *mysqltest.Member) *direct {
	t.Helper()
	user, pw := mysqltest.AppAccount()
	db, err := queue.OpenTarget(mysql.Login{Address: m.Address(), User: user, Password: pw})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &direct{target: queue.Target{Member: m.Name(), DB: db}}
}

func quiet() *slog.Logger {
	if os.Getenv("PERDURE_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}

// rig is a queue on a place.
type rig struct {
	t     testing.TB
	place *place
	route *direct
	jet   *jet.Server
	log   *jet.Log
	keys  *envelope.Keyring
	svc   *queue.Service
	cfg   queue.Config

	notices chan queue.Notice
	stop    func()
}

func newRig(t testing.TB, p *place, change ...func(*queue.Config)) *rig {
	t.Helper()
	dir := t.TempDir()
	keys, err := envelope.LoadOrCreate(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	srv, err := jet.Open(t.Context(), jet.Config{Dir: filepath.Join(dir, "jet"), Reserve: 1 << 20}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	lg, err := srv.OpenLog(t.Context(), jet.LogConfig{Name: "writes", MaxBytes: 8 << 30})
	if err != nil {
		t.Fatal(err)
	}
	ops, err := queue.NewOperations(testOperations(p.schema))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, place: p, route: routeTo(t, p.member), jet: srv, log: lg, keys: keys, notices: make(chan queue.Notice, 10_000)}
	r.cfg = queue.Config{
		Log: lg, Seal: keys, Operations: ops, Route: r.route, Logger: quiet(),
		Apply: queue.ApplierConfig{RetryFirst: 2 * time.Millisecond, RetryMost: 20 * time.Millisecond, Notice: func(n queue.Notice) {
			select {
			case r.notices <- n:
			default:
			}
		}},
	}
	for _, c := range change {
		c(&r.cfg)
	}
	r.svc, err = queue.New(r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run starts accepting and, with apply, applying. It stops with the test.
func (r *rig) run(apply bool) {
	ctx, cancel := context.WithCancelCause(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.svc.Run(ctx) })
	if apply {
		wg.Go(func() {
			if err := r.svc.Applier.Run(ctx, 0); err != nil && ctx.Err() == nil {
				r.t.Errorf("applier: %v", err)
			}
		})
	}
	r.stop = sync.OnceFunc(func() { cancel(errors.New("test is over")); wg.Wait() })
	r.t.Cleanup(r.stop)
}

// startApplier runs the applier alone and returns how to end it.
func (r *rig) startApplier(epoch int64) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.svc.Applier.Run(ctx, epoch) }()
	var err error
	stop = sync.OnceValue(func() error { cancel(); err = <-done; return err })
	r.t.Cleanup(func() { _ = stop() })
	return stop
}

var boss = queue.Caller{Name: "boss", Operations: []string{"*"}, SQL: true, Call: true, Operate: true}

func testOperations(schema string) []queue.Operation {
	one := int64(1)
	ops := []queue.Operation{
		{
			Name: "chain", Key: "{k}",
			Params: []queue.Param{{Name: "k"}, {Name: "wid", Free: true}},
			Statements: []queue.Statement{
				{SQL: "INSERT INTO q.effects (wid, k) VALUES (:wid, :k)", Rows: &one},
				{SQL: "INSERT INTO q.chain (k, n, h) VALUES (:k, 1, SHA2(:wid, 256)) ON DUPLICATE KEY UPDATE n=n+1, h=SHA2(CONCAT(h, :wid), 256)"},
			},
		},
		{
			Name: "withdraw", Key: "account-{id}",
			Params:     []queue.Param{{Name: "id", Type: "int"}, {Name: "amount", Type: "int"}},
			Statements: []queue.Statement{{SQL: "UPDATE q.account SET balance = balance - :amount WHERE id = :id", Rows: &one}},
		},
	}
	for _, op := range ops {
		for i := range op.Statements {
			op.Statements[i].SQL = inSchema(op.Statements[i].SQL, schema)
		}
	}
	return ops
}

func chainWrite(k, wid string) queue.Write {
	a, _ := json.Marshal(k)
	b, _ := json.Marshal(wid)
	return queue.Write{Operation: "chain", Params: map[string]json.RawMessage{"k": a, "wid": b}}
}

func sqlWrite(key, text string, args ...any) queue.Write {
	return queue.Write{Key: key, Statements: []queue.Statement{{SQL: text, Args: args}}}
}

// here puts the statements of writes into the schema of the test.
func (r *rig) here(writes []queue.Write) []queue.Write {
	for _, w := range writes {
		for i := range w.Statements {
			w.Statements[i].SQL = r.place.sql(w.Statements[i].SQL)
		}
	}
	return writes
}

func (r *rig) submit(w ...queue.Write) []queue.Receipt {
	r.t.Helper()
	r.here(w)
	out, err := r.svc.Submit(r.t.Context(), boss, w)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// put submits one write and waits until it is settled.
func (r *rig) put(w queue.Write) queue.Receipt {
	r.t.Helper()
	out, err := r.svc.SubmitAndWait(r.t.Context(), boss, r.here([]queue.Write{w}), 30*time.Second)
	if err != nil {
		r.t.Fatal(err)
	}
	return out[0]
}

// settled waits for a write to leave the queue.
func (r *rig) settled(id queue.ID) queue.Receipt {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 60*time.Second)
	defer cancel()
	out, err := r.svc.Wait(ctx, id)
	if err != nil {
		st, _ := r.svc.Status(r.t.Context())
		r.t.Fatalf("write %s is not settled: %v; status %+v", id, err, st.Applying)
	}
	return out
}

func eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %s it is still not so: %s", limit, what)
		}
	}
}

// chainOf is what the chain of a key must be after these writes in this order.
func chainOf(wids []string) string {
	h := ""
	for _, w := range wids {
		sum := sha256.Sum256([]byte(h + w))
		h = hex.EncodeToString(sum[:])
	}
	return h
}

// judge compares what clients know with what the database has.
type judge struct {
	mu   sync.Mutex
	keys map[string][]string // acknowledged ids by key, in the order of their client
}

func newJudge() *judge { return &judge{keys: map[string][]string{}} }

func (j *judge) acked(k, wid string) {
	j.mu.Lock()
	j.keys[k] = append(j.keys[k], wid)
	j.mu.Unlock()
}

func (j *judge) count() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, wids := range j.keys {
		n += len(wids)
	}
	return n
}

type verdict struct{ acked, lost, twice, strange, disorder int }

func (v verdict) String() string {
	return fmt.Sprintf("acknowledged %d, lost %d, duplicated %d, unknown %d, keys out of order %d", v.acked, v.lost, v.twice, v.strange, v.disorder)
}

func (j *judge) check(t testing.TB, p *place) verdict {
	t.Helper()
	db := p.member.Root(t)
	var v verdict
	found := map[string]int{}
	rows, err := db.Query(p.sql("SELECT wid FROM q.effects"))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var w string
		if err := rows.Scan(&w); err != nil {
			t.Fatal(err)
		}
		found[w]++
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	chains := map[string]string{}
	rows2, err := db.Query(p.sql("SELECT k, h FROM q.chain"))
	if err != nil {
		t.Fatal(err)
	}
	defer rows2.Close()
	for rows2.Next() {
		var k, h string
		if err := rows2.Scan(&k, &h); err != nil {
			t.Fatal(err)
		}
		chains[k] = h
	}
	if err := rows2.Err(); err != nil {
		t.Fatal(err)
	}
	known := 0
	for k, wids := range j.keys {
		for _, w := range wids {
			v.acked++
			switch n := found[w]; {
			case n == 0:
				v.lost++
			case n > 1:
				v.twice++
			}
			if found[w] > 0 {
				known++
			}
		}
		if chains[k] != chainOf(wids) {
			v.disorder++
		}
	}
	v.strange = len(found) - known
	return v
}
