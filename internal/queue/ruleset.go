package queue

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
)

// Ruleset is the OWASP Core Rule Set, as far as it speaks of what attackers put
// into values: files and URLs, commands, PHP, Java and template code, script,
// SQL. It sees the same texts as the search for SQL and script that is always
// on, finds more, errs more often, and costs a hundred times as much: see
// docs/promises.md for the price.
type Ruleset struct {
	waf  coraza.WAF
	busy chan struct{} // half of the processors: the other half goes on accepting
}

// NewRuleset reads the rules, which takes about half a second.
func NewRuleset() (*Ruleset, error) {
	files := []string{
		"REQUEST-901-INITIALIZATION", "REQUEST-930-APPLICATION-ATTACK-LFI", "REQUEST-931-APPLICATION-ATTACK-RFI",
		"REQUEST-932-APPLICATION-ATTACK-RCE", "REQUEST-933-APPLICATION-ATTACK-PHP", "REQUEST-934-APPLICATION-ATTACK-GENERIC",
		"REQUEST-941-APPLICATION-ATTACK-XSS", "REQUEST-942-APPLICATION-ATTACK-SQLI", "REQUEST-944-APPLICATION-ATTACK-JAVA",
		"REQUEST-949-BLOCKING-EVALUATION",
	}
	var b strings.Builder
	b.WriteString("SecRuleEngine On\nSecRequestBodyAccess Off\nSecResponseBodyAccess Off\nSecAuditEngine Off\nInclude @crs-setup.conf.example\n")
	for _, f := range files {
		b.WriteString("Include @owasp_crs/" + f + ".conf\n")
	}
	waf, err := coraza.NewWAF(coraza.NewWAFConfig().WithRootFS(coreruleset.FS).WithDirectives(b.String()))
	if err != nil {
		return nil, fmt.Errorf("the rule set cannot be read: %w", err)
	}
	return &Ruleset{waf, make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}, nil
}

// named is a text, and where in the request it stands.
type named struct{ field, text string }

// textsAtOnce is how many texts are looked at together: the engine drops those
// beyond its thousandth, without a word.
const textsAtOnce = 100

// check refuses texts that the rules together find too suspicious. A nil
// Ruleset finds nothing.
func (r *Ruleset) check(texts []named) *Problem {
	if r == nil {
		return nil
	}
	for some := range slices.Chunk(texts, textsAtOnce) {
		r.busy <- struct{}{}
		p := r.some(some)
		<-r.busy
		if p != nil {
			return p
		}
	}
	return nil
}

func (r *Ruleset) some(texts []named) *Problem {
	tx := r.waf.NewTransaction()
	defer func() { _ = tx.Close() }()
	tx.ProcessURI("/v1/writes", "POST", "HTTP/1.1")
	for i, t := range texts {
		tx.AddPostRequestArgument(strconv.Itoa(i), t.text) // names are ours, and never suspicious
	}
	found := tx.ProcessRequestHeaders()
	if found == nil {
		var err error
		if found, err = tx.ProcessRequestBody(); err != nil {
			return problem(500, "rules", "the rules could not be applied: %v", err)
		}
	}
	if found == nil {
		return nil
	}
	p := &Problem{
		Kind: "suspicious-text", Status: 422, Field: texts[0].field,
		Detail: "the rule set takes the text for an attack",
		Hint:   "if this is honest text, declare the parameter with free: true",
	}
	for _, m := range tx.MatchedRules() {
		if m.Message() == "" || m.Rule().ID() >= 949000 || m.Rule().ID() < 930000 {
			continue
		}
		p.Detail += fmt.Sprintf("; rule %d: %s", m.Rule().ID(), m.Message())
		for _, d := range m.MatchedDatas() {
			if i, err := strconv.Atoi(d.Key()); err == nil && i < len(texts) {
				p.Field = texts[i].field
			}
		}
		if len(p.Detail) > 300 {
			break
		}
	}
	return p
}
