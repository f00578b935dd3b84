package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/auditlog"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/rule"
	"github.com/perdure/perdure/internal/trace"
)

// tellLife tells of this node: that it runs, that it leads, that it stops; and,
// while it leads, of the pause of the automation.
func (n *Node) tellLife(ctx context.Context) error {
	me := "node/" + n.file.Node.Name
	n.publisher().Publish(event.New(event.NodeStarted, me, n.file.Node.Name+" runs"))
	defer func() { // made then, not now: it has a time
		n.publisher().Publish(event.New(event.NodeStopping, me, n.file.Node.Name+" was told to stop"))
	}()
	for {
		held, term, err := n.lease.Hold(ctx)
		if err != nil {
			return err
		}
		e := event.New(event.NodeLeads, me, n.file.Node.Name+" took over: it acts from now on")
		e.ID = event.IDOf("leads", n.file.Cluster, fmt.Sprint(term.Epoch))
		n.publisher().Publish(e.With("epoch", fmt.Sprint(term.Epoch)))
		n.tellPause(held)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// tellPause tells when the automation is paused and goes on, until ctx ends. A
// pause that was on before this node led was told by whoever led then.
func (n *Node) tellPause(ctx context.Context) {
	began := time.Now()
	var since time.Time
	for p := range n.group.WatchPause(ctx) {
		if p.Since.Equal(since) {
			continue
		}
		if !p.Since.IsZero() && p.Since.After(began.Add(-3*time.Second)) {
			e := event.New(event.ClusterPaused, "cluster", strings.TrimSuffix(p.By+" paused the automation: "+p.Why, ": "))
			e.ID = event.IDOf("paused", n.file.Cluster, p.Since.String())
			n.publisher().Publish(e.With("who", p.By).With("why", p.Why))
		}
		if p.Since.IsZero() {
			e := event.New(event.ClusterResumed, "cluster", "the automation acts again")
			e.ID = event.IDOf("resumed", n.file.Cluster, since.String())
			n.publisher().Publish(e)
		}
		since = p.Since
	}
}

// tellDropped tells how many events were lost, once their store takes events
// again: before that nobody would hear of it.
func (n *Node) tellDropped(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	told := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		s := n.notice.events.Spooled()
		if s.Dropped <= told || s.Waiting > 0 {
			continue
		}
		e := event.New(event.EventsDropped, "events", fmt.Sprintf("%d events of %s were lost: their store did not take them in time", s.Dropped-told, n.file.Node.Name))
		n.publisher().Publish(e.With("dropped", fmt.Sprint(s.Dropped-told)))
		told = s.Dropped
	}
}

// settingsParts are the parts of the API that change how things are set, rather
// than do something.
var settingsParts = []string{"/v1/tokens", "/v1/apply", "/v1/group", "/v1/proxy/writers", "/v1/silences"}

// tellAudit tells of an entry of the audit log, which has it whatever becomes
// of the event.
func (n *Node) tellAudit(e auditlog.Entry) {
	kind := event.AuditAction
	_, path, isRequest := strings.Cut(e.Did, " ")
	switch {
	case e.Result == "401" || e.Result == "403":
		kind = event.AuditLogin
	case isRequest:
		for _, p := range settingsParts {
			if path == p || (p != "/v1/group" && strings.HasPrefix(path, p+"/")) {
				kind = event.AuditSettings
			}
		}
	}
	text := fmt.Sprintf("%s from %s: %s: %s", e.Who, e.From, strings.TrimSpace(e.Did+" "+e.On), e.Result)
	out := event.New(kind, "audit", text)
	out.ID = event.IDOf("audit", n.file.Cluster, fmt.Sprint(e.Number))
	n.publisher().Publish(out.With("number", fmt.Sprint(e.Number)).With("who", e.Who).With("did", e.Did).With("result", e.Result).With("hash", e.Hash))
}

// traced makes a span of every attempt.
type traced struct {
	rule.Target
	trace *trace.Tracer
	name  string
}

// Attempt implements rule.Target.
func (t traced) Attempt(ctx context.Context, id string, attempt int, e event.Event) (string, error) {
	ctx, end := t.trace.Attempt(ctx, t.name, string(e.Kind), e.ID, attempt)
	receipt, err := t.Target.Attempt(ctx, id, attempt, e)
	end(err)
	return receipt, err
}
