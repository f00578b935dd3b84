package queue_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/queue"
	"github.com/perdure/perdure/internal/state"
)

func problemKind(err error) string {
	if p, ok := errors.AsType[*queue.Problem](err); ok {
		return p.Kind
	}
	return fmt.Sprint(err)
}

// What one node is told holds for all of them, and for those that start later.
func TestAPausedQueueStaysPausedOnAllNodesAndOverRestarts(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	store := state.NewMemory()
	r := newRig(t, p, func(c *queue.Config) { c.Store = store })
	r.run(true)
	r.put(chainWrite("k", "before"))
	if err := r.svc.Pause(t.Context(), boss); err != nil {
		t.Fatal(err)
	}
	if st, err := r.svc.Status(t.Context()); err != nil || st.Paused != "boss" {
		t.Fatal(st, err)
	}
	id := r.submit(chainWrite("k", "after"))[0].ID
	r.stop() // the node dies

	var other *queue.Service
	for range 2 { // two more start, one after the other
		r.stop()
		var err error
		if other, err = queue.New(r.cfg); err != nil {
			t.Fatal(err)
		}
		r.svc = other
		r.run(true)
		eventually(t, 5*time.Second, "it knows that it is paused", func() bool { st, _ := other.Status(t.Context()); return st.Paused == "boss" })
		time.Sleep(300 * time.Millisecond) // long enough to apply, if it would
		if n := p.one(t, "SELECT COUNT(*) FROM q.effects"); n != "1" {
			t.Fatal("a paused queue applied:", n)
		}
	}
	if err := other.Resume(t.Context(), boss); err != nil {
		t.Fatal(err)
	}
	if got := r.settled(id); got.State != queue.Applied {
		t.Fatal(got)
	}

	// A halt is for a person to end, not for a restart.
	other.Applier.Halt("something odd")
	eventually(t, 5*time.Second, "the halt is written down", func() bool { st, _ := other.Status(t.Context()); return st.Halted == "something odd" })
	r.stop()
	var err error
	if r.svc, err = queue.New(r.cfg); err != nil {
		t.Fatal(err)
	}
	r.run(true)
	id = r.submit(chainWrite("k", "third"))[0].ID
	time.Sleep(300 * time.Millisecond)
	if n := p.one(t, "SELECT COUNT(*) FROM q.effects"); n != "2" {
		t.Fatal("a halted queue applied:", n)
	}
	if err := r.svc.Resume(t.Context(), boss); err != nil {
		t.Fatal(err)
	}
	if got := r.settled(id); got.State != queue.Applied {
		t.Fatal(got)
	}
}

// A log that was removed is noticed, and nothing is applied from the new one
// until somebody accepts the loss by its name.
func TestALostLogIsNoticedAndItsLossAcceptedByName(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	store := state.NewMemory()
	notices := make(chan queue.Notice, 100)
	with := func(c *queue.Config) {
		c.Store = store
		c.Apply.Notice = func(n queue.Notice) { notices <- n }
		c.Apply.RetryFirst, c.Apply.RetryMost = time.Hour, time.Hour
	}
	old := newRig(t, p, with)
	if err := old.svc.Agree(t.Context(), state.Fence{}); err != nil {
		t.Fatal(err)
	}
	old.run(true)
	old.put(chainWrite("k", "one"))
	held := old.submit(sqlWrite("bad", "INSERT INTO q.child VALUES (1, 1)"))[0].ID
	behind := old.submit(sqlWrite("bad", "INSERT INTO q.parent VALUES (1)"))[0].ID
	eventually(t, 20*time.Second, "both are set aside", func() bool { return p.one(t, "SELECT COUNT(*) FROM perdure.queue_held") == "2" })
	old.stop()
	st, err := old.svc.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lost := st.Log.Generation
	err = old.svc.AcceptLoss(t.Context(), boss, lost)
	if problemKind(err) != "nothing-lost" {
		t.Fatal("a log that is there can be given up:", err)
	}

	r := newRig(t, p, with) // another directory: the log is gone
	r.run(false)
	agreed := make(chan error, 1)
	go func() { agreed <- r.svc.Agree(t.Context(), state.Fence{}) }()
	for n := range notices {
		if n.Kind == "lost" {
			break
		}
	}
	eventually(t, 5*time.Second, "status says so", func() bool { st, _ := r.svc.Status(t.Context()); return st.Lost == lost })
	id := r.submit(chainWrite("k", "two"))[0].ID // accepted all the same
	for _, wrong := range []string{"", "0000000000000001"} {
		if err := r.svc.AcceptLoss(t.Context(), boss, wrong); problemKind(err) != "name-the-loss" {
			t.Fatalf("%q was taken for %s: %v", wrong, lost, err)
		}
	}
	if err := r.svc.AcceptLoss(t.Context(), queue.Caller{Name: "somebody"}, lost); problemKind(err) != "not-allowed" {
		t.Fatal(err)
	}
	select {
	case err := <-agreed:
		t.Fatal("it agreed to a loss nobody accepted:", err)
	default:
	}
	if err := r.svc.AcceptLoss(t.Context(), boss, lost); err != nil {
		t.Fatal(err)
	}
	if err := <-agreed; err != nil {
		t.Fatal(err)
	}
	r.startApplier(0)
	if got := r.settled(id); got.State != queue.Applied {
		t.Fatal(got)
	}
	for _, w := range []queue.ID{held, behind} {
		if got := r.settled(w); got.State != queue.Dead {
			t.Fatal("what waited from the lost log is no dead letter:", got)
		}
	}
	if err := r.svc.Retry(t.Context(), boss, behind, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "it is applied", func() bool { return p.one(t, "SELECT COUNT(*) FROM q.parent") == "1" })
}
