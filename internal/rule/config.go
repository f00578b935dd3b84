package rule

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/event"
)

// Rule is one entry of the section `rules` of perdure.yaml.
type Rule struct {
	Name   string        `json:"name" yaml:"name" doc:"Short name, unique: lower-case letters, digits, dashes."`
	Match  event.Matcher `json:"match,omitempty" yaml:"match,omitempty" doc:"Which events. Default: all."`
	Notify []string      `json:"notify,omitempty" yaml:"notify,omitempty" doc:"Names of channels to notify."`
	Hooks  []string      `json:"hooks,omitempty" yaml:"hooks,omitempty" doc:"Names of hooks to run."`
	Flap   Flap          `json:"flap,omitempty" yaml:"flap,omitempty" doc:"When messages about one subject are held back."`
	Last   bool          `json:"last,omitempty" yaml:"last,omitempty" doc:"Events that fit are shown to no further rule."`
}

// Flap says how many events about one subject a rule passes on within a time.
type Flap struct {
	Limit  int            `json:"limit,omitempty" yaml:"limit,omitempty" minimum:"0" maximum:"10000" doc:"So many events about one subject are passed on within the time. Default 20."`
	Within event.Duration `json:"within,omitempty" yaml:"within,omitempty" doc:"The time. Default 10m. So long must a subject be calm before its messages are passed on again."`
}

const (
	defaultFlapLimit  = 20
	defaultFlapWithin = 10 * time.Minute
	stillFlapping     = time.Hour // between messages while it goes on
)

// Default is the rule in force where channels are configured and no rules:
// every channel hears of alarms, their ends, and what is critical.
func Default(channels []string) []Rule {
	if len(channels) == 0 {
		return nil
	}
	return []Rule{
		{Name: "alarms", Match: event.Matcher{Kinds: []string{"alarm.*"}, Except: []string{string(event.AlarmAcked)}, Severity: event.Warning}, Notify: channels},
		{Name: "critical", Match: event.Matcher{Except: []string{"alarm.*"}, Severity: event.Critical}, Notify: channels},
	}
}

var name = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

// Check reports every mistake at once, each with the path of what it is about,
// such as "rules[1].notify[0]".
func Check(rules []Rule, channels, hooks []string) error {
	var errs []error
	seen := map[string]bool{}
	for i, r := range rules {
		at := fmt.Sprintf("rules[%d]", i)
		if !name.MatchString(r.Name) {
			errs = append(errs, fmt.Errorf("%s.name: a rule's name is lower-case letters, digits and dashes, not %q", at, r.Name))
		}
		if seen[r.Name] {
			errs = append(errs, fmt.Errorf("%s.name: two rules are called %s", at, r.Name))
		}
		seen[r.Name] = true
		if err := r.Match.Check(); err != nil {
			errs = append(errs, fmt.Errorf("%s.match: %w", at, err))
		}
		if len(r.Notify)+len(r.Hooks) == 0 && !r.Last {
			errs = append(errs, fmt.Errorf("%s: it neither notifies nor runs a hook", at))
		}
		for j, n := range r.Notify {
			if !slices.Contains(channels, n) {
				errs = append(errs, fmt.Errorf("%s.notify[%d]: there is no channel %q", at, j, n))
			}
		}
		for j, n := range r.Hooks {
			if !slices.Contains(hooks, n) {
				errs = append(errs, fmt.Errorf("%s.hooks[%d]: there is no hook %q", at, j, n))
			}
		}
		if r.Flap.Limit < 0 || r.Flap.Limit > 10000 {
			errs = append(errs, fmt.Errorf("%s.flap.limit: 1 to 10000, not %d", at, r.Flap.Limit))
		}
	}
	return errors.Join(errs...)
}
