package config

import (
	"errors"
	"strings"

	"github.com/perdure/perdure/internal/alarm"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/hook"
	"github.com/perdure/perdure/internal/notify"
	"github.com/perdure/perdure/internal/rule"
)

// Events is how long what happened is kept.
type Events struct {
	Keep     event.Duration `yaml:"keep,omitempty" json:"keep,omitempty" doc:"How long events are kept. Default 30d."`
	MaxBytes int64          `yaml:"max_bytes,omitempty" json:"max_bytes,omitempty" minimum:"0" doc:"Disk they may take, the oldest go first. Default 1 GiB."`
}

// Notice is what is done about what happens: alarms, who hears of what, and what
// is run.
type Notice struct {
	Events Events          `yaml:"events,omitempty" json:"events,omitempty" doc:"How long what happened is kept."`
	Alarms alarm.Config    `yaml:"alarms,omitempty" json:"alarms,omitempty" doc:"Conditions that are watched, besides those built in."`
	Notify []notify.Config `yaml:"notify,omitempty" json:"notify,omitempty" doc:"Channels to people: webhook, email, slack, pagerduty, service."`
	Hooks  []hook.Config   `yaml:"hooks,omitempty" json:"hooks,omitempty" doc:"What can be run when something happens: command, http, action."`
	Rules  []rule.Rule     `yaml:"rules,omitempty" json:"rules,omitempty" doc:"Which events go to which channels and hooks. Default: alarms and what is critical, to every channel."`
}

// Actions are the hooks' built-in actions.
var Actions = []string{"rejoin", "drain", "undrain"}

func (f *File) checkNotice(c *checker) {
	var channels, hooks []string
	for _, n := range f.Notify {
		channels = append(channels, n.Name)
	}
	for _, h := range f.Hooks {
		hooks = append(hooks, h.Name)
	}
	for _, s := range []struct {
		section string
		err     error
	}{
		{"alarms", f.Alarms.Check()}, {"notify", notify.Check(f.Notify)}, {"hooks", hook.Check(f.Hooks, Actions)}, {"rules", rule.Check(f.Rules, channels, hooks)},
	} {
		section := s.section
		for _, e := range each(s.err) {
			path, text, ok := strings.Cut(e.Error(), ": ")
			if !ok {
				path, text = section, e.Error()
			}
			if !strings.HasPrefix(path, section) {
				path = section + "." + path
			}
			c.at("$."+path, "%s", text)
		}
	}
}

// each takes joined errors apart.
func each(err error) []error {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}
