package node_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/proxy"
)

// deployed reads one of the files that operators get.
func deployed(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// series is one line of /metrics.
type series struct {
	labels map[string]string
	value  float64
}

var (
	metricLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)`)
	labelPair  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"`)
)

// ask asks the node's API over HTTPS.
func (n *served) ask(t *testing.T, path, token string) (int, string) {
	t.Helper()
	url, admin, pool := n.API()
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}, Timeout: 10 * time.Second}
	defer web.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token == "" {
		token = admin
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := web.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// measured is what /metrics says, as Prometheus would read it.
func (n *served) measured(t *testing.T) map[string][]series {
	t.Helper()
	code, text := n.ask(t, "/metrics", "")
	if code != http.StatusOK {
		t.Fatalf("/metrics answers %d: %s", code, text)
	}
	out := map[string][]series{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		m := metricLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatal(lines.Text(), err)
		}
		s := series{labels: map[string]string{}, value: v}
		for _, l := range labelPair.FindAllStringSubmatch(m[2], -1) {
			s.labels[l[1]] = l[2]
		}
		out[m[1]] = append(out[m[1]], s)
	}
	return out
}

// query is one expression of a file, with where it stands.
type query struct{ where, expr, legend string }

func dashboard(t *testing.T) []query {
	t.Helper()
	var d struct {
		UID    string
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr, LegendFormat string }
		}
		Templating struct {
			List []struct{ Name string }
		}
	}
	if err := json.Unmarshal(deployed(t, "grafana", "perdure.json"), &d); err != nil {
		t.Fatal(err)
	}
	var out []query
	for _, p := range d.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("the panel %q asks for nothing", p.Title)
		}
		for _, q := range p.Targets {
			out = append(out, query{"panel " + p.Title, strings.NewReplacer("$__rate_interval", "1m", `=~"$instance"`, `=~".*"`).Replace(q.Expr), q.LegendFormat})
		}
	}
	return out
}

func alerts(t *testing.T) []query {
	t.Helper()
	var f struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalWithOptions(deployed(t, "prometheus", "perdure.rules.yml"), &f, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	var out []query
	seen := map[string]bool{}
	for _, g := range f.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || seen[r.Alert] || r.Annotations["summary"] == "" || !slices.Contains([]string{"warning", "critical"}, r.Labels["severity"]) {
				t.Errorf("the rule %+v has no name of its own, no summary or no severity", r)
			}
			seen[r.Alert] = true
			if r.For != "" {
				if _, err := time.ParseDuration(r.For); err != nil {
					t.Errorf("%s: %v", r.Alert, err)
				}
			}
			text := r.Annotations["summary"] + r.Annotations["description"]
			out = append(out, query{"rule " + r.Alert, r.Expr, strings.ReplaceAll(strings.ReplaceAll(text, "$labels.", ""), "$value", "")})
		}
	}
	return out
}

var (
	ofMetric   = regexp.MustCompile(`\b((?:perdure|process|go)_[a-z0-9_]+|up)\b(?:\{([^}]*)\})?`)
	matcherRE  = regexp.MustCompile(`([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	grouped    = regexp.MustCompile(`\bby \(([^)]*)\)`)
	inTemplate = regexp.MustCompile(`\{\{ *([a-z_]+) *\}\}`)
	// ofTarget are the labels that Prometheus itself gives what it scrapes.
	ofTarget = []string{"instance", "job"}
)

// answered checks a query against what is exported: every metric is there, and
// every label it matches, groups by or shows.
func answered(q query, have map[string][]series) (problems []string) {
	bad := func(format string, args ...any) {
		problems = append(problems, q.where+": "+fmt.Sprintf(format, args...))
	}
	known := map[string]bool{}
	for _, l := range ofTarget {
		known[l] = true
	}
	found := ofMetric.FindAllStringSubmatch(q.expr, -1)
	if len(found) == 0 {
		bad("%s asks for no metric", q.expr)
	}
	for _, m := range found {
		name := m[1]
		if name == "up" {
			continue
		}
		all, there := have[name]
		if !there {
			bad("nothing exports %s", name)
			continue
		}
		for _, s := range all {
			for l := range s.labels {
				known[l] = true
			}
		}
		for _, want := range matcherRE.FindAllStringSubmatch(m[2], -1) {
			label, op, value := want[1], want[2], want[3]
			if slices.Contains(ofTarget, label) {
				continue
			}
			fits := slices.ContainsFunc(all, func(s series) bool {
				v, there := s.labels[label]
				return there && (op != "=" || v == value)
			})
			if !fits {
				bad("%s has no label %s%s%q", name, label, op, value)
			}
		}
	}
	by := grouped.FindAllStringSubmatch(q.expr, -1)
	for _, g := range by {
		for l := range strings.SplitSeq(g[1], ",") {
			if l = strings.TrimSpace(l); !known[l] {
				bad("it groups by %s, which nothing has", l)
			}
		}
	}
	for _, l := range inTemplate.FindAllStringSubmatch(q.legend, -1) {
		shown := known[l[1]]
		if len(by) > 0 && strings.HasPrefix(q.where, "panel") {
			shown = slices.ContainsFunc(by, func(g []string) bool {
				return slices.Contains(strings.Split(strings.ReplaceAll(g[1], " ", ""), ","), l[1])
			})
		}
		if !shown {
			bad("it shows %s, which the answer does not have", l[1])
		}
	}
	return problems
}

// watchedAsFilesSay holds the dashboard and the alert rules against what the
// node exports while clients are served, writes are applied, messages are
// brought, and something is wrong with each of them.
func (w *noticed) watchedAsFilesSay(t *testing.T) {
	w.traffic(t)
	queries := append(dashboard(t), alerts(t)...)
	asked := map[string]bool{}
	var problems []string
	for end := time.Now().Add(20 * time.Second); ; {
		have := w.measured(t)
		problems = nil
		for _, q := range queries {
			problems = append(problems, answered(q, have)...)
			for _, m := range ofMetric.FindAllStringSubmatch(q.expr, -1) {
				asked[m[1]] = true
			}
		}
		if len(problems) == 0 || time.Now().After(end) {
			break
		}
		time.Sleep(200 * time.Millisecond) // some appear with what they count
	}
	for _, p := range problems {
		t.Error(p)
	}
	t.Logf("%d queries of the dashboard and the alert rules, %d metrics, all there", len(queries), len(asked))
	for _, broken := range []query{
		{"rule x", "perdure_no_such_thing > 1", ""},
		{"rule x", `perdure_member_up{host="a"} == 1`, ""},
		{"rule x", "sum by (shard) (perdure_member_up)", ""},
		{"panel x", "max by (member) (perdure_member_up)", "{{zone}}"},
	} {
		if len(answered(broken, w.measured(t))) == 0 {
			t.Errorf("this test does not see that %s %s is wrong", broken.expr, broken.legend)
		}
	}
	w.bounded(t)
	// The write that could not be applied can, now.
	run(t, w.servers[0].Root(t), "CREATE TABLE shop.nowhere (id INT PRIMARY KEY)")
}

func params(id, amount int) map[string]json.RawMessage {
	return map[string]json.RawMessage{"id": json.RawMessage(strconv.Itoa(id)), "amount": json.RawMessage(strconv.Itoa(amount))}
}

// traffic makes everything happen that is counted.
func (w *noticed) traffic(t *testing.T) {
	t.Helper()
	for range 20 {
		if _, err := w.Put(t.Context(), api.Write{Operation: "deposit", Params: params(1, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Put(t.Context(), api.Write{Key: "bad", Statements: []api.Statement{{SQL: "INSERT INTO shop.nowhere VALUES (1)"}}}); err != nil {
		t.Fatal(err)
	}
	db := w.through(t, proxy.ReadWrite)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for _, stmt := range []string{"SELECT 1", "CREATE TEMPORARY TABLE shop.pin (id INT)", "SELECT * FROM shop.account"} {
		if _, err := conn.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(stmt, err)
		}
	}
}

// bounded checks that strangers and clients cannot make new series.
func (w *noticed) bounded(t *testing.T) {
	t.Helper()
	count := func() (all int, by map[string]int) {
		by = map[string]int{}
		for name, s := range w.measured(t) {
			by[name] = len(s)
			all += len(s)
		}
		return all, by
	}
	before, was := count()
	for i := range 150 {
		w.ask(t, fmt.Sprintf("/v1/nothing/%d", i), "")
		w.ask(t, fmt.Sprintf("/v1/operations/none-%d?x=%d", i, i), fmt.Sprintf("made-up-%d", i))
	}
	for i := range 50 {
		_, _ = w.Put(t.Context(), api.Write{Key: fmt.Sprintf("key-%d", i), Operation: "deposit", Params: params(2, i)})
	}
	db := w.through(t, proxy.Split)
	for i := range 50 {
		if _, err := db.ExecContext(t.Context(), fmt.Sprintf("SELECT %d FROM shop.account WHERE id = %d /* client %d */", i, i, i)); err != nil {
			t.Fatal(err)
		}
	}
	after, is := count()
	for name, n := range is {
		if n > was[name]+30 { // a route is counted when it is first asked for
			t.Errorf("%s grew from %d to %d series", name, was[name], n)
		}
	}
	t.Logf("%d series with three members; %d after 300 strange requests, 50 keys and 50 statements", before, after)
	if after > 1500 {
		t.Errorf("%d series: %v", after, slices.Sorted(maps.Keys(is)))
	}
}

// readiness asks for every role, and for a wrong one.
func (w *noticed) readiness(t *testing.T) {
	for path, want := range map[string]string{
		"/livez": "ok", "/readyz": "ok", "/readyz?role=proxy": "ok", "/readyz?role=control": "ok",
		"/readyz?verbose": "ready: control\nready: events\nready: proxy\nready: queue\nready: watch",
	} {
		code, text := w.ask(t, path, "none")
		for end := time.Now().Add(20 * time.Second); (code != http.StatusOK || strings.TrimSpace(text) != want) && time.Now().Before(end); code, text = w.ask(t, path, "none") {
			time.Sleep(50 * time.Millisecond) // a role may have trouble for a moment
		}
		if code != http.StatusOK || strings.TrimSpace(text) != want {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	if code, _ := w.ask(t, "/readyz?role=juggler", "none"); code != http.StatusNotFound {
		t.Errorf("a role that does not exist: %d", code)
	}
}

// A node that reaches no member and has no leader to send clients to says which
// of its roles are not ready, and that it lives.
func TestReadinessIsSaidRoleByRole(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.serveFile(t, "node", s.lonely(t))
	var text string
	eventually(t, 20*time.Second, "only the proxy is not ready", func() bool {
		var code int
		code, text = n.ask(t, "/readyz?verbose", "none")
		return code == http.StatusServiceUnavailable && strings.Count(text, "not ready: ") == 1
	})
	says(t, text, "not ready: proxy: ", "ready: control", "ready: queue")
	for path, want := range map[string]int{"/livez": 200, "/readyz": 503, "/readyz?role=proxy": 503, "/readyz?role=control": 200} {
		if code, said := n.ask(t, path, "none"); code != want {
			t.Errorf("%s: %d %s", path, code, said)
		}
	}
}

// The unit is one that systemd understands, and it keeps the node away from
// what it does not need.
func TestTheUnitIsOneThatSystemdAccepts(t *testing.T) {
	t.Parallel()
	unit := string(deployed(t, "systemd", "perdure.service"))
	for _, want := range []string{
		"Type=notify", "User=perdure", "StateDirectory=perdure", "NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n",
		"SystemCallFilter=@system-service", "MemoryDenyWriteExecute=yes", "LimitNOFILE=", "Restart=always",
	} {
		if !strings.Contains(unit, want) {
			t.Errorf("the unit lacks %s", want)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not on this machine: only the words were checked")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "perdure.service")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(unit, "/usr/bin/perdure", exe)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if out, err := exec.CommandContext(ctx, analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || len(strings.TrimSpace(string(out))) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(ctx, analyze, "security", "--offline=true", "--threshold=20", path).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	if i := strings.Index(string(out), "Overall exposure"); i > 0 {
		t.Log(strings.TrimSpace(string(out[i:])))
	}
}

// What a release is made of names files that exist, and both descriptions of
// the packages put the same things in the same places.
func TestPackagesAreMadeOfWhatIsThere(t *testing.T) {
	t.Parallel()
	type content struct {
		Src, Dst, Type string
		Info           map[string]int `yaml:"file_info"`
	}
	var nfpm struct {
		Name, Arch, Platform, Version, Section, Priority, Maintainer, Description, Vendor, Homepage, License string
		Contents                                                                                             []content
		Scripts                                                                                              map[string]string
		Overrides                                                                                            map[string]map[string][]string
		Umask                                                                                                int
	}
	if err := yaml.UnmarshalWithOptions(deployed(t, "packages", "nfpm.yaml"), &nfpm, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	var release struct {
		Version int
		NFPMs   []struct {
			Contents []content
			Scripts  map[string]string
			Umask    int
		} `yaml:"nfpms"`
	}
	if err := yaml.Unmarshal(deployed(t, "goreleaser.yaml"), &release); err != nil {
		t.Fatal(err)
	}
	if release.Version != 2 || len(release.NFPMs) != 1 {
		t.Fatalf("goreleaser.yaml: %+v", release)
	}
	if nfpm.Umask != 0o022 || release.NFPMs[0].Umask != 0o022 {
		t.Errorf("files of packages would have the umask of whoever builds them: %o, %o", nfpm.Umask, release.NFPMs[0].Umask)
	}
	places := func(all []content) (out []string) {
		for _, c := range all {
			if c.Src != "bin/perdure" { // goreleaser adds the binary itself
				out = append(out, c.Src+" -> "+c.Dst)
			}
			if c.Src != "" && c.Src != "bin/perdure" {
				if _, err := os.Stat(filepath.Join("..", "..", c.Src)); err != nil {
					t.Errorf("a package wants %s: %v", c.Src, err)
				}
			}
		}
		slices.Sort(out)
		return out
	}
	if a, b := places(nfpm.Contents), places(release.NFPMs[0].Contents); !slices.Equal(a, b) {
		t.Errorf("nfpm packs %v, goreleaser %v", a, b)
	}
	for _, scripts := range []map[string]string{nfpm.Scripts, release.NFPMs[0].Scripts} {
		for name, path := range scripts {
			if out, err := exec.CommandContext(t.Context(), "sh", "-n", filepath.Join("..", "..", path)).CombinedOutput(); err != nil {
				t.Errorf("%s: %v %s", name, err, out)
			}
		}
	}
	docker := string(deployed(t, "docker", "Dockerfile"))
	for _, want := range []string{"CGO_ENABLED=0", "USER 65532:65532", "FROM scratch", `ENTRYPOINT ["/usr/bin/perdure"]`} {
		if !strings.Contains(docker, want) {
			t.Errorf("the Dockerfile lacks %s", want)
		}
	}
}
