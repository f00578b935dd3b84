package alarm

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/event"
)

// Config is the section `alarms` of perdure.yaml.
type Config struct {
	Every event.Duration `json:"every,omitempty" yaml:"every,omitempty" doc:"How often the conditions are evaluated. Default 1s."`
	Off   []string       `json:"off,omitempty" yaml:"off,omitempty" doc:"Built-in alarms that are not wanted. '*' stands for any text."`
	Rules []Rule         `json:"rules,omitempty" yaml:"rules,omitempty" doc:"Further alarms. One with the name of a built-in alarm changes what it sets of that alarm."`
}

// Rule is one alarm.
type Rule struct {
	Name     string            `json:"name" yaml:"name" doc:"Short name, unique: lower-case letters, digits, dashes."`
	Each     string            `json:"each,omitempty" yaml:"each,omitempty" enum:"member,cluster" doc:"member: one alarm for each member, which the expressions call member. Default cluster: one alarm."`
	Where    string            `json:"where,omitempty" yaml:"where,omitempty" doc:"Expression: to which members, or when, the alarm applies at all. Elsewhere it is OK."`
	When     string            `json:"when,omitempty" yaml:"when,omitempty" doc:"Expression: the condition."`
	Clear    string            `json:"clear,omitempty" yaml:"clear,omitempty" doc:"Expression: when the alarm is over. Default: when the condition is false."`
	For      *event.Duration   `json:"for,omitempty" yaml:"for,omitempty" doc:"How long the condition must hold, or data be missing, before it is an alarm. Default 0s."`
	Hold     *event.Duration   `json:"hold,omitempty" yaml:"hold,omitempty" doc:"How long it must be clear before the alarm is over. Default 0s."`
	Repeat   *event.Duration   `json:"repeat,omitempty" yaml:"repeat,omitempty" doc:"How often to remind while it is on and nobody acknowledged it. Default 4h; 0s: never."`
	Severity event.Severity    `json:"severity,omitempty" yaml:"severity,omitempty" enum:"info,warning,critical" doc:"Default warning."`
	Missing  string            `json:"missing,omitempty" yaml:"missing,omitempty" enum:"alarm,ok,keep" doc:"What missing data mean: an alarm of their own (NO-DATA), that all is well, or no change. Default alarm."`
	Labels   map[string]string `json:"labels,omitempty" yaml:"labels,omitempty" doc:"Labels its events carry, for rules to match."`
	Text     string            `json:"text,omitempty" yaml:"text,omitempty" doc:"One sentence for people; {expression} stands for its value."`
}

// What missing data mean.
const (
	MissingAlarm = "alarm"
	MissingOK    = "ok"
	MissingKeep  = "keep"
)

// perMember is the value of Each that makes one alarm a member.
const perMember = "member"

const (
	defaultEvery  = time.Second
	defaultRepeat = 4 * time.Hour
)

var ruleName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

// rules returns the built-in and the configured rules as they are in force.
func (c Config) rules() []Rule {
	var out []Rule
	off := func(name string) bool {
		return slices.ContainsFunc(c.Off, func(p string) bool { return event.Glob(p, name) })
	}
	for _, r := range Builtin {
		if !off(r.Name) {
			out = append(out, r)
		}
	}
	for _, r := range c.Rules {
		i := slices.IndexFunc(out, func(b Rule) bool { return b.Name == r.Name })
		if i >= 0 {
			out[i] = out[i].with(r)
			continue
		}
		out = append(out, r)
	}
	return out
}

// with returns the rule with what other sets.
func (r Rule) with(other Rule) Rule {
	for _, f := range []struct{ mine, other *string }{
		{&r.Each, &other.Each},
		{&r.Where, &other.Where},
		{&r.When, &other.When},
		{&r.Clear, &other.Clear},
		{&r.Missing, &other.Missing},
		{&r.Text, &other.Text},
		{(*string)(&r.Severity), (*string)(&other.Severity)},
	} {
		if *f.other != "" {
			*f.mine = *f.other
		}
	}
	// A new condition has nothing to do with the old one's end.
	if other.When != "" && other.Clear == "" {
		r.Clear = ""
	}
	for _, f := range []struct{ mine, other **event.Duration }{{&r.For, &other.For}, {&r.Hold, &other.Hold}, {&r.Repeat, &other.Repeat}} {
		if *f.other != nil {
			*f.mine = *f.other
		}
	}
	if len(other.Labels) > 0 {
		labels := maps.Clone(r.Labels)
		if labels == nil {
			labels = map[string]string{}
		}
		maps.Copy(labels, other.Labels)
		r.Labels = labels
	}
	return r
}

// Check reports every mistake at once, each with the path of what it is about,
// such as "rules[1].when".
func (c Config) Check() error {
	var errs []error
	seen := map[string]bool{}
	for i, r := range c.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		if !ruleName.MatchString(r.Name) {
			errs = append(errs, fmt.Errorf("%s.name: an alarm's name is lower-case letters, digits and dashes, not %q", at, r.Name))
		}
		if seen[r.Name] {
			errs = append(errs, fmt.Errorf("%s.name: two alarms are called %s", at, r.Name))
		}
		seen[r.Name] = true
		if r.Each != "" && r.Each != perMember && r.Each != "cluster" {
			errs = append(errs, fmt.Errorf("%s.each: %q is none of member, cluster", at, r.Each))
		}
		if err := r.Severity.Check(); err != nil {
			errs = append(errs, fmt.Errorf("%s.severity: %w", at, err))
		}
		if r.Missing != "" && !slices.Contains([]string{MissingAlarm, MissingOK, MissingKeep}, r.Missing) {
			errs = append(errs, fmt.Errorf("%s.missing: %q is none of alarm, ok, keep", at, r.Missing))
		}
	}
	for _, p := range c.Off {
		if !slices.ContainsFunc(Builtin, func(r Rule) bool { return event.Glob(p, r.Name) }) {
			errs = append(errs, fmt.Errorf("off: there is no built-in alarm %s; there are %s", p, strings.Join(builtinNames(), ", ")))
		}
	}
	for _, r := range c.rules() {
		if _, err := compile(r); err != nil {
			at := slices.IndexFunc(c.Rules, func(x Rule) bool { return x.Name == r.Name })
			errs = append(errs, fmt.Errorf("rules[%d].%w", at, err))
		}
	}
	return errors.Join(errs...)
}
