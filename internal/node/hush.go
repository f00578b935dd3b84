package node

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/internal/topology"
)

// A member that is lost goes on taking its turns in the group's agreement until
// it is expelled, which the group begins to think of after five seconds. Each
// turn has to be passed over by the others. That takes a quarter of a second at
// first, and the patience the group has with a turn grows with how long its own
// messages took lately: under many writers it grows to many seconds, and the
// message that expels the member stands in the same line. Measured with 32
// writers: nothing commits any more, and the member is out after 26 s to more
// than 45 s, whatever the expel timeout. Without new writes the group stays quick and
// the member is out after 7 to 8 s. So a proxy hushes its clients meanwhile:
// their writes wait, and none is lost.
const (
	// hushMost bounds how long clients wait: less than the proxy lets a request
	// wait for a member, so that none is told of an error.
	hushMost = 9 * time.Second
	// goneFor is how long nobody listens at a member's address before that counts.
	goneFor = 100 * time.Millisecond
	// A member that is merely silent for so long, one question and a half, counts
	// as lost when so many requests on the other members are stuck, each for so
	// long, and hardly one is answered. If it answers again it was a stall, and
	// clients go on.
	silentFor  = 600 * time.Millisecond
	stuckLeast = 8
	stuckFor   = 200 * time.Millisecond
	// hushLook is how often one looks while a member is away, hushRest while none is.
	hushLook = 50 * time.Millisecond
	hushRest = time.Second
)

// hushed is for whom clients wait, and since when. A member is waited for once,
// until it was seen whole again: a loss that is none must not stop writes for
// good.
type hushed struct {
	member string
	since  time.Time
	spent  map[string]bool
}

// hush decides for which member clients wait now, "" for none. stuck is how many
// requests to other members are stuck. It reads nothing but its arguments, and
// notes in h.spent whom clients have waited for.
func hush(v *topology.View, stuck func(but string) int, h *hushed, now time.Time) string {
	for _, m := range v.Members {
		if m.State == topology.Online && !away(m, now) {
			delete(h.spent, m.Name)
		}
	}
	if h.member != "" {
		m, known := v.Member(h.member)
		counted := known && away(m, now) && countedOn(v, m.UUID)
		if counted && now.Sub(h.since) < hushMost {
			return h.member
		}
		h.spent[h.member] = true
	}
	if v.Quorum != topology.HasQuorum {
		return ""
	}
	for _, m := range v.Members {
		if h.spent[m.Name] || !away(m, now) || !countedOn(v, m.UUID) {
			continue
		}
		refused := m.Failure == topology.Refused && now.Sub(m.Since) >= goneFor
		silent := m.Failure != topology.Refused && (m.State == topology.Online || m.State == topology.Suspect || m.State == topology.Unreachable)
		if refused || silent && stuck(m.Name) >= stuckLeast {
			return m.Name
		}
	}
	return ""
}

// away tells that a member does not speak for itself as one of the group, though
// it may be too early to call it anything but ONLINE.
func away(m topology.Member, now time.Time) bool {
	switch m.State {
	case topology.Online:
		return now.Sub(m.Heard) >= silentFor
	case topology.Recovering:
		return false
	}
	return true
}

// rests is how long a View that does not change lets everybody rest: until a
// member that is not heard of meanwhile counts as away.
func rests(v *topology.View, h *hushed, now time.Time) time.Duration {
	next := hushRest
	for _, m := range v.Members {
		if h.member != "" || away(m, now) {
			return hushLook
		}
		if m.State == topology.Online {
			next = min(next, silentFor-now.Sub(m.Heard))
		}
	}
	return max(next, hushLook)
}

// countedOn tells whether a member of the group still counts on that server.
func countedOn(v *topology.View, uuid string) bool {
	return topology.Listed(v.In(topology.Online), uuid)
}

// followHush makes this node's clients wait while the group gets rid of a lost
// member. Every node does so for its own clients, by what it sees itself; and
// only where healing hastens the expulsion, else they would wait in vain.
func (n *Node) followHush(ctx context.Context) error {
	if !n.group.Heal || n.proxy == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	var paused atomic.Bool
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all.Go(func() {
		for p := range n.group.WatchPause(ctx) {
			paused.Store(!p.Since.IsZero())
		}
	})
	changes, end := n.watch.Changes()
	defer end()
	look := time.NewTimer(0)
	defer look.Stop()
	h := hushed{spent: map[string]bool{}}
	release := func() {}
	defer func() { release() }()
	for {
		now, v := time.Now(), n.watch.View()
		who := ""
		if !paused.Load() {
			who = hush(v, n.stuck, &h, now)
		}
		if who != h.member {
			release()
			release = func() {}
			if waited := now.Sub(h.since); h.member != "" {
				level := slog.LevelDebug // a stall: nobody needs to read of it
				if waited >= time.Second {
					level = slog.LevelInfo
				}
				n.log.Log(ctx, level, "clients waited while the group got rid of a member", "member", h.member, "waited", waited.Round(time.Millisecond))
			}
			if who != "" {
				release = n.table.Hold()
			}
			h.member, h.since = who, now
		}
		look.Reset(rests(v, &h, now))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changes:
		case <-look.C:
		}
	}
}

// stuck counts the requests that wait for long for an answer of members but one.
// On a machine that is merely busy some are answered all the time, and it is
// none.
func (n *Node) stuck(but string) int {
	if n.proxy == nil {
		return 0
	}
	busy, count := 0, 0
	for _, s := range n.proxy.Sessions() {
		if s.State != "busy" || s.Member == but || s.Member == "" {
			continue
		}
		busy++
		if s.For >= stuckFor {
			count++
		}
	}
	if 4*count < 3*busy {
		return 0
	}
	return count
}
