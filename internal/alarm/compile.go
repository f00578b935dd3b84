package alarm

import (
	"errors"
	"fmt"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/vm"

	"github.com/perdure/perdure/internal/event"
)

// compiled is a rule that can be evaluated.
type compiled struct {
	Rule
	where, when, clear *condition
	text               []piece
	metrics            map[string]bool // the names of metrics it may ask for
}

// condition is a compiled expression.
type condition struct {
	program  *vm.Program
	needView bool // it speaks of members
}

// piece is a part of a text: words, or an expression.
type piece struct {
	words string
	value *vm.Program
}

// compile checks the types of a rule's expressions.
func compile(r Rule) (*compiled, error) {
	c := &compiled{Rule: r, metrics: map[string]bool{}}
	if c.Severity == "" {
		c.Severity = event.Warning
	}
	if c.Missing == "" {
		c.Missing = MissingAlarm
	}
	if strings.TrimSpace(r.When) == "" {
		return nil, errors.New("when: the condition is missing")
	}
	for _, p := range []struct {
		name, code string
		to         **condition
	}{{"where", r.Where, &c.where}, {"when", r.When, &c.when}, {"clear", r.Clear, &c.clear}} {
		if p.code == "" {
			continue
		}
		var err error
		if *p.to, err = c.condition(p.code); err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	var err error
	if c.text, err = c.pieces(r.Text); err != nil {
		return nil, fmt.Errorf("text: %w", err)
	}
	return c, nil
}

func (c *compiled) condition(code string) (*condition, error) {
	v := &visitor{rule: c}
	program, err := expr.Compile(code, expr.Env(env{}), expr.AsBool(), expr.Patch(v))
	if err != nil {
		return nil, err
	}
	if v.member && c.Each != perMember {
		return nil, errors.New("member is only known to an alarm with each: member")
	}
	return &condition{program: program, needView: v.view}, nil
}

// visitor finds out what an expression speaks of.
type visitor struct {
	rule         *compiled
	view, member bool
}

// Visit implements ast.Visitor.
func (v *visitor) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.IdentifierNode:
		v.view = v.view || viewWords[n.Value]
		v.member = v.member || n.Value == "member"
	case *ast.StringNode: // any text may be the name of a metric
		v.rule.metrics[n.Value] = true
	}
}

// pieces splits a text at its {expressions}. Braces inside of them pair up.
func (c *compiled) pieces(text string) ([]piece, error) {
	var out []piece
	for {
		at := strings.IndexByte(text, '{')
		if at < 0 {
			return append(out, piece{words: text}), nil
		}
		end, depth := -1, 0
		for i := at; i < len(text); i++ {
			switch text[i] {
			case '{':
				depth++
			case '}':
				depth--
			}
			if depth == 0 {
				end = i
				break
			}
		}
		if end < 0 {
			return nil, fmt.Errorf("a brace is not closed: %s", text[at:])
		}
		program, err := expr.Compile(text[at+1:end], expr.Env(env{}), expr.Patch(&visitor{rule: c}))
		if err != nil {
			return nil, err
		}
		out = append(out, piece{words: text[:at]}, piece{value: program})
		text = text[end+1:]
	}
}

// verdict is what an expression says at one moment.
type verdict int

const (
	no      verdict = iota
	yes             // the condition holds
	missing         // its data are not there
	unsure          // it cannot be told yet; nothing changes
)

// ask evaluates a condition. why explains missing data.
func (c *condition) ask(e *env) (v verdict, why string) {
	if c.needView {
		if why := e.stale(); why != "" {
			return missing, why
		}
	}
	out, err := expr.Run(c.program, *e)
	var gone *missingError
	var soon tooSoonError
	switch {
	case errors.As(err, &gone):
		return missing, gone.what
	case errors.As(err, &soon):
		return unsure, ""
	case err != nil:
		return missing, "the condition cannot be evaluated: " + oneLine(err)
	case out == true:
		return yes, ""
	}
	return no, ""
}

// say is the rule's text with its values.
func (c *compiled) say(e *env) string {
	var b strings.Builder
	for _, p := range c.text {
		b.WriteString(p.words)
		if p.value == nil {
			continue
		}
		out, err := expr.Run(p.value, *e)
		switch f, isFloat := out.(float64); {
		case err != nil:
			b.WriteString("?")
		case isFloat:
			b.WriteString(strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", f), "0"), "."))
		default:
			fmt.Fprint(&b, out)
		}
	}
	if b.Len() == 0 {
		return c.Name + ": " + c.When
	}
	return b.String()
}

func oneLine(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}
