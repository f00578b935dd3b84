package watch

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/topology"
)

// Told is what the events published so far add up to. It is kept where the
// next node that leads finds it: what changed while nobody led is told then,
// and nothing is told twice.
type Told struct {
	Quorum   topology.Quorum        `json:"quorum,omitempty"`
	Mode     topology.Mode          `json:"mode,omitempty"`
	Primary  string                 `json:"primary,omitempty"` // of a single-primary group
	Members  map[string]ToldMember  `json:"members,omitempty"`
	Problems map[string]ToldProblem `json:"problems,omitempty"` // by kind and members
	Poison   string                 `json:"poison,omitempty"`   // the transaction several members gave up at
	Serial   uint64                 `json:"serial"`             // of the newest event
	// Outbox holds events that may not have reached their store yet.
	Outbox []event.Event `json:"outbox,omitempty"`
}

// ToldMember is what was told about one member.
type ToldMember struct {
	State     topology.State `json:"state,omitempty"`
	Joined    bool           `json:"joined,omitempty"` // it was a member before
	Gone      bool           `json:"gone,omitempty"`   // this outage was called a crash
	Writable  bool           `json:"writable,omitempty"`
	Lagging   bool           `json:"lagging,omitempty"`
	Throttles bool           `json:"throttles,omitempty"`
	Version   string         `json:"version,omitempty"`
	Boot      time.Time      `json:"boot,omitzero"` // of the server process, give or take a second
}

// ToldProblem is a problem that was told.
type ToldProblem struct {
	Kind    string   `json:"kind"`
	Members []string `json:"members,omitempty"`
	Text    string   `json:"text,omitempty"`
}

// Limits are where numbers become events. The zero value is the defaults. A
// limit is reached upwards and left at half of it.
type Limits struct {
	Lag   time.Duration // default 10 s
	Queue int64         // waiting transactions; default 25000, where flow control begins
}

// Events says what a View tells beyond what was told before, and what is told
// then. It reads nothing but its arguments. A View in which a server was not
// asked yet tells nothing: a node that has just begun knows nothing.
func Events(was Told, v *topology.View, lim Limits) ([]event.Event, Told) {
	if v.At.IsZero() || len(v.Members) == 0 || !settled(v) {
		return nil, was
	}
	s := &story{view: v, was: was, now: was, lim: lim}
	s.lim.Lag = cmp.Or(lim.Lag, 10*time.Second)
	s.lim.Queue = cmp.Or(lim.Queue, 25000)
	s.now.Members = map[string]ToldMember{}
	for _, m := range v.Members {
		s.member(m)
	}
	for _, name := range slices.Sorted(maps.Keys(was.Members)) {
		if _, there := s.now.Members[name]; !there {
			s.tell(event.MemberRemoved, "member/"+name, name+" is not part of the cluster any more")
		}
	}
	s.group()
	s.problems()
	s.poison()
	return s.events, s.now
}

// leaving is how long a member may seem isolated before it is called so. One
// that is stopped, or leaves, calls itself a member for seconds after the
// others let it go.
const leaving = 8 * time.Second

// settled tells whether every server has answered or failed to at least once.
func settled(v *topology.View) bool {
	for _, m := range v.Members {
		if m.Report == nil && m.Failure == topology.Answers {
			return false
		}
	}
	return true
}

// story collects the events of one View.
type story struct {
	view     *topology.View
	was, now Told
	lim      Limits
	events   []event.Event
}

func (s *story) tell(kind event.Kind, subject, text string, facts ...string) {
	s.now.Serial++
	e := event.New(kind, subject, text)
	e.ID = event.IDOf("view", s.view.Cluster, fmt.Sprint(s.now.Serial))
	e.Time, e.Cluster = s.view.At.UTC(), s.view.Cluster
	e = e.With("view", fmt.Sprint(s.view.Number))
	for i := 0; i+1 < len(facts); i += 2 {
		e = e.With(facts[i], facts[i+1])
	}
	if m, ok := s.view.Member(e.Member); ok {
		e.Labels = labels(m)
		e = e.With("address", m.Address)
	}
	s.events = append(s.events, e)
}

func labels(m topology.Member) map[string]string {
	out := map[string]string{}
	for name, value := range map[string]string{"zone": m.Zone, "site": m.Site} {
		if value != "" {
			out[name] = value
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func (s *story) member(m topology.Member) {
	old, known := s.was.Members[m.Name]
	now := old
	subject := "member/" + m.Name
	if !known && len(s.was.Members) > 0 {
		s.tell(event.MemberAdded, subject, m.Name+" is part of the cluster now")
	}
	if known && m.State == topology.Isolated && old.State != topology.Isolated && s.view.At.Sub(m.Since) < leaving {
		s.now.Members[m.Name] = old // it may be on its way out in good order
		return
	}
	restarted := false
	if m.Report != nil && m.Failure == topology.Answers {
		boot := m.Heard.Add(-m.Report.Uptime).UTC().Truncate(time.Second)
		// The uptime has whole seconds, and the answer took a moment.
		restarted = !old.Boot.IsZero() && boot.Sub(old.Boot) > 3*time.Second
		if restarted || old.Boot.IsZero() {
			now.Boot = boot
		}
	}
	facts := []string{"was", string(old.State), "is", string(m.State), "why", m.Why, "failure", string(m.Failure)}
	for _, kind := range turns(old, m, restarted, s.view.Quorum) {
		s.tell(kind, subject, sentence(kind, m), facts...)
		if kind == event.MemberStarted {
			restarted = false
		}
		now.Gone = now.Gone || kind == event.MemberCrashed
	}
	if restarted {
		s.tell(event.MemberRestarted, subject, m.Name+" was restarted", facts...)
	}
	now.State = m.State
	if answers := m.State != topology.Suspect && m.State != topology.Unreachable && m.State != topology.Down; answers {
		now.Gone = false
	}
	now.Joined = old.Joined || m.State == topology.Online
	s.numbers(m, old, &now)
	s.now.Members[m.Name] = now
}

// turns says which events the way from one state to another is. quorum is the
// group's: without it nobody can be expelled.
func turns(old ToldMember, m topology.Member, restarted bool, quorum topology.Quorum) []event.Kind {
	var out []event.Kind
	wasIn := old.State == topology.Online || old.State == topology.Recovering || silentIn(old.State)
	// The process is gone: its host says so, and its group did not let it go.
	if silentIn(m.State) && m.Failure == topology.Refused && !old.Gone {
		out = append(out, event.MemberCrashed)
	}
	if old.State == m.State {
		return out
	}
	switch m.State {
	case topology.Online:
		switch {
		case silentIn(old.State):
			out = append(out, event.MemberRecovered)
		case old.Joined:
			out = append(out, event.MemberRejoined)
		default:
			out = append(out, event.MemberJoined)
		}
	case topology.Recovering:
		out = append(out, event.MemberJoining)
	case topology.Suspect:
		if len(out) == 0 && old.State != topology.Unreachable {
			out = append(out, event.MemberSuspect)
		}
	case topology.Unreachable:
		out = append(out, event.MemberUnreachable)
	case topology.Isolated:
		out = append(out, event.MemberIsolated)
	case topology.Error:
		out = append(out, event.MemberError)
	case topology.Offline:
		switch {
		case old.State == topology.Down, silentIn(old.State), wasIn && restarted:
			out = append(out, event.MemberStarted)
		case wasIn:
			out = append(out, event.MemberLeft)
		}
	case topology.Down:
		switch {
		case silentIn(old.State) && quorum == topology.HasQuorum && (old.State == topology.Unreachable || m.Failure != topology.Refused):
			out = append(out, event.MemberExpelled)
		case wasIn && quorum != topology.HasQuorum && m.Failure != topology.Refused:
			out = append(out, event.MemberSuspect)
		case wasIn && quorum != topology.HasQuorum && !old.Gone:
			out = append(out, event.MemberCrashed)
		case !old.Gone || quorum == topology.HasQuorum:
			// Its group let it go without suspecting it first: it said goodbye.
			out = append(out, event.MemberStopped)
		}
	case topology.Unknown:
		if m.Failure == topology.Denied {
			out = append(out, event.MemberDenied)
		}
	}
	return out
}

// silentIn are the states of a server that does not answer and is listed.
func silentIn(s topology.State) bool { return s == topology.Suspect || s == topology.Unreachable }

func sentence(kind event.Kind, m topology.Member) string {
	text := map[event.Kind]string{
		event.MemberStarted:     "answers again",
		event.MemberStopped:     "was shut down or went away while no group counted on it",
		event.MemberCrashed:     "went away while its group counted on it",
		event.MemberSuspect:     "does not answer",
		event.MemberUnreachable: "cannot be reached by the other members",
		event.MemberRecovered:   "answers again and never left its group",
		event.MemberExpelled:    "was expelled by its group",
		event.MemberIsolated:    "is alone: the majority does not list it",
		event.MemberLeft:        "left its group",
		event.MemberError:       "gave up",
		event.MemberDenied:      "does not let us in",
		event.MemberJoining:     "joined and fetches what it missed",
		event.MemberJoined:      "is ONLINE for the first time",
		event.MemberRejoined:    "is ONLINE again",
	}[kind]
	if m.Why == "" {
		return m.Name + " " + text
	}
	return m.Name + " " + text + ": " + m.Why
}

// numbers tells what changed about a member besides its state.
func (s *story) numbers(m topology.Member, old ToldMember, now *ToldMember) {
	subject := "member/" + m.Name
	if m.Report != nil && m.Failure == topology.Answers {
		if old.Version != "" && old.Version != m.Report.Version {
			s.tell(event.MemberUpgraded, subject, fmt.Sprintf("%s runs %s now, it was %s", m.Name, m.Report.Version, old.Version),
				"was", old.Version, "is", m.Report.Version)
		}
		now.Version = m.Report.Version
	}
	if m.State != topology.Online {
		now.Writable, now.Lagging, now.Throttles = false, false, false
		return
	}
	if s.view.Quorum == topology.HasQuorum {
		secondary := s.view.Mode == topology.SinglePrimary && m.Role == topology.Secondary
		switch {
		case m.Writable && !old.Writable:
			s.tell(event.MemberWritable, subject, m.Name+" accepts writes")
		case !m.Writable && old.Writable && !secondary:
			s.tell(event.MemberReadOnly, subject, m.Name+" accepts no writes any more", "why", m.Why)
		}
		now.Writable = m.Writable
	}
	if m.Report == nil {
		return
	}
	lag := m.Report.Lag
	switch {
	case !old.Lagging && lag >= s.lim.Lag:
		now.Lagging = true
		s.tell(event.MemberLagging, subject, fmt.Sprintf("%s is %s behind", m.Name, lag.Round(time.Second)), "lag_seconds", fmt.Sprintf("%.1f", lag.Seconds()))
	case old.Lagging && lag < s.lim.Lag/2:
		now.Lagging = false
		s.tell(event.MemberCaughtUp, subject, m.Name+" has caught up")
	}
	queue := m.Report.Queue
	switch {
	case !old.Throttles && queue >= s.lim.Queue:
		now.Throttles = true
		s.tell(event.MemberFlowControl, subject, fmt.Sprintf("%s has %d transactions waiting: flow control slows the group down", m.Name, queue), "queue", fmt.Sprint(queue))
	case old.Throttles && queue < s.lim.Queue/2:
		now.Throttles = false
		s.tell(event.MemberFlowFree, subject, m.Name+" does not slow the group down any more", "queue", fmt.Sprint(queue))
	}
}

// group tells what changed about the group as a whole.
func (s *story) group() {
	v, was := s.view, s.was
	online := fmt.Sprint(len(v.In(topology.Online)))
	facts := []string{"was", string(was.Quorum), "is", string(v.Quorum), "online", online, "members", fmt.Sprint(len(v.Members)), "tolerates", fmt.Sprint(v.Tolerates())}
	if was.Quorum != v.Quorum {
		none := was.Quorum == topology.NoGroup || was.Quorum == ""
		switch {
		case v.Quorum == topology.HasQuorum && none:
			s.tell(event.GroupBootstrapped, "group", "the group runs with "+online+" members", facts...)
		case v.Quorum == topology.HasQuorum:
			s.tell(event.GroupQuorumRegained, "group", "the group can commit again, with "+online+" members", facts...)
		case v.Quorum == topology.LostQuorum:
			s.tell(event.GroupQuorumLost, "group", "the group lost its majority: writes block", facts...)
		case v.Quorum == topology.Unsure:
			s.tell(event.GroupQuorumUnsure, "group", "too few members answer to tell whether the group can write", facts...)
		case !none:
			s.tell(event.GroupGone, "group", "no member is in a group any more", facts...)
		}
		s.now.Quorum = v.Quorum
	}
	if v.Mode == "" {
		return
	}
	if was.Mode != "" && was.Mode != v.Mode {
		s.tell(event.GroupModeSwitched, "group", "the group is "+string(v.Mode)+" now", "was", string(was.Mode), "is", string(v.Mode))
	}
	s.now.Mode = v.Mode
	primary := ""
	for _, m := range v.In(topology.Online) {
		if v.Mode == topology.SinglePrimary && m.Role == topology.Primary {
			primary = m.Name
		}
	}
	if primary != "" && was.Primary != "" && was.Primary != primary {
		s.tell(event.GroupPrimaryChanged, "group", primary+" is the primary now, it was "+was.Primary, "was", was.Primary, "is", primary)
	}
	if primary != "" || v.Mode == topology.MultiPrimary {
		s.now.Primary = primary
	}
}

// problems tells which problems came and went.
func (s *story) problems() {
	s.now.Problems = map[string]ToldProblem{}
	for _, p := range s.view.Problems {
		key := p.Kind + " " + strings.Join(p.Members, " ")
		s.now.Problems[key] = ToldProblem{Kind: p.Kind, Members: p.Members, Text: p.Text}
		if _, told := s.was.Problems[key]; told {
			continue
		}
		facts := []string{"problem", p.Kind, "members", strings.Join(p.Members, ",")}
		switch p.Kind {
		case topology.Errant:
			s.tell(event.MemberDiverged, "member/"+p.Members[0], p.Text, facts...)
		case topology.TwoGroups:
			s.tell(event.GroupTwoGroups, "group", p.Text, facts...)
		default:
			s.tell(event.GroupProblem, "group", p.Text, facts...)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.was.Problems)) {
		p := s.was.Problems[key]
		if _, still := s.now.Problems[key]; still {
			continue
		}
		if p.Kind != topology.Errant {
			s.tell(event.GroupSolved, "group", "it is over: "+p.Text, "problem", p.Kind, "members", strings.Join(p.Members, ","))
			continue
		}
		m, there := s.view.Member(p.Members[0])
		switch {
		case !there:
		case m.State == topology.Online:
			s.tell(event.MemberReconciled, "member/"+m.Name, m.Name+" has nothing any more that its group lacks")
		default: // nobody can tell while it does not answer
			s.now.Problems[key] = p
		}
	}
}

var inQuotes = regexp.MustCompile(`'([0-9a-fA-F-]{36}(?::[a-z_][a-z0-9_]*)?:[0-9]+)'`)

// poison finds a transaction at which several members gave up.
func (s *story) poison() {
	at := map[string][]string{}
	for _, m := range s.view.In(topology.Error, topology.Offline) {
		if m.Report == nil {
			continue
		}
		if t := inQuotes.FindStringSubmatch(m.Report.LastError); t != nil {
			at[t[1]] = append(at[t[1]], m.Name)
		}
	}
	s.now.Poison = ""
	for _, id := range slices.Sorted(maps.Keys(at)) {
		if len(at[id]) < 2 {
			continue
		}
		s.now.Poison = id
		if s.was.Poison != id {
			s.tell(event.GroupPoison, "group", fmt.Sprintf("%s gave up at the same transaction, %s: every member that applies it will stop", strings.Join(at[id], " and "), id),
				"transaction", id, "members", strings.Join(at[id], ","))
		}
		return
	}
}
