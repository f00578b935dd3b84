package consistency

import (
	"context"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/pause"
)

// holdLimit is how long one proof may hold a row or a table's definition. A
// local writer of that row waits for so long at most.
const holdLimit = time.Second

// reading is what one member has of a thing: nil if it is not there.
type reading []string

func (a reading) equal(b reading) bool {
	if (a == nil) != (b == nil) || len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// thing is what a proof is about.
type thing struct {
	// read reads what a member has.
	read func(context.Context, *session) (reading, error)
	// hold reads it too, and keeps it from being changed on that member until
	// the transaction it is called in ends. It may be called again in there.
	hold func(context.Context, *session) (reading, error)
}

// verdict of a proof.
type verdict int

const (
	unsure  verdict = iota // something came between
	same                   // the members have, or had, the same
	differs                // they have diverged
)

// prove tries once to prove that the members differ in a thing. See the page
// of the package for why it may be believed. The readings are in the order of
// the sessions.
func (r *run) prove(ctx context.Context, th thing) (verdict, []reading, error) {
	r.report.Proofs++
	// First without holding anything: then the waits below are short.
	if ok, err := r.align(ctx, 2*holdLimit); !ok {
		return unsure, nil, err
	}
	found := each(ctx, r.sessions, th.read)
	if err := firstError(found); err != nil {
		return unsure, nil, err
	}
	holder := -1
	allEqual := true
	for i, a := range found {
		if a.said != nil && holder < 0 {
			holder = i
		}
		allEqual = allEqual && a.said.equal(found[0].said)
	}
	if allEqual {
		return same, nil, nil
	}
	values, ok, err := r.held(ctx, th, holder)
	if !ok || err != nil {
		return unsure, nil, err
	}
	for _, v := range values {
		if !v.equal(values[0]) {
			return differs, values, nil
		}
	}
	return same, nil, nil
}

// held is the part of a proof in which one member holds the thing. It tells
// whether every step succeeded.
func (r *run) held(ctx context.Context, th thing, holder int) (values []reading, ok bool, err error) {
	// Longer than the sum of the servers' own limits below. Whoever does not
	// answer in that time has its connection closed, which ends the hold.
	ctx, cancel := context.WithTimeoutCause(ctx, 3*holdLimit, errSilent)
	defer cancel()
	h := r.sessions[holder]
	epoch, until := h.epoch, time.Now().Add(holdLimit)
	// Not READ ONLY: the group's applier would wait for us instead of breaking
	// our lock.
	if err := h.exec(ctx, "START TRANSACTION"); err != nil {
		return nil, false, err
	}
	defer func() {
		if !ok && h.conn != nil && h.epoch == epoch {
			if e := h.exec(context.WithoutCancel(ctx), "ROLLBACK"); e != nil {
				h.drop()
			}
		}
	}()
	first, err := th.hold(ctx, h)
	if first == nil || err != nil {
		return nil, false, soften(err)
	}
	begun, err := h.begun(ctx)
	if err != nil {
		return nil, false, err
	}

	values = make([]reading, len(r.sessions))
	values[holder] = first
	others, index := make([]*session, 0, len(r.sessions)), make([]int, 0, len(r.sessions))
	for i, s := range r.sessions {
		if i != holder {
			others, index = append(others, s), append(index, i)
		}
	}
	goal := begun.Subtract(r.errant.all())
	seen := each(ctx, others, func(ctx context.Context, s *session) (after, error) { return readAfter(ctx, s, th, goal, until) })
	back := gtid.Set{}
	for i, a := range seen {
		if a.err != nil || !a.said.reached {
			return nil, false, soften(a.err)
		}
		values[index[i]] = a.said.value
		back = back.Union(a.said.begun)
	}

	reached, err := h.reaches(ctx, back.Subtract(r.errant.all()), time.Until(until))
	if err != nil || !reached {
		return nil, false, err
	}
	again, err := th.hold(ctx, h)
	if err != nil {
		return nil, false, soften(err)
	}
	if err := h.exec(ctx, "COMMIT"); err != nil {
		return nil, false, soften(err)
	}
	if h.epoch != epoch {
		return nil, false, nil // it was another session, which held nothing
	}
	return values, again.equal(first), nil
}

// after is what a member has once it executed a set.
type after struct {
	value   reading
	begun   gtid.Set // all its snapshot saw, and maybe more
	reached bool
}

func readAfter(ctx context.Context, s *session, th thing, goal gtid.Set, until time.Time) (after, error) {
	reached, err := s.reaches(ctx, goal, time.Until(until))
	if err != nil || !reached {
		return after{}, err
	}
	a := after{reached: true}
	if a.value, err = th.read(ctx, s); err != nil {
		return after{}, err
	}
	a.begun, err = s.begun(ctx)
	return a, err
}

// soften takes what only says that somebody else was at the thing for no error:
// the proof did not succeed, and may the next time.
func soften(err error) error {
	if busy(err) || slow(err) || changed(err) {
		return nil
	}
	return err
}

// proveSoon tries to prove it some times. A member that cannot be asked makes
// it unsure; only the end of ctx is an error.
func (r *run) proveSoon(ctx context.Context, th thing) (verdict, []reading, error) {
	const tries = 6
	for try := range tries {
		v, values, err := r.prove(ctx, th)
		if v != unsure {
			return v, values, nil
		}
		if err != nil {
			r.cfg.Log.Debug("a proof was interrupted", "audit", r.report.ID, "err", err)
		}
		if err := pause.For(ctx, time.Duration(try+1)*100*time.Millisecond); err != nil {
			return unsure, nil, err
		}
	}
	return unsure, nil, nil
}

// values tells who has what: names for the values, the same for the same, and
// who differs from the majority.
func (r *run) values(readings []reading) (members map[string]string, odd []string) {
	members = map[string]string{}
	count := map[string]int{}
	for i, v := range readings {
		label := "absent"
		if v != nil {
			label = "version " + string(rune('A'+classOf(readings, i)))
		}
		members[r.sessions[i].Name] = label
		count[label]++
	}
	for label, n := range count {
		if 2*n <= len(readings) {
			continue
		}
		for i := range readings {
			if one := r.sessions[i].Name; members[one] != label {
				odd = append(odd, one)
			}
		}
	}
	return members, odd
}

// classOf numbers the different values in the order in which they come.
func classOf(readings []reading, i int) int {
	n := 0
	for j := range i {
		if readings[j].equal(readings[i]) {
			return classOf(readings, j)
		}
		if readings[j] != nil && classFirst(readings, j) {
			n++
		}
	}
	return n
}

// classFirst tells whether nobody before has the value of j.
func classFirst(readings []reading, j int) bool {
	for i := range j {
		if readings[i].equal(readings[j]) {
			return false
		}
	}
	return true
}

// oddly says in words who stands alone.
func oddly(odd []string) string {
	switch len(odd) {
	case 0:
		return "no majority agrees"
	case 1:
		return odd[0] + " differs from the others"
	}
	return fmt.Sprintf("%v differ from the majority", odd)
}
