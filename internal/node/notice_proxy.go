package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/route"
)

// Every node tells of its own proxy, whoever leads: nobody else knows. What it
// tells is not kept anywhere before it is published: a node that is killed says
// nothing about its proxy, and its death is told by another (node.silent).

const (
	proxyLook = 2 * time.Second
	// movedPause is the least time between two events about sessions that moved:
	// a drain moves thousands, one after the other.
	movedPause = 10 * time.Second
)

// proxyEvent is one about this node's proxy.
func (n *Node) proxyEvent(kind event.Kind, text string) event.Event {
	return event.New(kind, "proxy/"+n.file.Node.Name, "the proxy of "+n.file.Node.Name+" "+text)
}

// serveProxy runs the proxy and tells when it begins to leave.
func (n *Node) serveProxy(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		n.publisher().Publish(n.proxyEvent(event.ProxyDraining, "takes no new sessions and lets those it has finish"))
	})()
	return n.proxy.Run(ctx)
}

// tellProxy tells what happens to this node's proxy until ctx ends, which is
// after the proxy has ended.
func (n *Node) tellProxy(ctx context.Context) error {
	if n.proxy == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	counts := prometheus.NewRegistry()
	counts.MustRegister(n.proxy)
	tick := time.NewTicker(proxyLook)
	defer tick.Stop()
	n.publisher().Publish(n.proxyEvent(event.ProxyStarted, "accepts clients"))
	defer func() { // made then, not now: it has a time
		n.publisher().Publish(n.proxyEvent(event.ProxyStopped, "accepts no clients any more: its node was told to stop"))
	}()
	var t proxyTold
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case now := <-tick.C:
			for _, e := range t.look(now, n.proxy.Health(route.Read), sessionsMoved(counts)) {
				n.publisher().Publish(n.proxyEvent(e.kind, e.text))
			}
		}
	}
}

// sessionsMoved counts since the proxy began.
func sessionsMoved(from prometheus.Gatherer) (c moved) {
	all, err := from.Gather()
	if err != nil {
		return c
	}
	for _, f := range all {
		if len(f.GetMetric()) != 1 {
			continue
		}
		switch v := f.GetMetric()[0].GetCounter().GetValue(); f.GetName() {
		case "perdure_proxy_moves_total":
			c.moves = int(v)
		case "perdure_proxy_losses_total":
			c.losses = int(v)
		}
	}
	return c
}

// moved are sessions that went to another member, and those whose member went
// away from under them.
type moved struct{ moves, losses int }

// proxyTold is what was told of a proxy.
type proxyTold struct {
	bad   int // looks in a row without a member for clients
	moved moved
	at    time.Time // when moves were told last
}

type proxyNews struct {
	kind event.Kind
	text string
}

// look says what is new. Nobody may be served for as long as an election takes,
// and before the first View.
func (t *proxyTold) look(now time.Time, health error, c moved) (news []proxyNews) {
	const patience = 3 // looks
	if health == nil {
		if t.bad >= patience {
			news = append(news, proxyNews{event.ProxyStarted, "knows a member to send clients to again"})
		}
		t.bad = 0
	} else if t.bad++; t.bad == patience {
		news = append(news, proxyNews{event.ProxyRefusing, "knows no member to send clients to: " + health.Error()})
	}
	m, l := c.moves-t.moved.moves, c.losses-t.moved.losses
	if m+l <= 0 || now.Sub(t.at) < movedPause {
		return news
	}
	t.moved, t.at = c, now
	var what []string
	if m > 0 {
		what = append(what, fmt.Sprintf("moved sessions to another member %d times", m))
	}
	if l > 0 {
		what = append(what, fmt.Sprintf("lost %d server connections under its sessions", l))
	}
	return append(news, proxyNews{event.ProxyMoved, strings.Join(what, ", and ")})
}
