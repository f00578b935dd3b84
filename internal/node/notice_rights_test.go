package node_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/access"
	"github.com/perdure/perdure/internal/api"
)

// lonely is the file of a node that has every part and reaches no server.
func (s *site) lonely(t *testing.T) string {
	t.Helper()
	for name, text := range map[string]string{"mysql.password": "x", "hook.secret": "y"} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf(`
version: 1
cluster: shop
node: {name: node1, data: %[1]q, api: "%[2]s"}
mysql: {user: perdure, password: "file:%[3]s/mysql.password"}
members: [{name: m1, address: "127.0.0.1:1"}]
proxy: {rw: "127.0.0.1:%[4]d", ro: "127.0.0.1:%[5]d"}
queue:
  user: apply
  password: "file:%[3]s/mysql.password"
  operations:
    - {name: pay, key: "{n}", params: [{name: n, type: int}], statements: [{sql: "insert into t values (:n)"}]}
notify: [{name: ops, webhook: {url: "http://127.0.0.1:1/"}}]
hooks: [{name: dns, command: [/bin/true]}]
`, filepath.Join(s.dir, "node"), s.api, s.dir, freePort(t), freePort(t))
}

// described is a route as the OpenAPI document has it.
type described struct {
	method, path string
	role         access.Role
}

func describedRoutes(t *testing.T, document []byte) []described {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			Role string `json:"x-perdure-role"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		t.Fatal(err)
	}
	var out []described
	for path, methods := range doc.Paths {
		for method, o := range methods {
			out = append(out, described{strings.ToUpper(method), path, access.Role(o.Role)})
		}
	}
	slices.SortFunc(out, func(a, b described) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return out
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

// Every route of the OpenAPI document is asked for by everybody there is, over
// TLS, on a node that runs: strangers and expired tokens get 401, whoever may
// not gets 403 and nothing happens, whoever may is answered by the route.
func TestEveryRouteAnswersEveryRoleAsDocumented(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.serveFile(t, "node", s.lonely(t))
	url, admin, pool := n.API()
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}, Timeout: 20 * time.Second}
	defer web.CloseIdleConnections()
	ask := func(method, path, token, body string) (int, string) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel() // ends streams
		r, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := web.Do(r)
		if err != nil {
			t.Fatal(method, path, err)
		}
		defer func() { _ = resp.Body.Close() }()
		text := ""
		if resp.StatusCode >= 400 || path == "/openapi.json" || strings.HasPrefix(path, "/v1/audit") {
			b, _ := io.ReadAll(resp.Body)
			text = string(b)
		}
		return resp.StatusCode, text
	}
	_, document := ask("GET", "/openapi.json", "", "")
	routes := describedRoutes(t, []byte(document))
	if len(routes) < 50 {
		t.Fatalf("only %d routes are described", len(routes))
	}

	made := func(tok api.Token) string {
		t.Helper()
		out, err := n.MakeToken(t.Context(), tok)
		if err != nil {
			t.Fatal(err)
		}
		return out.Secret
	}
	soon := time.Now().Add(1500 * time.Millisecond)
	people := []struct {
		name   string
		role   access.Role // "" is nobody
		only   string      // the part the token is for
		secret string
	}{
		{"a stranger", "", "", ""},
		{"a made-up token", "", "", "pdt_" + strings.Repeat("0", 64)},
		{"an expired administrator", "", "", made(api.Token{Name: "late", Role: "admin", Expires: soon})},
		{"a revoked operator", "", "", made(api.Token{Name: "gone", Role: "operator"})},
		{"a writer", access.Writer, "", made(api.Token{Name: "app", Role: "writer", SQL: true})},
		{"a viewer", access.Viewer, "", made(api.Token{Name: "grafana", Role: "viewer"})},
		{"an operator", access.Operator, "", made(api.Token{Name: "ci", Role: "operator"})},
		{"an administrator", access.Admin, "", made(api.Token{Name: "dba", Role: "admin"})},
		{"the node's own token", access.Admin, "", admin},
		{"a viewer for metrics", access.Viewer, "metrics", made(api.Token{Name: "prometheus", Role: "viewer", Only: []string{"metrics"}})},
		{"an operator for silences", access.Operator, "silences", made(api.Token{Name: "night", Role: "operator", Only: []string{"silences"}})},
		{"an administrator for the audit log", access.Admin, "audit", made(api.Token{Name: "auditor", Role: "admin", Only: []string{"audit"}})},
	}
	if err := n.RevokeToken(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	if wait := time.Until(soon); wait > 0 {
		<-time.After(wait + time.Second) // expiry has whole seconds
	}

	asked, answers := 0, map[int]int{}
	for _, r := range routes {
		if !slices.Contains([]access.Role{access.Nobody, access.Writer, access.Viewer, access.Operator, access.Admin}, r.role) {
			t.Errorf("%s %s does not say which role it needs", r.method, r.path)
			continue
		}
		path := placeholder.ReplaceAllString(r.path, "nothing")
		for _, p := range people {
			want := 0 // whatever the route says
			switch {
			case r.role == access.Nobody:
			case p.role == "":
				want = http.StatusUnauthorized
			case !p.role.Covers(r.role), p.only != "" && access.Part(r.path) != p.only:
				want = http.StatusForbidden
			}
			if want == 0 && r.path == "/v1/pause" {
				continue // asked below: the others are to see whether it was paused
			}
			code, text := ask(r.method, path, p.secret, "{}")
			asked++
			answers[code]++
			switch {
			case want != 0 && code != want:
				t.Errorf("%s %s answers %s with %d, not %d", r.method, r.path, p.name, code, want)
			case want == 0 && (code == http.StatusUnauthorized || code == http.StatusForbidden || code == http.StatusMethodNotAllowed):
				t.Errorf("%s %s answers %s, who may, with %d: %s", r.method, r.path, p.name, code, text)
			case want == http.StatusForbidden && !strings.Contains(text, "token"):
				t.Errorf("%s %s does not tell %s why: %s", r.method, r.path, p.name, text)
			}
		}
	}
	st, err := n.Status(t.Context())
	if err != nil || st.Paused != nil {
		t.Errorf("somebody who may not paused the automation: %+v, %v", st.Paused, err)
	}
	if code, _ := ask("GET", "/v1/nothing-of-ours", people[5].secret, ""); code != http.StatusForbidden {
		t.Errorf("a route that does not exist answers a viewer with %d", code)
	}
	for path, body := range map[string]string{"/v1/writes": `{"key":"1","operation":"pay","params":{"n":1}}`} {
		other := made(api.Token{Name: "elsewhere", Role: "writer", Operations: []string{"refund"}})
		if code, _ := ask("POST", path, other, body); code != http.StatusForbidden {
			t.Errorf("a writer for another operation is answered with %d", code)
		}
	}
	// A token with parts cannot make itself more than it is.
	keeper := made(api.Token{Name: "keeper", Role: "admin", Only: []string{"tokens"}})
	for _, body := range []string{`{"name":"x1","role":"viewer"}`, `{"name":"x2","role":"admin","only":["audit"]}`} {
		if code, _ := ask("POST", "/v1/tokens", keeper, body); code != http.StatusForbidden {
			t.Errorf("a token for tokens made %s: %d", body, code)
		}
	}
	if code, text := ask("POST", "/v1/tokens", keeper, `{"name":"x3","role":"viewer","only":["nonsense"]}`); code != http.StatusUnprocessableEntity {
		t.Errorf("a part that does not exist: %d %s", code, text)
	}
	entries, err := n.Audit(t.Context(), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	refusedOnes := 0
	for _, e := range entries {
		if e.Who == "grafana" && e.Result == "403" {
			refusedOnes++
		}
		for _, p := range people {
			if p.secret != "" && strings.Contains(fmt.Sprint(e), p.secret) {
				t.Errorf("the audit log holds a secret: %+v", e)
			}
		}
	}
	if refusedOnes == 0 {
		t.Error("the audit log does not tell what was refused")
	}
	if v, err := n.VerifyAudit(t.Context()); err != nil || v.Problem != "" {
		t.Errorf("the audit log after all that: %+v, %v", v, err)
	}
	t.Logf("%d routes, %d people, %d requests; answers by status: %v", len(routes), len(people), asked, answers)
}
