package rule

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/event"
)

// Silence keeps messages about some events back for a time. Hooks run all the same.
type Silence struct {
	ID    string        `json:"id"`
	Match event.Matcher `json:"match"`
	From  time.Time     `json:"from"`
	Until time.Time     `json:"until"`
	Who   string        `json:"who"`
	Why   string        `json:"why,omitempty"`
}

func (s Silence) covers(e event.Event) bool {
	return !e.Time.Before(s.From) && e.Time.Before(s.Until) && s.Match.Matches(e)
}

// place is how far the stream was read, and what was held back on the way. It
// is one document: reading again from there decides the same again.
type place struct {
	Generation string          `json:"generation,omitempty"`
	Next       uint64          `json:"next"` // the sequence to read next
	Flaps      map[string]flap `json:"flaps,omitempty"`
	Hushed     map[string]int  `json:"hushed,omitempty"` // by silence
}

// flap is what one rule has passed on and held back about one subject.
type flap struct {
	Rule    string         `json:"rule"`
	Passed  []time.Time    `json:"passed,omitempty"`
	Since   time.Time      `json:"since,omitzero"` // held back since then; zero: it is not
	Told    time.Time      `json:"told,omitzero"`
	Held    int            `json:"held,omitempty"`
	Seen    time.Time      `json:"seen,omitzero"`
	Newest  event.Event    `json:"newest,omitzero"`
	Highest event.Severity `json:"highest,omitempty"`
}

// maxFlaps bounds the document: subjects that were calm the longest go first.
const maxFlaps = 200

// due is one event that goes to one target.
type due struct {
	rule, target string
	hook         bool
	event        event.Event
}

// decide says where an event goes, and what it changes about what is held
// back. It reads nothing but its arguments; the time is the event's, so that
// an event that is read again is decided the same.
func decide(e event.Event, rules []Rule, silences []Silence, p *place) []due {
	if e.ID == "" {
		return nil
	}
	var out []due
	for _, r := range rules {
		if !r.Match.Matches(e) {
			continue
		}
		out = append(out, p.pass(e, r, silences)...)
		if r.Last {
			break
		}
	}
	return out
}

// pass sends an event, or a message that it is held back, to a rule's targets.
func (p *place) pass(e event.Event, r Rule, silences []Silence) []due {
	key := r.Name + " " + cmp.Or(e.Subject, string(e.Kind))
	f, limit, within := p.Flaps[key], cmp.Or(r.Flap.Limit, defaultFlapLimit), r.Flap.Within.Or(defaultFlapWithin)
	f.Rule, f.Seen = r.Name, e.Time
	defer func() {
		if p.Flaps == nil {
			p.Flaps = map[string]flap{}
		}
		p.Flaps[key] = f
		p.bound()
	}()
	f.Passed = slices.DeleteFunc(slices.Clone(f.Passed), func(t time.Time) bool { return e.Time.Sub(t) >= within })
	switch {
	case f.Since.IsZero() && len(f.Passed) < limit:
		f.Passed = append(f.Passed, e.Time)
		return p.targets(e, r, silences, true, true)
	case f.Since.IsZero():
		f.Since, f.Told, f.Held = e.Time, e.Time, 0
		f.hold(e)
		return p.targets(f.message(event.NotifyFlapping, e.Time, within), r, silences, true, false)
	}
	f.hold(e)
	if e.Time.Sub(f.Told) >= stillFlapping {
		f.Told = e.Time
		return p.targets(f.message(event.NotifyFlapping, e.Time, within), r, silences, true, false)
	}
	return nil
}

func (f *flap) hold(e event.Event) {
	f.Held++
	f.Newest = e
	if e.Severity.AtLeast(f.Highest) {
		f.Highest = e.Severity
	}
}

// calm ends what has been quiet for long enough, and says what goes out for it.
func calm(now time.Time, rules []Rule, silences []Silence, p *place) []due {
	var out []due
	for _, key := range slices.Sorted(maps.Keys(p.Flaps)) {
		f := p.Flaps[key]
		i := slices.IndexFunc(rules, func(r Rule) bool { return r.Name == f.Rule })
		if i < 0 {
			delete(p.Flaps, key)
			continue
		}
		within := rules[i].Flap.Within.Or(defaultFlapWithin)
		if now.Sub(f.Seen) < within {
			continue
		}
		delete(p.Flaps, key)
		if f.Since.IsZero() {
			continue
		}
		out = append(out, p.targets(f.message(event.NotifyCalm, now, within), rules[i], silences, true, false)...)
		out = append(out, p.targets(f.Newest, rules[i], nil, false, true)...)
	}
	return out
}

// message says that events are held back, or were.
func (f *flap) message(kind event.Kind, at time.Time, within time.Duration) event.Event {
	n := f.Newest
	text := fmt.Sprintf("%s changes often: further messages are held back until it is calm for %s. The newest: %s", n.Subject, within, n.Text)
	if kind == event.NotifyFlapping && f.Held > 1 {
		text = fmt.Sprintf("%s still changes often: %d messages were held back. The newest: %s", n.Subject, f.Held, n.Text)
	}
	if kind == event.NotifyCalm {
		text = fmt.Sprintf("%s is calm: %d messages were held back since %s. The last: %s", n.Subject, f.Held, f.Since.UTC().Format(time.TimeOnly), n.Text)
	}
	e := event.New(kind, n.Subject, text)
	e.ID = event.IDOf("flap", string(kind), f.Rule, n.Subject, f.Since.String(), f.Told.String())
	e.Time, e.Cluster, e.Node, e.Member, e.Labels, e.Severity = at.UTC(), n.Cluster, n.Node, n.Member, n.Labels, f.Highest
	return e.With("held", fmt.Sprint(f.Held)).With("newest_kind", string(n.Kind)).With("newest_id", n.ID)
}

// targets are the channels and hooks an event goes to.
func (p *place) targets(e event.Event, r Rule, silences []Silence, channels, hooks bool) []due {
	var out []due
	if channels {
		quiet := false
		for _, s := range silences {
			if len(r.Notify) > 0 && s.covers(e) {
				if p.Hushed == nil {
					p.Hushed = map[string]int{}
				}
				p.Hushed[s.ID]++
				quiet = true
				break
			}
		}
		for _, c := range r.Notify {
			// A channel that does not work is not told so over itself.
			if !quiet && e.Facts["target"] != "notify/"+c {
				out = append(out, due{rule: r.Name, target: "notify/" + c, event: e})
			}
		}
	}
	// What hooks and messages did starts no hook: it would never end.
	if hooks && e.Kind.Topic() != "hook" && e.Kind.Topic() != "notify" {
		for _, h := range r.Hooks {
			out = append(out, due{rule: r.Name, target: "hook/" + h, hook: true, event: e})
		}
	}
	return out
}

// bound forgets subjects when there are too many.
func (p *place) bound() {
	for len(p.Flaps) > maxFlaps {
		oldest := ""
		for k, f := range p.Flaps {
			if o := p.Flaps[oldest]; oldest == "" || f.Seen.Before(o.Seen) {
				oldest = k
			}
		}
		delete(p.Flaps, oldest)
	}
}

// Hit is what one rule says to one event.
type Hit struct {
	Rule     string   `json:"rule"`
	Matches  bool     `json:"matches"`
	Why      string   `json:"why,omitempty"` // it does not
	Notify   []string `json:"notify,omitempty"`
	Hooks    []string `json:"hooks,omitempty"`
	Silenced string   `json:"silenced,omitempty"` // who keeps the messages back, and until when
}

// explain says what every rule would do with an event.
func explain(e event.Event, rules []Rule, silences []Silence) []Hit {
	var out []Hit
	for i, r := range rules {
		h := Hit{Rule: r.Name, Why: r.Match.Explain(e)}
		if h.Why == "" {
			h.Matches, h.Notify, h.Hooks = true, r.Notify, r.Hooks
			for _, s := range silences {
				if s.covers(e) && len(r.Notify) > 0 {
					h.Silenced = strings.TrimSpace(fmt.Sprintf("by %s until %s %s", s.Who, s.Until.UTC().Format(time.DateTime), s.Why))
				}
			}
		}
		out = append(out, h)
		if h.Matches && r.Last && i+1 < len(rules) {
			for _, rest := range rules[i+1:] {
				out = append(out, Hit{Rule: rest.Name, Why: "rule " + r.Name + " is the last for this event"})
			}
			break
		}
	}
	return out
}
