package node_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/queue"
)

// TestBenchWrites measures the front door of a whole node, over HTTPS, next to
// the same rows sent to its server directly. Clients, node and server share
// this machine.
//
//	PERDURE_BENCH=http go test ./internal/node -run 'TestBenchWrites$' -v -timeout 20m
func TestBenchWrites(t *testing.T) {
	if os.Getenv("PERDURE_BENCH") != "http" {
		t.Skip("set PERDURE_BENCH=http to measure")
	}
	servers := mysqltest.Start(t, 1, mysqltest.Durable())
	s := newSite(t, servers)
	secret := filepath.Join(s.dir, "apply.password")
	if err := os.WriteFile(secret, []byte("apply-password"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.file(t, "node", "m1"))
	if err != nil {
		t.Fatal(err)
	}
	n := s.serveFile(t, "node", string(text)+fmt.Sprintf(`
queue:
  user: apply
  password: "file:%s"
  operations:
    - name: note
      key: "{k}"
      params: [{name: k, type: int}, {name: body, max: 2000}]
      statements: [{sql: "INSERT INTO shop.note (k, body) VALUES (:k, :body)"}]
`, secret))
	o, err := n.Apply(t.Context(), s.wish("m1"))
	n.done(t, o, err)
	n.until(t, time.Minute, "m1 ONLINE", allOnline(1))
	db := servers[0].Root(t)
	db.SetMaxIdleConns(200)
	run(t, db, "CREATE DATABASE shop", "CREATE TABLE shop.note (id BIGINT AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL, body VARCHAR(2000) NOT NULL)",
		"CREATE USER apply@'%' IDENTIFIED BY 'apply-password'", "GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO apply@'%'")
	for _, g := range queue.Grants("apply@'%'") {
		run(t, db, g)
	}
	made, err := n.MakeToken(t.Context(), api.Token{Name: "shop", Role: "writer"})
	if err != nil {
		t.Fatal(err)
	}
	url, _, ca := n.API()
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 200, TLSClientConfig: &tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS12}}}
	defer hc.CloseIdleConnections()
	body := strings.Repeat("one kilobyte of honest text. ", 36)[:1000]
	post := func(kind string, b []byte) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/writes", bytes.NewReader(b))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+made.Secret)
		req.Header.Set("Content-Type", kind)
		res, err := hc.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = res.Body.Close() }()
		said, _ := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusAccepted {
			return fmt.Errorf("%s: %.200s", res.Status, said)
		}
		return nil
	}
	one := func(k int) []byte {
		b, _ := json.Marshal(map[string]any{"operation": "note", "params": map[string]any{"k": k % 97, "body": body}})
		return append(b, '\n')
	}
	stmt, err := db.Prepare("INSERT INTO shop.note (k, body) VALUES (?, ?)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stmt.Close() }()
	ways := []struct {
		name string
		per  int
		do   func(int) error
	}{
		{"direct autocommit INSERT", 1, func(k int) error { _, err := stmt.Exec(k, body); return err }},
		{"POST /v1/writes", 1, func(k int) error { return post("application/json", one(k)) }},
		{"POST of 100 lines", 100, func(k int) error { return post("application/x-ndjson", bytes.Repeat(one(k), 100)) }},
	}
	for _, applying := range []string{"paused", "applying"} {
		if applying == "paused" {
			err = n.SteerQueue(t.Context(), "pause")
		} else {
			err = n.SteerQueue(t.Context(), "resume")
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, clients := range []int{1, 16, 128} {
			for _, w := range ways {
				rate, p50, p99, err := press(clients, 3*time.Second, w.do)
				if err != nil {
					t.Fatal(w.name, err)
				}
				fmt.Printf("  %-9s %4d clients  %-26s %9.0f/s  p50 %-11v p99 %v\n", applying, clients, w.name, rate*float64(w.per), p50.Round(time.Microsecond), p99.Round(time.Microsecond))
			}
		}
	}
	st, err := n.Queue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	began, was := time.Now(), st.Applying.Applied
	if got := becomesWithin(t, 5*time.Minute, func() string {
		st, _ = n.Queue(t.Context())
		return strconv.FormatUint(st.Applying.BehindFrames, 10)
	}, "0"); got != "0" {
		t.Fatal(got, " frames are left")
	}
	fmt.Printf("  what was left drained at %.0f/s\n", float64(st.Applying.Applied-was)/time.Since(began).Seconds())
}

func becomesWithin(t *testing.T, limit time.Duration, ask func() string, want string) string {
	t.Helper()
	got := ask()
	for end := time.Now().Add(limit); got != want && time.Now().Before(end); got = ask() {
		time.Sleep(20 * time.Millisecond)
	}
	return got
}

// press has n clients send one thing after the other for d.
func press(n int, d time.Duration, do func(int) error) (rate float64, p50, p99 time.Duration, err error) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		all  []time.Duration
		fail error
	)
	began := time.Now()
	for c := range n {
		wg.Go(func() {
			var mine []time.Duration
			for i := c; time.Since(began) < d; i += n {
				at := time.Now()
				if err := do(i); err != nil {
					mu.Lock()
					fail = err
					mu.Unlock()
					return
				}
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			all = append(all, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if fail != nil || len(all) == 0 {
		return 0, 0, 0, fail
	}
	took := time.Since(began)
	slices.Sort(all)
	return float64(len(all)) / took.Seconds(), all[len(all)/2], all[len(all)*99/100], nil
}
