package node_test

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	public "github.com/perdure/perdure/client"
	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/queue"
)

const queueSection = `
alarms: {rules: [{name: queue-held-back, for: 1s}]}
queue:
  user: apply
  password: "file:%s"
  operations:
    - name: deposit
      key: "account-{id}"
      params:
        - {name: id, type: int}
        - {name: amount, type: int, min: 1, max: 1000}
        - {name: note, max: 100, optional: true}
      statements:
        - {sql: "INSERT INTO shop.account (id, balance, note) VALUES (:id, :amount, :note) ON DUPLICATE KEY UPDATE balance = balance + :amount"}
    - name: secret
      params: [{name: id, type: int}]
      statements: [{sql: "DELETE FROM shop.account WHERE id = :id"}]
`

// A real node with a real server, and what strangers, applications and
// operators send to its write queue.
func TestTheFrontDoorOfTheWriteQueue(t *testing.T) {
	t.Parallel()
	servers := mysqltest.Start(t, 1)
	s := newSite(t, servers)
	secret := filepath.Join(s.dir, "apply.password")
	if err := os.WriteFile(secret, []byte("apply-password"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.file(t, "node", "m1"))
	if err != nil {
		t.Fatal(err)
	}
	full := string(text) + fmt.Sprintf(queueSection, secret)
	n := s.serveFile(t, "node", full)
	o, err := n.Apply(t.Context(), s.wish("m1"))
	n.done(t, o, err)
	n.until(t, time.Minute, "m1 ONLINE", allOnline(1))
	db := servers[0].Root(t)
	run(t, db, "CREATE DATABASE shop", "CREATE TABLE shop.account (id INT PRIMARY KEY, balance INT NOT NULL, note VARCHAR(100))",
		"CREATE USER apply@'%' IDENTIFIED BY 'apply-password'", "GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO apply@'%'")
	for _, g := range queue.Grants("apply@'%'") {
		run(t, db, g)
	}
	token := func(tk api.Token) string {
		made, err := n.MakeToken(t.Context(), tk)
		if err != nil {
			t.Fatal(err)
		}
		return made.Secret
	}
	plain := token(api.Token{Name: "shop", Role: "writer", Operations: []string{"deposit"}})
	statements := token(api.Token{Name: "etl", Role: "writer", SQL: true})
	gone := time.Now().Add(3 * time.Second) // a token that has expired is not made
	expired := token(api.Token{Name: "old", Role: "writer", Expires: gone})
	slow := token(api.Token{Name: "slow", Role: "writer", Operations: []string{"deposit"}, Rate: 1})
	viewer := token(api.Token{Name: "eye", Role: "viewer"})
	url, _, ca := n.API()

	t.Run("strangers are refused with the right status", func(t *testing.T) {
		hc := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS12}}}
		defer hc.CloseIdleConnections()
		ask := func(token, kind, body string) (int, string) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/writes", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Content-Type", kind)
			res, err := hc.Do(req)
			if err != nil {
				return 0, err.Error()
			}
			defer func() { _ = res.Body.Close() }()
			b, _ := io.ReadAll(res.Body)
			return res.StatusCode, string(b)
		}
		id := queue.NewID(time.Now()).String()
		old := queue.NewID(time.Now().Add(-30 * 24 * time.Hour)).String()
		one := `{"operation":"deposit","params":{"id":1,"amount":5}}`
		again := `{"id":"` + id + `","operation":"deposit","params":{"id":1,"amount":5}}`
		sql := func(s string) string { return `{"key":"k","statements":[{"sql":"` + s + `"}]}` }
		for _, c := range []struct {
			what, token, body string
			want              int
		}{
			{"no token", "", one, 401},
			{"a wrong token", "x" + plain, one, 401},
			{"a viewer's token", viewer, one, 403},
			{"a token that is garbage", strings.Repeat("\xff", 4000), one, 401},
			{"a nested string", plain, `{"operation":"deposit","params":{"id":1,"amount":` + strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40) + `}}`, 400},
			{"a number too large to be one", plain, `{"operation":"deposit","params":{"id":1e999999999,"amount":5}}`, 422},
			{"a timeout that is no time", plain, `{"operation":"deposit","params":{"id":1,"amount":5},"timeout":1e400}`, 422},
			{"a name that is a path", plain, `{"operation":"../../etc/passwd"}`, 403},
			{"a key that is too long", statements, `{"key":"` + strings.Repeat("k", 5000) + `","statements":[{"sql":"DELETE FROM shop.account WHERE id=1"}]}`, 422},
			{"more statements than a write may have", statements, `{"key":"k","statements":[` + strings.Repeat(`{"sql":"DELETE FROM shop.account WHERE id=1"},`, 70) + `{"sql":"DELETE FROM shop.account WHERE id=1"}]}`, 413},
			{"malformed JSON", plain, `{"operation":`, 400},
			{"not an object", plain, `["deposit"]`, 400},
			{"two writes", plain, one + one, 400},
			{"an unknown member", plain, `{"operation":"deposit","sudo":true}`, 400},
			{"nothing", plain, ``, 400},
			{"not UTF-8", plain, "{\"operation\":\"\xff\"}", 400},
			{"deep nesting", plain, strings.Repeat("[", 1_000_000), 400},
			{"a huge body", plain, `{"operation":"` + strings.Repeat("x", 17<<20) + `"}`, 413},
			{"a million parameters", plain, `{"operation":"deposit","params":{` + strings.Repeat(`"a":1,`, 1_000_000) + `"b":1}}`, 413},
			{"an operation nobody declared", plain, `{"operation":"drop"}`, 403},
			{"an operation this token may not use", plain, `{"operation":"secret","params":{"id":1}}`, 403},
			{"an unknown operation, all allowed", statements, `{"operation":"drop"}`, 422},
			{"statements without the right", plain, sql("DELETE FROM shop.account"), 403},
			{"a text for a number", plain, `{"operation":"deposit","params":{"id":"1 OR 1=1","amount":5}}`, 422},
			{"out of range", plain, `{"operation":"deposit","params":{"id":1,"amount":5000}}`, 422},
			{"a fraction", plain, `{"operation":"deposit","params":{"id":1.5,"amount":5}}`, 422},
			{"an object for a number", plain, `{"operation":"deposit","params":{"id":{"$gt":0},"amount":5}}`, 422},
			{"a missing parameter", plain, `{"operation":"deposit","params":{"id":1}}`, 422},
			{"an unknown parameter", plain, `{"operation":"deposit","params":{"id":1,"amount":5,"x":1}}`, 422},
			{"SQL in a text", plain, `{"operation":"deposit","params":{"id":1,"amount":5,"note":"' UNION SELECT password FROM users -- "}}`, 422},
			{"more SQL in a text", plain, `{"operation":"deposit","params":{"id":1,"amount":5,"note":"1'; DROP TABLE account; --"}}`, 422},
			{"script in a text", plain, `{"operation":"deposit","params":{"id":1,"amount":5,"note":"<script>alert(1)</script>"}}`, 422},
			{"an id that is none", plain, `{"id":"1","operation":"deposit","params":{"id":1,"amount":5}}`, 422},
			{"an id of last month", plain, `{"id":"` + old + `","operation":"deposit","params":{"id":1,"amount":5}}`, 409},
			{"DDL", statements, sql("DROP TABLE shop.account"), 422},
			{"SET", statements, sql("SET GLOBAL read_only=1"), 422},
			{"LOCK", statements, sql("LOCK TABLES shop.account WRITE"), 422},
			{"CALL", statements, sql("CALL shop.p()"), 422},
			{"transaction control", statements, sql("COMMIT"), 422},
			{"two statements in one", statements, sql("DELETE FROM shop.account; DROP TABLE shop.account"), 422},
			{"a hidden statement", statements, sql("DELETE FROM shop.account /*!50000 ; DROP TABLE shop.account */"), 422},
			{"a file", statements, sql("INSERT INTO shop.account VALUES (1, 1, LOAD_FILE('/etc/passwd'))"), 422},
			{"an endless wait", plain, `{"operation":"deposit","params":{"id":1,"amount":5},"wait":"applied","timeout":"2h"}`, 422},
			{"a wait for what does not exist", plain, `{"operation":"deposit","params":{"id":1,"amount":5},"wait":"forever"}`, 422},
			{"a write", plain, again, 202},
			{"the same again", plain, again, 202},
			{"another under its id", plain, `{"id":"` + id + `","operation":"deposit","params":{"id":1,"amount":6}}`, 409},
			{"a write that is waited for", plain, `{"operation":"deposit","params":{"id":1,"amount":5},"wait":"applied","timeout":"30s"}`, 200},
		} {
			status, said := ask(c.token, "application/json", c.body)
			// The server does not read what is too much: it answers and closes, and
			// the answer may be lost while we write.
			for try := 1; c.want == 413 && status == 0 && try < 5; try++ {
				status, said = ask(c.token, "application/json", c.body)
			}
			if status != c.want {
				t.Errorf("%s: %d instead of %d: %.300s", c.what, status, c.want, said)
			}
		}
		for time.Now().Before(gone) {
			time.Sleep(time.Until(gone))
		}
		if status, said := ask(expired, "application/json", one); status != 401 {
			t.Errorf("an expired token: %d %.200s", status, said)
		}
		many := strings.Repeat(`{"operation":"deposit","params":{"id":9,"amount":1}}`+"\n", 4000)
		ask(slow, "application/x-ndjson", many) // a burst of one request is allowed
		if status, said := ask(slow, "application/x-ndjson", many); status != 429 {
			t.Errorf("more than the token may send: %d %.200s", status, said)
		}
		if status, said := ask(plain, "application/x-ndjson", strings.Repeat("{}\n", 1_000_000)); status != 422 && status != 413 {
			t.Errorf("a million empty lines: %d %.200s", status, said)
		}
		if got := becomes(t, db, "SELECT balance FROM shop.account WHERE id=1", "10"); got != "10" {
			t.Errorf("two writes of 5 were accepted, one of them twice; the account has %s", got)
		}
	})

	t.Run("an application's client waits out what passes", func(t *testing.T) {
		c, err := public.New(public.Config{Nodes: []string{"https://127.0.0.1:1", url}, Token: plain, CA: ca})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		deposit := func(id int) *public.Write {
			return &public.Write{Operation: "deposit", Params: map[string]any{"id": id, "amount": 1}}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r, err := c.PutApplied(ctx, deposit(2), 30*time.Second) // the first node does not exist
		if err != nil || r.State != "applied" || r.Affected == nil || r.GTID == "" {
			t.Fatal(r, err)
		}
		var refusal *public.Problem
		if _, err := c.Put(ctx, &public.Write{Operation: "secret"}); !errors.As(err, &refusal) || refusal.Status != 403 {
			t.Fatal(err)
		}
		same := deposit(2)
		same.ID = public.NewID()
		var wg sync.WaitGroup
		for range 8 {
			one := *same
			wg.Go(func() {
				if _, err := c.Put(ctx, &one); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		batch := make([]*public.Write, 500)
		for i := range batch {
			batch[i] = deposit(3)
		}
		all, err := c.PutBatch(ctx, batch)
		if err != nil || len(all) != 500 || all[499].Sequence <= all[0].Sequence {
			t.Fatal(len(all), err)
		}
		if got := becomes(t, db, "SELECT balance FROM shop.account WHERE id=3", "500"); got != "500" {
			t.Error(got)
		}
		if got := becomes(t, db, "SELECT balance FROM shop.account WHERE id=2", "2"); got != "2" {
			t.Errorf("eight times the same write did %s", got)
		}
		if r, err := c.Receipt(ctx, same.ID); err != nil || r.State != "applied" {
			t.Error(r, err)
		}
	})

	t.Run("a pause outlives the node", func(t *testing.T) {
		if err := n.SteerQueue(t.Context(), "pause"); err != nil {
			t.Fatal(err)
		}
		alarmIs(t, n, "queue-held-back", "ALARM")
		n.stop()
		m := s.serveFile(t, "node", full+"  rule_set: full\n")
		st, err := m.Queue(t.Context())
		for limit := time.Now().Add(30 * time.Second); (err != nil || st.Paused == "") && time.Now().Before(limit); st, err = m.Queue(t.Context()) {
			time.Sleep(50 * time.Millisecond)
		}
		if err != nil || st.Paused != "admin" {
			t.Fatal(st, err)
		}
		if err := m.SteerQueue(t.Context(), "resume"); err != nil {
			t.Fatal(err)
		}
		u, _, pool := m.API()
		c, err := public.New(public.Config{Nodes: []string{u}, Token: plain, CA: pool})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		r, err := c.PutApplied(ctx, &public.Write{Operation: "deposit", Params: map[string]any{"id": 4, "amount": 1, "note": "for Zoë & sons"}}, 45*time.Second)
		if err != nil || r.State != "applied" {
			t.Fatal(r, err)
		}
		alarmIs(t, m, "queue-held-back", "OK")
		var refusal *public.Problem
		_, err = c.Put(ctx, &public.Write{Operation: "deposit", Params: map[string]any{"id": 4, "amount": 1, "note": "../../../etc/passwd"}})
		if !errors.As(err, &refusal) || refusal.Status != 422 || refusal.Kind != "suspicious-text" {
			t.Error("the full rule set lets a path through: ", err)
		}
	})
}

// alarmIs waits until an alarm is in a state.
func alarmIs(t *testing.T, n *served, rule, want string) {
	t.Helper()
	got := ""
	for limit := time.Now().Add(30 * time.Second); got != want; time.Sleep(100 * time.Millisecond) {
		list, err := n.Alarms(t.Context())
		for _, a := range list {
			if a.Rule == rule {
				got = a.State
			}
		}
		if time.Now().After(limit) {
			t.Fatalf("alarm %s is %q, not %q: %v", rule, got, want, err)
		}
	}
}

// becomes reads a value until it is want, for at most 30 s, and returns the last.
func becomes(t *testing.T, db *sql.DB, query, want string) string {
	t.Helper()
	got := ""
	for limit := time.Now().Add(30 * time.Second); got != want && time.Now().Before(limit); time.Sleep(50 * time.Millisecond) {
		_ = db.QueryRowContext(t.Context(), query).Scan(&got)
	}
	return got
}
