package route

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/perdure/perdure/internal/topology"
)

// ErrNoMember means a name is not one of the configured members.
var ErrNoMember = errors.New("no such member")

// Table holds the plan in force.
type Table struct {
	plan atomic.Pointer[Plan]
	turn atomic.Uint32

	mu       sync.Mutex
	view     topology.View
	want     wishes
	holds    int
	funnels  int
	seats    map[string]*Seat
	watchers []func(*Plan)
}

// New makes a table that knows no member yet.
func New() *Table {
	t := &Table{seats: map[string]*Seat{}, want: wishes{drains: map[string]bool{}}}
	t.plan.Store(&Plan{changed: make(chan struct{}), turn: &t.turn})
	return t
}

// Plan is the plan in force. It is never nil.
func (t *Table) Plan() *Plan { return t.plan.Load() }

// OnChange has f called with every new plan, one after the other. f must not
// call the table.
func (t *Table) OnChange(f func(*Plan)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watchers = append(t.watchers, f)
}

// SetView takes a newer View. An older one than the last is ignored.
func (t *Table) SetView(v topology.View) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v.Number < t.view.Number {
		return
	}
	t.view = v
	t.remake()
}

// SetWriters changes the writer policy.
func (t *Table) SetWriters(p Policy) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.Prefer != "" && len(t.view.Members) > 0 {
		if _, ok := t.view.Member(p.Prefer); !ok {
			return fmt.Errorf("pin writes to %s: %w", p.Prefer, ErrNoMember)
		}
	}
	t.want.policy = p
	t.remake()
	return nil
}

// Writers is the writer policy in force.
func (t *Table) Writers() Policy {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.want.policy
}

// Drain takes a member out of the plan until Undrain.
func (t *Table) Drain(member string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.view.Member(member); !ok {
		return fmt.Errorf("drain %s: %w", member, ErrNoMember)
	}
	t.want.drains[member] = true
	t.remake()
	return nil
}

// Undrain puts a member back.
func (t *Table) Undrain(member string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.want.drains[member] {
		delete(t.want.drains, member)
		t.remake()
	}
}

// Drains are the members drained now, by name.
func (t *Table) Drains() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Sorted(maps.Keys(t.want.drains))
}

// Hold keeps everything new waiting until release is called. Holds add up.
func (t *Table) Hold() (release func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holds++
	t.want.hold = true
	t.remake()
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.holds--
		t.want.hold = t.holds > 0
		t.remake()
	})
}

// Funnel sends all writes to one member until release is called. Only one member
// can be the funnel at a time; asking for another one fails.
func (t *Table) Funnel(member string) (release func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.funnels > 0 && t.want.funnel != member {
		return nil, fmt.Errorf("all writes already go to %s", t.want.funnel)
	}
	t.funnels++
	if t.want.funnel != member {
		t.want.funnel = member
		t.remake()
	}
	return sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.funnels--; t.funnels == 0 {
			t.want.funnel = ""
			t.remake()
		}
	}), nil
}

// remake puts a new plan in force if it says something new.
func (t *Table) remake() {
	old := t.plan.Load()
	t.want.behind = behind(t.want.behind, &t.view)
	members, schema, spread := decide(&t.view, t.want, t.seat)
	p := &Plan{
		Number: old.Number + 1, Members: members, Schema: schema, Spread: spread, Funnel: t.want.funnel, Holding: t.want.hold,
		changed: make(chan struct{}), turn: &t.turn,
	}
	if same(old, p) {
		return
	}
	t.plan.Store(p)
	close(old.changed)
	for _, f := range t.watchers {
		f(p)
	}
}

func (t *Table) seat(name string) *Seat {
	s := t.seats[name]
	if s == nil {
		s = &Seat{}
		t.seats[name] = s
	}
	return s
}

// same tells whether two plans would treat every session alike. Lag and queue
// move all the time; they count in steps that Pick can feel.
func same(a, b *Plan) bool {
	return a.Holding == b.Holding && a.Schema == b.Schema && a.Spread == b.Spread && a.Funnel == b.Funnel &&
		slices.EqualFunc(a.Members, b.Members, func(x, y *Member) bool {
			u, v := *x, *y
			u.Lag, v.Lag = u.Lag/lagStep, v.Lag/lagStep
			u.Queue, v.Queue = 0, 0
			return u == v
		})
}
