package node_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysqltest"
)

// bare are three nodes without servers: what is shown is their own affair.
func bare(t *testing.T) *three {
	t.Helper()
	h := newThree(t, nil)
	for i, name := range []string{"m1", "m2", "m3"} {
		h.spec[name] = api.Member{Name: name, Address: fmt.Sprintf("127.0.0.1:%d", 20001+i), GroupAddress: fmt.Sprintf("127.0.0.1:%d", 21001+i)}
	}
	first := h.add()
	h.run(first)
	h.up(first)
	h.join(h.add(), "")
	h.join(h.add(), "")
	return h
}

// The acting node is killed again and again (PERDURE_SOAK times); another acts
// within five seconds, and never two at once. Settings made through the others
// meanwhile are there afterwards.
func TestTheActingNodeIsKilledAndAnotherActs(t *testing.T) {
	if testing.Short() {
		t.Skip("it kills nodes again and again")
	}
	t.Parallel()
	rounds := 1
	if n, err := strconv.Atoi(os.Getenv("PERDURE_SOAK")); err == nil {
		rounds = n
	}
	h := bare(t)
	h.nodesWhole(40 * time.Second)
	var took, back []time.Duration
	for round := range rounds {
		victim := h.actor()
		time.Sleep(time.Duration(round*173%700) * time.Millisecond) // at any moment between two renewals
		fair := mysqltest.StartFair()
		victim.kill()
		took = append(took, h.eventually(20*time.Second, "another acts", func() error {
			if who := h.claimants(); len(who) != 1 {
				return fmt.Errorf("%v act", who)
			}
			return nil
		}))
		if fair.Of(took[round]) > 5*time.Second {
			t.Errorf("round %d: another node acted only after %s", round, took[round])
		}
		name := fmt.Sprintf("round-%d", round)
		if _, err := h.any().MakeToken(t.Context(), api.Token{Name: name, Role: "viewer"}); err != nil {
			t.Errorf("round %d: a setting through another node: %v", round, err)
		}
		h.run(victim)
		h.up(victim)
		back = append(back, h.nodesWhole(60*time.Second))
		if who := h.rivals(); len(who) > 1 {
			t.Errorf("%v act at once", who)
		}
		tokens, err := victim.Tokens(t.Context())
		if err != nil || !slices.ContainsFunc(tokens, func(t api.Token) bool { return t.Name == name }) {
			t.Errorf("round %d: the node that came back does not know the setting: %v", round, err)
		}
	}
	slices.Sort(took)
	slices.Sort(back)
	t.Logf("killed %d times: another acted after %s in the middle, %s at the latest; the killed one was whole again %s after it answered, at the latest",
		rounds, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), back[len(back)-1].Round(time.Millisecond))
	h.nothingTwice()
}

// rivals are the nodes that say twice that they act. They are asked one after
// the other, so a lease that moves between two answers looks like two at once.
func (h *three) rivals() []string {
	who := h.claimants()
	if len(who) < 2 {
		return nil
	}
	again := h.claimants()
	return slices.DeleteFunc(who, func(name string) bool { return !slices.Contains(again, name) })
}

// claimants are the running nodes that say themselves that they act.
func (h *three) claimants() (out []string) {
	for _, s := range h.nodes {
		if !s.runs() {
			continue
		}
		all, err := s.Nodes(h.t.Context())
		if err != nil {
			continue
		}
		for _, n := range all.Nodes {
			if n.Name == s.name && n.Acts {
				out = append(out, s.name)
			}
		}
	}
	return out
}
