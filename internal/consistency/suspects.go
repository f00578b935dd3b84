package consistency

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/pause"
)

// suspect is a row that was not the same on all members.
type suspect struct {
	key key
	*sighting
	// seen is what each member, by name, had at some look. Once all have one
	// value in common the row is no suspect: it was on its way.
	seen map[string][]string
}

// sighting is when and where suspects were found.
type sighting struct {
	at   time.Time
	from key    // the audit goes on from there if it is interrupted
	rows uint64 // counted up to there
	// goal is what any member had begun by then. What differs before all have
	// executed that tells nothing.
	goal    gtid.Set
	reached bool // all had executed it before the last look
}

const (
	// lookPause is how long after a look the next one is, at least.
	lookPause = 300 * time.Millisecond
	// lateMost is how long a member may be late before it is believed that it does
	// not come: there may be errant transactions by now.
	lateMost = 30 * time.Second
	// mostWaiting is how many suspects the audit takes along before it waits.
	mostWaiting = 5000
	// againAtOnce is how many suspects one statement looks at.
	againAtOnce = 200
)

// maxSeen bounds what is remembered of a row that changes at every look.
const maxSeen = 32

// maxUndecided is how many rows of a table that change all the time are worth
// the seconds that the tries to prove something about them take.
const maxUndecided = 10

// none is what a member has where the row is not.
const none = ""

// see notes what the members have, and tells whether they agree now or had one
// value in common.
func (c *suspect) see(members []*session, value func(i int) string) (agreed bool) {
	for i, m := range members {
		v := value(i)
		if known := c.seen[m.Name]; !slices.Contains(known, v) {
			if len(known) == maxSeen {
				known = known[1:]
			}
			c.seen[m.Name] = append(known, v)
		}
	}
	for _, v := range c.seen[members[0].Name] {
		all := true
		for _, m := range members[1:] {
			all = all && slices.Contains(c.seen[m.Name], v)
		}
		if all {
			return true
		}
	}
	return false
}

// moved tells whether every member showed the row with more than one value.
func (c *suspect) moved() bool {
	for _, known := range c.seen {
		if len(known) < 2 {
			return false
		}
	}
	return true
}

// suspect takes rows along, to be looked at again.
func (s *scan) suspect(ctx context.Context, found []*suspect) error {
	if len(found) == 0 {
		return nil
	}
	begun := each(ctx, s.sessions, func(ctx context.Context, m *session) (gtid.Set, error) { return m.begun(ctx) })
	if err := firstError(begun); err != nil {
		return err
	}
	at := &sighting{at: time.Now(), from: s.to, rows: s.counted, goal: union(begun)}
	for _, c := range found {
		c.sighting = at
	}
	if s.cfg.Patience < time.Millisecond { // none at all: a test of the proof
		return s.decide(ctx, found)
	}
	if len(s.waiting) == 0 {
		s.looked = time.Now()
	}
	s.waiting = append(s.waiting, found...)
	for len(s.waiting) > mostWaiting && !s.full {
		if err := s.lookNext(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settle keeps from where the audit would go on after an interruption: the slice
// of the oldest suspect, for what others are is not kept.
func (s *scan) settle() {
	s.at.Key, s.at.Ahead = s.to, 0
	if len(s.waiting) > 0 {
		first := s.waiting[0].sighting
		s.at.Key, s.at.Ahead = first.from, s.counted-first.rows
	}
}

// lookSoon looks at the suspects again if it is time.
func (s *scan) lookSoon(ctx context.Context) error {
	if len(s.waiting) == 0 || time.Since(s.looked) < lookPause {
		return nil
	}
	return s.lookAgain(ctx)
}

// lookNext waits for the time of the next look.
func (s *scan) lookNext(ctx context.Context) error {
	if err := pause.For(ctx, lookPause-time.Since(s.looked)); err != nil {
		return err
	}
	s.tell(false)
	return s.lookAgain(ctx)
}

// lookToTheEnd looks until nothing is suspected any more.
func (s *scan) lookToTheEnd(ctx context.Context) error {
	for len(s.waiting) > 0 && !s.full {
		if err := s.lookNext(ctx); err != nil {
			return err
		}
		if err := s.keep(ctx); err != nil {
			return err
		}
	}
	s.waiting = nil
	s.settle()
	return nil
}

// lookAgain looks at all suspects once more. Those that were the same somewhere
// are none any more; those that stayed different although every member has
// executed all that was begun when they were found, and for as long as Patience
// says, are decided upon.
func (s *scan) lookAgain(ctx context.Context) error {
	defer func() { s.looked = time.Now() }()
	if err := s.reach(ctx); err != nil {
		return err
	}
	s.report.Again += len(s.waiting)
	began := time.Now()
	left, err := s.again(ctx, s.waiting)
	if err != nil {
		return err
	}
	// A read of few rows is mostly waiting, see cost.
	worked := min(time.Since(began), time.Duration(1+len(s.waiting)/againAtOnce)*5*time.Millisecond)
	var ripe []*suspect
	s.waiting = s.waiting[:0:0]
	for _, c := range left {
		age := time.Since(c.at)
		if c.reached && age >= s.cfg.Patience || age >= max(lateMost, s.cfg.Patience) {
			ripe = append(ripe, c)
		} else {
			s.waiting = append(s.waiting, c)
		}
	}
	s.settle()
	if err := s.decide(ctx, ripe); err != nil {
		return err
	}
	return s.rest(ctx, worked)
}

// reach finds out which sightings all members are past.
func (s *scan) reach(ctx context.Context) error {
	executed := each(ctx, s.sessions, func(ctx context.Context, m *session) (gtid.Set, error) { return m.executed(ctx) })
	if err := firstError(executed); err != nil {
		return err
	}
	sets := make([]gtid.Set, len(executed))
	for i, a := range executed {
		sets[i] = a.said
	}
	s.pass(sets)
	return nil
}

// pass notes the sightings that all members are past, who executed these sets.
func (s *scan) pass(executed []gtid.Set) {
	everywhere := executed[0]
	for _, set := range executed[1:] {
		everywhere = everywhere.Intersect(set)
	}
	everywhere = everywhere.Union(s.errant.all())
	var last *sighting
	for _, c := range s.waiting {
		if c.sighting != last && !c.reached {
			c.reached = everywhere.Contains(c.goal)
		}
		last = c.sighting
	}
}

// decide proves the difference of what stayed different.
func (s *scan) decide(ctx context.Context, suspects []*suspect) error {
	late := slices.ContainsFunc(suspects, func(c *suspect) bool { return !c.reached }) && s.cfg.Patience >= time.Millisecond
	if late && time.Since(s.sought) > lateMost { // or what it waits for will never come
		if err := s.gtids(ctx); err != nil {
			return err
		}
		s.sought = time.Now()
	}
	for _, c := range suspects {
		if s.full {
			break
		}
		if c.moved() && (s.heals || s.undecided >= maxUndecided) {
			s.report.Moving++
			continue
		}
		if late && s.undecided >= maxUndecided {
			s.report.remark(Remark{
				Kind: Incomplete, Subject: s.table.String(),
				Text: fmt.Sprintf("more rows of %s could not be decided: a member is too late; compare the table again when it has caught up", s.table),
			})
			break
		}
		if err := s.judge(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// again reads suspicious rows on all members, and returns those that still
// have nothing in common.
func (s *scan) again(ctx context.Context, suspects []*suspect) ([]*suspect, error) {
	var left []*suspect
	for some := range slices.Chunk(suspects, againAtOnce) {
		var or []string
		for _, c := range some {
			or = append(or, "("+s.condition(c.key)+")")
		}
		ask := fmt.Sprintf("SELECT %s%s, %s%s WHERE %s", hint, s.keyExprs(), s.hash, s.from(), strings.Join(or, " OR "))
		keys := map[string]key{}
		answers := s.hashes(ctx, ask, keys)
		if err := firstError(answers); err != nil {
			return nil, err
		}
		ids := map[string]string{}
		for id, k := range keys {
			ids[strings.Join(k, "\x00")] = id
		}
		for _, c := range some {
			id, anywhere := ids[strings.Join(c.key, "\x00")]
			if !c.see(s.sessions, func(i int) string {
				if !anywhere {
					return none
				}
				return answers[i].said[id]
			}) {
				left = append(left, c)
			}
		}
	}
	return left, nil
}
