package node

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/perdure/perdure/internal/envelope"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/queue"
	"github.com/perdure/perdure/internal/route"
	"github.com/perdure/perdure/internal/run"
)

// openStreams opens JetStream, which holds the write queue.
func (n *Node) openStreams(ctx context.Context) error {
	c := n.file.Streams
	cfg := jet.Config{Name: n.file.Node.Name, Dir: filepath.Join(n.file.Node.Data, "streams")}
	switch {
	case len(c.URLs) > 0:
		cfg.External = &jet.External{URLs: c.URLs, Credentials: c.Creds}
	case n.nodes.managed:
		k, err := n.nodes.links()
		if err != nil {
			return err
		}
		cfg.Cluster = k
	case len(c.Peers) > 0:
		secret, err := n.file.Secret(c.Secret)
		if err != nil {
			return err
		}
		mutual, err := mutualTLS(n.nodes.files)
		if err != nil {
			return err
		}
		cfg.Cluster = &jet.Cluster{Name: n.file.Cluster, Listen: c.Listen, Peers: c.Peers, Secret: secret, TLS: mutual}
	}
	var err error
	n.streams, err = jet.Open(ctx, cfg, n.log.With("part", "streams"))
	return err
}

// openQueue opens the write queue, if the file asks for one.
func (n *Node) openQueue(ctx context.Context) error {
	c := n.file.Queue
	if c == nil {
		return nil
	}
	password, err := n.file.Secret(c.Password)
	if err != nil {
		return err
	}
	keys, err := envelope.LoadOrCreate(cmp.Or(c.Keys, filepath.Join(n.file.Node.Data, "queue.keys")))
	if err != nil {
		return err
	}
	ops, err := queue.NewOperations(c.Operations)
	if err != nil {
		return err
	}
	var rules *queue.Ruleset
	if c.RuleSet == "full" {
		if rules, err = queue.NewRuleset(); err != nil {
			return err
		}
	}
	replicas := n.file.Streams.Replicas
	if replicas == 0 && len(n.file.Streams.Peers) > 0 {
		replicas = 3
	}
	log := n.streams.LateLog(jet.LogConfig{Name: "writes", Replicas: replicas, MaxBytes: c.MaxBytes}, n.log.With("part", "queue"))
	now, _ := n.control.Status(ctx)         // if it does not answer, it is not known to be full
	if len(n.peerList()) < 2 && !now.Full { // one of several does not wait for the others
		limited, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("the log does not open within 30 s"))
		defer cancel()
		if err := log.Open(limited); err != nil {
			return fmt.Errorf("open the write queue's log: %w", err)
		}
	}
	n.writes = log
	n.targets = &targets{table: n.table, login: mysql.Login{User: c.User, Password: password, TLS: n.login.TLS}, open: map[string]*sql.DB{}}
	n.queue, err = queue.New(queue.Config{
		Log: log, Seal: keys, Operations: ops, Rules: rules, Window: time.Duration(c.Window), Route: n.targets,
		Flights: max(1, replicas), // a replicated log gains from more than one frame on its way
		Apply:   queue.ApplierConfig{Partitions: c.Partitions, Park: c.Park, Keep: time.Duration(c.Keep), Notice: n.tellOfQueue()},
		Store:   n.control,
		Logger:  n.log.With("part", "queue"),
	})
	return err
}

// tellOfQueue makes events of what people should hear of. Dead letters come in
// crowds when a table is gone: one event a second tells of all of them.
func (n *Node) tellOfQueue() func(queue.Notice) {
	often, more := rate.NewLimiter(1, 20), atomic.Int64{}
	return func(q queue.Notice) {
		var e event.Event
		switch q.Kind {
		case "dead":
			if !often.Allow() {
				more.Add(1)
				return
			}
			e = event.New(event.QueueDead, "queue", "write "+q.Write.String()+" was given up: "+q.Detail).With("write", q.Write.String()).With("key", q.Key)
			if untold := more.Swap(0); untold > 0 {
				e = e.With("untold", strconv.FormatInt(untold, 10))
			}
		case "halted", "lost":
			e = event.New(event.QueueStopped, "queue", "writes are accepted and none is applied: "+q.Detail)
		case "paused":
			e = event.New(event.QueueStopped, "queue", "writes are accepted and none is applied: "+q.Detail)
			e.Severity = event.Info // on purpose
		case "resumed":
			e = event.New(event.QueueResumed, "queue", q.Detail)
		case "id-reused":
			n.log.Warn("two different writes came under one id; the second was left out", "write", q.Write, "key", q.Key, "detail", q.Detail)
			return
		default: // a key that waits, an applier that was replaced: metrics and log say so
			return
		}
		n.publisher().Publish(e)
	}
}

// applyWrites runs the applier while this node holds the lease.
func (n *Node) applyWrites(ctx context.Context) error {
	for {
		held, term, err := n.lease.Hold(ctx)
		if err != nil {
			return err
		}
		if err = n.queue.Agree(held, term.Fence()); err == nil {
			err = n.queue.Applier.Run(held, term.Epoch)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n.log.Warn("writes are not applied by this node any more", "epoch", term.Epoch, "err", err)
		select { // a lasting trouble must not spin
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// queueing are the parts of the write queue.
func (n *Node) queueing() []run.Part {
	if n.queue == nil {
		return nil
	}
	return []run.Part{{Name: "writes", Run: n.writes.Run}, {Name: "queue", Run: n.queue.Run}, {Name: "applier", Run: n.applyWrites}}
}

// targets says to which member queued writes go: the same for all partitions,
// and the same as long as it takes writes. Two members at once would certify
// against each other, and a write could miss the one before it.
type targets struct {
	table *route.Table
	login mysql.Login

	mu   sync.Mutex
	last string
	open map[string]*sql.DB // by member
}

// Writer implements queue.Route.
func (t *targets) Writer(context.Context) (queue.Target, error) {
	p := t.table.Plan()
	t.mu.Lock()
	defer t.mu.Unlock()
	m := p.Member(t.last)
	if m == nil || !m.Serves(route.Write) {
		m = nil
		for _, o := range p.Members { // by name: every node would choose the same
			if o.Serves(route.Write) {
				m = o
				break
			}
		}
	}
	if m == nil {
		return queue.Target{}, errors.New("no member takes writes")
	}
	if t.open[m.Name] == nil {
		l := t.login
		l.Address = m.Address
		if l.TLS != nil {
			host, _, err := net.SplitHostPort(m.Address)
			if err != nil {
				return queue.Target{}, err
			}
			l.TLS = l.TLS.Clone()
			l.TLS.ServerName = host
		}
		db, err := queue.OpenTarget(l)
		if err != nil {
			return queue.Target{}, err
		}
		t.open[m.Name] = db
	}
	t.last = m.Name
	return queue.Target{Member: m.Name, DB: t.open[m.Name]}, nil
}

func (t *targets) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, db := range t.open {
		_ = db.Close()
	}
}
