package event

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAnEventIsACloudEventAndBack(t *testing.T) {
	t.Parallel()
	e := New(MemberCrashed, "member/m3", "m3 went away").With("why", "nothing listens").With("empty", "")
	e.Cluster, e.Node, e.Labels = "shop", "n1", map[string]string{"zone": "a"}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var attributes map[string]any
	if err := json.Unmarshal(b, &attributes); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"specversion": "1.0", "id": e.ID, "type": "perdure.member.crashed", "source": "/perdure/shop/n1",
		"subject": "member/m3", "severity": "critical", "member": "m3", "datacontenttype": "application/json",
		"time": e.Time.Format(time.RFC3339Nano),
	} {
		if attributes[name] != want {
			t.Errorf("attribute %s is %v, want %s", name, attributes[name], want)
		}
	}
	for name := range attributes { // the specification allows nothing else in names
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			t.Errorf("attribute name %q", name)
		}
	}
	var back Event
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(e, back); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{`{}`, `{"specversion":"1.0","id":"x","type":"other.thing"}`, `{"specversion":"0.3","id":"x","type":"perdure.a.b"}`, `{"specversion":"1.0","type":"perdure.a.b"}`, `[]`} {
		if json.Unmarshal([]byte(bad), &back) == nil {
			t.Errorf("accepted %s", bad)
		}
	}
}

func TestIDsAreUniqueAndDerivedOnesAreStable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 10000 {
		id := NewID()
		if seen[id] || len(id) != 32 {
			t.Fatalf("id %q", id)
		}
		seen[id] = true
	}
	if IDOf("a", "bc") != IDOf("a", "bc") || //nolint:staticcheck // twice the same on purpose
		IDOf("a", "bc") == IDOf("ab", "c") {
		t.Error("derived IDs do not tell their parts apart")
	}
}

func TestMatcherFitsWhatItSays(t *testing.T) {
	t.Parallel()
	e := New(AlarmFiring, "alarm/lag/m3", "")
	e.Member, e.Severity, e.Labels = "m3", Critical, map[string]string{"zone": "a", "team": "dba"}
	for _, c := range []struct {
		name string
		m    Matcher
		want bool
	}{
		{"an empty matcher", Matcher{}, true},
		{"the very kind", Matcher{Kinds: []string{"alarm.firing"}}, true},
		{"a pattern among others", Matcher{Kinds: []string{"member.*", "alarm.*"}}, true},
		{"another kind", Matcher{Kinds: []string{"member.*"}}, false},
		{"an exception", Matcher{Kinds: []string{"alarm.*"}, Except: []string{"*.firing"}}, false},
		{"less severe is asked for", Matcher{Severity: Warning}, true},
		{"the member", Matcher{Members: []string{"m1", "m3"}}, true},
		{"another member", Matcher{Members: []string{"m1"}}, false},
		{"labels", Matcher{Labels: map[string]string{"zone": "a", "team": "*"}}, true},
		{"a label it does not have", Matcher{Labels: map[string]string{"tier": "*"}}, false},
	} {
		if got := c.m.Matches(e); got != c.want {
			t.Errorf("%s: %v, want %v (%s)", c.name, got, c.want, c.m.Explain(e))
		}
	}
	e.Severity = Info
	if (Matcher{Severity: Warning}).Matches(e) {
		t.Error("an informational event fits a matcher for warnings")
	}
	if err := (Matcher{Kinds: []string{"membr.*"}, Severity: "loud"}).Check(); err == nil || !strings.Contains(err.Error(), "membr") || !strings.Contains(err.Error(), "loud") {
		t.Errorf("mistakes are not all named: %v", err)
	}
}

func TestGlob(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"a", "a", true},
		{"a", "ab", false},
		{"*", "", true},
		{"a*", "abc", true},
		{"*c", "abc", true},
		{"a*c", "ac", true},
		{"a*b*c", "axxbyyc", true},
		{"a*b*c", "axxcyyb", false},
		{"ab*ba", "aba", false},
		{"", "a", false},
		{"member.*", "membership", false},
	} {
		if Glob(c.pattern, c.text) != c.want {
			t.Errorf("Glob(%q, %q) is %v", c.pattern, c.text, !c.want)
		}
	}
}

func TestDurationsAreWrittenAsPeopleDo(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "7d": 168 * time.Hour, "0s": 0} {
		var d, again Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || time.Duration(d) != want {
			t.Errorf("%s is %v, %v", text, time.Duration(d), err)
		}
		if err := again.UnmarshalText([]byte(d.String())); err != nil || again != d {
			t.Errorf("%s is written %s", text, d)
		}
	}
	for _, bad := range []string{"", "-1s", "1w", "d", "99999d", "5"} {
		var d Duration
		if d.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

var update = flag.Bool("update", false, "write the list of kinds into docs/events.md")

// TestTheDocumentationListsTheTaxonomy keeps docs/events.md and kinds.go equal.
func TestTheDocumentationListsTheTaxonomy(t *testing.T) {
	t.Parallel()
	const path, from, to = "../../docs/events.md", "<!-- kinds -->\n", "<!-- /kinds -->\n"
	var list strings.Builder
	topic := ""
	for _, k := range Kinds {
		if meanings[k.Kind].Text != k.Text || strings.Count(string(k.Kind), ".") != 1 || k.Text == "" || k.Severity.Check() != nil {
			t.Errorf("kind %s is listed twice or not described", k.Kind)
		}
		if k.Ends != "" && !k.Ends.Known() {
			t.Errorf("kind %s ends the unknown %s", k.Kind, k.Ends)
		}
		if k.Kind.Topic() != topic {
			topic = k.Kind.Topic()
			fmt.Fprintf(&list, "\n| `%s.…` | usual severity | meaning |\n|---|---|---|\n", topic)
		}
		fmt.Fprintf(&list, "| `%s` | %s | %s |\n", k.Kind, k.Severity, k.Text)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), from)
	have, after, ok2 := strings.Cut(rest, to)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the marks around the list", path)
	}
	want := list.String() + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(before+from+want+to+after), 0o644); err != nil { //nolint:gosec // documentation
			t.Fatal(err)
		}
		return
	}
	if have != want {
		t.Errorf("%s is not what kinds.go says; run go test ./internal/event -update", path)
	}
}

func FuzzEvent(f *testing.F) {
	b, _ := json.Marshal(New(MemberCrashed, "member/m3", "x"))
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Event
		if json.Unmarshal(b, &e) != nil {
			return
		}
		again, err := json.Marshal(e)
		if err != nil {
			return // a time that JSON cannot hold
		}
		var back Event
		if err := json.Unmarshal(again, &back); err != nil || back.ID != e.ID || back.Kind != e.Kind {
			t.Errorf("%s became %s: %v", b, again, err)
		}
	})
}
