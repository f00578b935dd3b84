package node_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/config"
	"github.com/perdure/perdure/internal/node"
	"github.com/perdure/perdure/internal/plan"
)

// Two of three nodes are lost for good, with their disks. The one that is left
// refuses to go on alone while something speaks against it; then it does, with
// everything it had, and two new ones join it.
func TestANodeGoesOnAloneAfterTwoOfThreeWereLostForGood(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts five nodes")
	}
	t.Parallel()
	h := bare(t)
	h.nodesWhole(40 * time.Second)
	left := h.nodes[2] // it did not begin the cluster
	h.eventually(60*time.Second, "every stream has three copies", func() error {
		for _, s := range h.nodes {
			if b, err := os.ReadFile(s.file + ".log"); err == nil && strings.Contains(string(b), "copies=3") && strings.Contains(string(b), "every stream has its copies") {
				return nil
			}
		}
		return errors.New("nobody says so")
	})
	var made []string
	for i := range 20 {
		name := fmt.Sprintf("token-%d", i)
		if _, err := h.nodes[i%3].MakeToken(t.Context(), api.Token{Name: name, Role: "viewer"}); err != nil {
			t.Fatal(err)
		}
		made = append(made, name)
	}
	newest := len(h.audited(left))
	alone := func(lost ...string) (node.Left, error) {
		f, err := config.Load(left.file)
		if err != nil {
			t.Fatal(err)
		}
		return node.Alone(t.Context(), f, lost, "root on this host", slog.New(slog.NewTextHandler(t.Output(), nil)))
	}
	if _, err := alone("node1", "node2"); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("while it runs: %v", err)
	}
	left.kill()
	_, err := alone("node1", "node2")
	refusedHere(t, err, "node1 and node2 can be reached")
	for _, s := range h.nodes[:2] {
		s.kill()
		if err := os.RemoveAll(s.data); err != nil {
			t.Fatal(err)
		}
	}
	found, err := alone()
	refusedHere(t, err, "loses what only the others had")
	if len(found.Others) != 2 || found.Control.Newest == 0 || len(found.Streams) == 0 {
		t.Errorf("it found %+v", found)
	}
	_, err = alone("node1")
	refusedHere(t, err, "the other nodes are node1 and node2, not node1")

	// Nothing was changed: it still has no majority.
	h.run(left)
	h.up(left)
	if all, err := left.Nodes(t.Context()); err != nil || all.Quorum || len(all.Nodes) != 3 {
		t.Errorf("%+v, %v", all, err)
	}
	left.kill()

	began := time.Now()
	if _, err := alone("node2", "node1"); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	h.run(left)
	h.up(left)
	acts := h.eventually(30*time.Second, "it acts, and has all settings", func() error {
		if who, err := h.acting(nil); err != nil || who != left {
			return fmt.Errorf("%v acts, %w", who, err)
		}
		tokens, err := left.Tokens(t.Context())
		for _, name := range made {
			if err == nil && !slices.ContainsFunc(tokens, func(t api.Token) bool { return t.Name == name }) {
				err = fmt.Errorf("%s is not there", name)
			}
		}
		return err
	})
	entries := h.audited(left)
	i := slices.IndexFunc(entries, func(e api.AuditEntry) bool { return e.Did == "node alone" })
	if len(entries) <= newest || i < 0 || entries[i].Who != "root on this host" || entries[i].On != "node1 node2" {
		t.Errorf("the audit log has %d entries, %d before: %+v", len(entries), newest, entries)
	}
	if v, err := left.VerifyAudit(t.Context()); err != nil || v.Problem != "" {
		t.Errorf("the audit log: %v, %s", err, v.Problem)
	}
	h.eventually(30*time.Second, "what happened before is told still", func() error {
		events, err := left.Events(t.Context(), []string{"node.joined"}, nil, 100)
		if err == nil && len(events) < 2 {
			err = fmt.Errorf("%d events", len(events))
		}
		return err
	})
	if _, err := alone("node1"); err == nil {
		t.Error("it goes on alone while it runs")
	}
	for range 2 {
		h.join(h.add(), "")
	}
	whole := h.nodesWhole(60 * time.Second)
	t.Logf("alone after %s, acts %s after its start, with two new ones whole %s after the last", took.Round(time.Millisecond), acts.Round(time.Millisecond), whole.Round(time.Millisecond))
	victim := h.actor()
	victim.kill()
	h.eventually(20*time.Second, "another acts", func() error { _, err := h.acting(victim); return err })
}

// refusedHere is refused by a safety rule, without a node that answers.
func refusedHere(t *testing.T, err error, want string) {
	t.Helper()
	if r, ok := errors.AsType[*plan.RefusedError](err); !ok || !strings.Contains(r.Error(), want) {
		t.Errorf("not refused with %q: %v", want, err)
	}
}

func (h *three) audited(s *serving) []api.AuditEntry {
	h.t.Helper()
	all, err := s.Audit(h.t.Context(), 1000)
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}
