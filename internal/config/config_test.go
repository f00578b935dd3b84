package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const good = `version: 1
cluster: shop
mysql: {user: perdure, password: "env:X"}
members:
  - {name: m1, address: "127.0.0.1:3306"}
  - {name: m2, address: "127.0.0.1:3307"}
`

func TestMistakesAreNamedWithTheirPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"an unknown key", strings.Replace(good, "cluster:", "clustre: x\ncluster:", 1), []string{"[2:1]", `unknown field "clustre"`, "^"}},
		{"a wrong type", strings.Replace(good, "version: 1", "version: one", 1), []string{"[1:10]", "^"}},
		{"a key twice", good + "cluster: other\n", []string{"[7:1]", "already defined", "^"}},
		{"a wrong version", strings.Replace(good, "version: 1", "version: 2", 1), []string{"version 1 of the file, not 2", "^"}},
		{"two members with one name", strings.Replace(good, "m2", "m1", 1), []string{"members[1].name: two members are called m1", "6 |", "^"}},
		{"two members at one address", strings.Replace(good, "3307", "3306", 1), []string{"members[1].address", "is the address of m1 already"}},
		{"an address without a port", strings.Replace(good, "127.0.0.1:3307", "db2", 1), []string{`"db2" is not host:port`}},
		{"a bad member name", strings.Replace(good, "m2", "M 2", 1), []string{"lower-case letters"}},
		{"a mode that does not exist", good + "group: {mode: both}\n", []string{`group.mode: "both" is none of multi-primary, single-primary`, "^"}},
		{"single leader in multi-primary", good + "group: {paxos_single_leader: true}\n", []string{"only with mode single-primary"}},
		{"a site beyond the sites", good + "group: {site: 4}\n", []string{"1 to 3"}},
		{"two control nodes", good + "control: {peers: [{name: a, address: 'h:1'}, {name: b, address: 'h:2'}]}\n", []string{"one, three or five"}},
		{"a password in the file", strings.Replace(good, `"env:X"`, "hunter2", 1), []string{"by reference"}},
		{"no members", good[:strings.Index(good, "members")] + "members: []\n", []string{"one to nine members"}},
		{"several mistakes at once", strings.NewReplacer("m2", "m1", "cluster: shop", "cluster: Shop!").Replace(good), []string{"cluster: a cluster's name", "two members are called m1"}},
		{"a duration that is none", good + "events: {keep: fortnight}\n", []string{`events.keep: "fortnight" is not a duration`, "7 |", "^"}},
		{"two of them, one in a list", good + "events:\n  keep: 3 days\nalarms:\n  rules:\n    - {name: x, when: 'true', for: soon}\n", []string{`events.keep: "3 days" is not`, `alarms.rules[0].for: "soon" is not`, "8 |", "11 |", "^"}},
		{"a duration of the proxy", good + "proxy: {rw: 'h:1', hold_limit: ten}\n", []string{`proxy.hold_limit: "ten" is not a duration such as 10s`, "7 |", "^"}},
		{"a schedule with a bad hour", good + "schedules:\n  - {name: a, do: restart, at: '0 25 * * *'}\n", []string{`schedules[0].at: "25" is no hour`, "8 |", "^"}},
		{"a schedule with a bad zone", good + "schedules:\n  - {name: a, do: restart, at: '@daily', zone: Mars}\n", []string{`schedules[0].zone: "Mars" is no time zone`, "8 |", "^"}},
		{"an audit without an account", good + "schedules:\n  - {name: a, do: consistency, at: '@daily'}\n", []string{"schedules[0].do: an audit needs the section consistency"}},
		{"an audit of a table without its schema", good + "consistency: {user: a, password: 'env:X', tables: [orders]}\n", []string{`consistency.tables: "orders" is not schema.table`, "^"}},
		{"text that is no YAML", "version: [", []string{"[1:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(c.file))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the message lacks %q:\n%v", w, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the message shows the secret:\n%v", err)
			}
			if strings.Contains(err.Error(), "Go ") {
				t.Errorf("the message speaks Go:\n%v", err)
			}
		})
	}
}

func TestExampleIsValidAndHasASchema(t *testing.T) {
	t.Parallel()
	f, err := Parse([]byte(Example))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Members) != 3 || f.Spec().Cluster != "shop" {
		t.Errorf("read %+v", f)
	}
	b, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil || m["$defs"] == nil {
		t.Errorf("schema: %v\n%s", err, b)
	}
}

func TestSecretsComeFromPrivatePlacesOnly(t *testing.T) {
	t.Setenv("PERDURE_TEST_SECRET", "s3cret")
	dir := t.TempDir()
	open, private := filepath.Join(dir, "open"), filepath.Join(dir, "private")
	if err := os.WriteFile(open, []byte("s3cret\n"), 0o644); err != nil { //nolint:gosec // the point of the test
		t.Fatal(err)
	}
	if err := os.WriteFile(private, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &File{path: filepath.Join(dir, "perdure.yaml")}
	for _, ref := range []string{"env:PERDURE_TEST_SECRET", "file:" + private, "file:private"} {
		if got, err := f.Secret(ref); err != nil || got != "s3cret" {
			t.Errorf("%s: %q, %v", ref, got, err)
		}
	}
	for _, ref := range []string{"env:PERDURE_TEST_NOTHING", "file:" + open, "file:missing", "s3cret"} {
		if got, err := f.Secret(ref); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %q, %v; want a refusal that does not show the secret", ref, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(Example))
	f.Add([]byte("version: [\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if file, err := Parse(b); err == nil && (file.Version != 1 || len(file.Members) == 0) {
			t.Errorf("accepted %q", b)
		}
	})
}
