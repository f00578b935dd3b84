package alarm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/perdure/perdure/internal/event"
)

const (
	bookKey    = "alarms"
	maxHistory = 300 // entries: about 60 KB
	maxOutbox  = 200
)

// book is the document of all alarms.
type book struct {
	Status  map[string]Status `json:"status,omitempty"` // by rule, or rule/member
	History []Entry           `json:"history,omitempty"`
	Outbox  []event.Event     `json:"outbox,omitempty"` // events that may not be stored yet
}

// Entry is one change of an alarm, the newest last.
type Entry struct {
	At       time.Time      `json:"at"`
	Rule     string         `json:"rule"`
	Member   string         `json:"member,omitempty"`
	From     State          `json:"from"`
	To       State          `json:"to"`
	Severity event.Severity `json:"severity"`
	Text     string         `json:"text,omitempty"`
}

func key(rule, member string) string {
	if member == "" {
		return rule
	}
	return rule + "/" + member
}

// evaluate moves every alarm on. It reads nothing but its arguments; b is the
// book it changes. told says that something happened, moved that only a
// countdown began or ended.
func (b *book) evaluate(rules []*compiled, e *env, cluster, node string, now time.Time) (told, moved bool) {
	if b.Status == nil {
		b.Status = map[string]Status{}
	}
	there := map[string]bool{}
	fresh := e.stale() == ""
	for _, r := range rules {
		for _, one := range r.instances(e, fresh) {
			k := key(r.Name, one.Member.Name)
			there[k] = true
			old := b.Status[k]
			s, why := r.look(&one)
			st, n := step(old, r.Rule, s, now)
			st.Rule, st.Member, st.Severity = r.Name, one.Member.Name, r.Severity
			st.Labels = labels(r.Labels, one.Member)
			switch {
			case st.State == NoData || s.when == missing:
				st.Text = why
			case st.State == Alarm && s.when == yes:
				st.Text = r.say(&one)
			case st.State == OK && st.Toward == "":
				st.Text = ""
			}
			if n != nothing {
				b.tell(old, st, n, cluster, node, now)
				told = true
			}
			moved = moved || old.Toward != st.Toward
			b.keep(k, st)
		}
	}
	return b.forget(rules, there, fresh, cluster, node, now) || told, moved
}

// instances are the environments a rule is evaluated in: one, or one a member.
func (c *compiled) instances(e *env, fresh bool) []env {
	if c.Each != perMember {
		return []env{*e}
	}
	if !fresh {
		return nil // who the members are is not known; each keeps its state
	}
	var out []env
	for _, m := range e.Members {
		one := *e
		one.Member = m
		out = append(out, one)
	}
	return out
}

// look evaluates a rule's expressions.
func (c *compiled) look(e *env) (seen, string) {
	if c.where != nil {
		switch v, why := c.where.ask(e); v {
		case no:
			return seen{when: no, clear: true}, ""
		case missing, unsure:
			return seen{when: v}, why
		}
	}
	v, why := c.when.ask(e)
	if v != no {
		return seen{when: v}, why
	}
	if c.clear == nil {
		return seen{when: no, clear: true}, ""
	}
	over, _ := c.clear.ask(e)
	return seen{when: no, clear: over == yes}, ""
}

// keep stores a status, unless there is nothing to say about it.
func (b *book) keep(k string, st Status) {
	if st.State == OK && st.Toward == "" && st.Serial == 0 {
		delete(b.Status, k)
		return
	}
	b.Status[k] = st
}

// forget ends the alarms of rules and members that are gone.
func (b *book) forget(rules []*compiled, there map[string]bool, fresh bool, cluster, node string, now time.Time) (told bool) {
	for _, k := range slices.Sorted(maps.Keys(b.Status)) {
		st := b.Status[k]
		ruled := slices.ContainsFunc(rules, func(r *compiled) bool { return r.Name == st.Rule })
		if there[k] || (ruled && !fresh) {
			continue
		}
		if st.State != OK {
			end := st
			end.State, end.Since, end.Serial = OK, now, st.Serial+1
			end.Text = "the rule is gone"
			if ruled {
				end.Text = st.Member + " is not part of the cluster any more"
			}
			b.tell(st, end, changed, cluster, node, now)
			told = true
		}
		delete(b.Status, k)
	}
	return told
}

// tell writes a change into the history and its event into the outbox.
func (b *book) tell(old, st Status, n news, cluster, node string, now time.Time) {
	kind, text := event.AlarmResolved, st.Rule+" is over"
	switch {
	case n == reminder:
		kind, text = event.AlarmReminder, st.Rule+" is still on: "+st.Text
	case st.State == Alarm:
		kind, text = event.AlarmFiring, st.Text
	case st.State == NoData:
		kind, text = event.AlarmNoData, st.Rule+" has no data: "+st.Text
	case old.Text != "":
		text = st.Rule + " is over; it was: " + old.Text
	}
	if n == changed {
		from := cmp.Or(old.State, OK)
		b.History = append(b.History, Entry{At: now.UTC(), Rule: st.Rule, Member: st.Member, From: from, To: st.State, Severity: st.Severity, Text: text})
		b.History = slices.Delete(b.History, 0, max(0, len(b.History)-maxHistory))
	}
	e := event.New(kind, "alarm/"+key(st.Rule, st.Member), text)
	e.ID = event.IDOf("alarm", cluster, key(st.Rule, st.Member), string(st.State), fmt.Sprint(st.Serial))
	e.Time, e.Cluster, e.Node, e.Member, e.Labels = now.UTC(), cluster, node, st.Member, st.Labels
	// Its end is as severe as the alarm: whoever was told of one is told of the other.
	e.Severity = st.Severity
	e = e.With("alarm", st.Rule).With("was", string(cmp.Or(old.State, OK))).With("is", string(st.State))
	if !old.Since.IsZero() && old.State != OK && st.State == OK {
		e = e.With("lasted_seconds", fmt.Sprintf("%.0f", now.Sub(old.Since).Seconds()))
	}
	b.Outbox = append(b.Outbox, e)
	b.Outbox = slices.Delete(b.Outbox, 0, max(0, len(b.Outbox)-maxOutbox))
}

// labels are the rule's, and where the member is.
func labels(of map[string]string, m member) map[string]string {
	out := maps.Clone(of)
	for name, value := range map[string]string{"zone": m.Zone, "site": m.Site} {
		if value == "" {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		if _, set := out[name]; !set {
			out[name] = value
		}
	}
	return out
}

// heed takes over what others wrote into the book meanwhile: acknowledgements,
// and the events that tell of them.
func (b *book) heed(theirs book) {
	for k, t := range theirs.Status {
		if st, ok := b.Status[k]; ok && st.State != OK && st.Since.Equal(t.Since) {
			st.Acked = t.Acked
			b.Status[k] = st
		}
	}
	known := map[string]bool{}
	for _, e := range b.Outbox {
		known[e.ID] = true
	}
	for _, e := range theirs.Outbox {
		if e.Kind == event.AlarmAcked && !known[e.ID] {
			b.Outbox = append(b.Outbox, e)
		}
	}
}
