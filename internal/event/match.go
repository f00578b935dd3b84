package event

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Matcher chooses events. Every part that is set must fit; an empty Matcher
// fits everything. In kinds, members and label values "*" stands for any text.
type Matcher struct {
	Kinds    []string          `json:"kinds,omitempty" yaml:"kinds,omitempty" doc:"Kinds of event, one of which must fit, such as member.crashed, member.* or alarm.*. Default: all."`
	Except   []string          `json:"except,omitempty" yaml:"except,omitempty" doc:"Kinds of event that do not count although kinds fits."`
	Severity Severity          `json:"severity,omitempty" yaml:"severity,omitempty" enum:"info,warning,critical" doc:"Least severity. Default: all."`
	Members  []string          `json:"members,omitempty" yaml:"members,omitempty" doc:"Names of members, one of which must fit. Default: all, and events about no member."`
	Labels   map[string]string `json:"labels,omitempty" yaml:"labels,omitempty" doc:"Labels that the event must have, with their values."`
}

// Matches tells whether the event fits.
func (m Matcher) Matches(e Event) bool { return m.Explain(e) == "" }

// Explain says why an event does not fit, or "" if it does.
func (m Matcher) Explain(e Event) string {
	fits := func(text string) func(string) bool {
		return func(pattern string) bool { return Glob(pattern, text) }
	}
	switch {
	case len(m.Kinds) > 0 && !slices.ContainsFunc(m.Kinds, fits(string(e.Kind))):
		return fmt.Sprintf("kind %s is none of %s", e.Kind, strings.Join(m.Kinds, ", "))
	case slices.ContainsFunc(m.Except, fits(string(e.Kind))):
		return fmt.Sprintf("kind %s is excepted", e.Kind)
	case !e.Severity.AtLeast(m.Severity):
		return fmt.Sprintf("severity %s is below %s", e.Severity, m.Severity)
	case len(m.Members) > 0 && (e.Member == "" || !slices.ContainsFunc(m.Members, fits(e.Member))):
		return fmt.Sprintf("member %q is none of %s", e.Member, strings.Join(m.Members, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Labels)) {
		if value, has := e.Labels[name]; !has || !Glob(m.Labels[name], value) {
			return fmt.Sprintf("label %s is %q, not %s", name, value, m.Labels[name])
		}
	}
	return ""
}

// Check reports every mistake at once: severities that do not exist, and kinds
// that no event has.
func (m Matcher) Check() error {
	errs := []error{m.Severity.Check()}
	for _, pattern := range append(slices.Clone(m.Kinds), m.Except...) {
		known := slices.ContainsFunc(Kinds, func(k Meaning) bool { return Glob(pattern, string(k.Kind)) })
		if !known {
			errs = append(errs, fmt.Errorf("no event is of kind %q", pattern))
		}
	}
	return errors.Join(errs...)
}

// Glob tells whether text fits pattern, in which "*" stands for any text.
func Glob(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		at := strings.Index(text, p)
		if at < 0 {
			return false
		}
		text = text[at+len(p):]
	}
	return strings.HasSuffix(text, parts[len(parts)-1])
}
