package jet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// A majority of a cluster of streams is lost for good. What is left has its
// streams and may decide nothing. The server has a way out for exactly that: a
// server without a leader is told to be content with its own vote for a while,
// becomes the leader, and takes the lost ones out. Every stream then does so too,
// accepts all that is in its log, and is brought down to the one copy there is.

// Held is what a server holds of one stream.
type Held struct {
	Stream   string    `json:"stream"`
	Messages uint64    `json:"messages"`
	Last     uint64    `json:"last"` // sequence of the newest
	At       time.Time `json:"at"`   // when that came
}

// Holds says what the streams in dir hold. Nobody may run there.
func Holds(ctx context.Context, cfg Config, log *slog.Logger) ([]Held, error) {
	s, err := lone(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.held()
}

// Alone makes the server of cfg the only one of its cluster. lost are the names
// of all the others. Nobody may run in cfg.Dir. cfg.Cluster needs its Name, its
// Secret and a TLS that holds on 127.0.0.1: nothing leaves this host. It may be
// called again after an error.
func Alone(ctx context.Context, cfg Config, lost []string, log *slog.Logger) error {
	if err := alone(ctx, cfg, lost, log); err != nil {
		return fmt.Errorf("go on with the streams of %s alone: %w", cfg.Name, err)
	}
	return nil
}

func alone(ctx context.Context, cfg Config, lost []string, log *slog.Logger) error {
	half, err := aloneOnce(ctx, cfg, lost, log)
	if err != nil || len(half) == 0 {
		return err
	}
	// What is in such a log and was never accepted goes aside with it. The stream
	// itself stays, and its log begins anew.
	aside, err := os.MkdirTemp(cfg.Dir, "aside-")
	if err != nil {
		return err
	}
	log.Error("this node was about to become a member of streams when the others were lost; their logs begin anew", "groups", half, "kept", aside)
	for _, group := range half {
		if err := os.Rename(groupDir(cfg.Dir, group), filepath.Join(aside, group)); err != nil {
			return err
		}
	}
	half, err = aloneOnce(ctx, cfg, lost, log)
	if err == nil && len(half) > 0 {
		err = fmt.Errorf("%s have no leader, and a new log did not help", strings.Join(half, ", "))
	}
	return err
}

// aloneOnce returns the raft groups that can never have a leader as they are: the
// last entry that this server has of them makes it a member, and nobody is left
// to say that it was accepted. Until then it may not lead.
func aloneOnce(ctx context.Context, cfg Config, lost []string, log *slog.Logger) (half []string, err error) {
	s, err := lone(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := patiently(ctx, "one vote is enough", s.rescue); err != nil {
		return nil, err
	}
	if err := patiently(ctx, "it knows what was decided", func(context.Context) error { return s.leads(systemAccount, metaGroup) }); err != nil {
		return nil, err
	}
	var missing []string
	err = patiently(ctx, "every stream is here", func(ctx context.Context) (err error) {
		missing, err = s.missing(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("this node has no copy of the streams %s: go on with another node that is left", strings.Join(missing, ", "))
	}
	for _, name := range lost {
		if err := patiently(ctx, "take "+name+" out", func(ctx context.Context) error { return s.Unlink(ctx, name) }); err != nil {
			return nil, err
		}
	}
	waits := map[string]time.Time{}
	err = patiently(ctx, "every stream has accepted what is here", func(context.Context) error {
		if half = s.half(waits); len(half) > 0 {
			return nil
		}
		return s.leadsAll()
	})
	if err != nil || len(half) > 0 {
		return half, err
	}
	if err := patiently(ctx, "one copy of every stream", s.onlyCopies); err != nil {
		return nil, err
	}
	return nil, patiently(ctx, "only one is left", func(context.Context) error {
		if all := s.Linked(); len(all) != 1 {
			return fmt.Errorf("there are %d", len(all))
		}
		return nil
	})
}

// rescue makes this server lead a cluster that has lost its majority.
func (s *Server) rescue(ctx context.Context) error {
	z, err := s.embedded.Jsz(&server.JSzOptions{})
	if err != nil || z.Meta == nil {
		return errors.Join(errors.New("there is no cluster yet"), err)
	}
	if z.Meta.Leader == s.cfg.Name {
		return nil
	}
	nc, err := s.connect(1)
	if err != nil {
		return err
	}
	defer nc.Close()
	m, err := nc.RequestWithContext(ctx, server.JSApiMetaRescue, []byte(`{"quorum_needed":1}`))
	if err != nil {
		return err
	}
	var answer server.JSApiMetaRescueResponse
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return errors.New(answer.Error.Description)
	}
	return errors.New("it does not lead yet")
}

// lone starts a server that nobody from outside comes to.
func lone(ctx context.Context, cfg Config, log *slog.Logger) (*Server, error) {
	k := *cfg.Cluster
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	k.Listen = net.JoinHostPort("127.0.0.1", port)
	k.Peers, k.Found = []string{k.Listen}, false
	cfg.Cluster, cfg.beside = &k, true
	return Open(ctx, cfg, log)
}

func freePort(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = ln.Close() }()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}

// patiently asks again and again until ctx ends.
func patiently(ctx context.Context, what string, ok func(context.Context) error) error {
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := ok(try)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, errors.Join(err, context.Cause(ctx)))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// streamAccount is the one that all streams are in.
const streamAccount = server.DEFAULT_GLOBAL_ACCOUNT

// groups are the raft groups of an account that this server takes part in, or the
// one of a name. There is none of the system's before a cluster has begun.
func (s *Server) groups(account, name string) map[string]server.RaftzGroup {
	z := s.embedded.Raftz(&server.RaftzOptions{AccountFilter: account, GroupFilter: name})
	if z == nil {
		return nil
	}
	return (*z)[account]
}

// leads tells whether this server leads a raft group of an account, or all it
// takes part in if name is empty, and has applied all that is in their logs.
func (s *Server) leads(account, name string) error {
	all := s.groups(account, name)
	if name != "" && len(all) == 0 {
		return errors.New("there is no cluster yet")
	}
	for name, g := range all {
		if g.State != "LEADER" || g.Committed < g.PIndex || g.Applied < g.Committed {
			return fmt.Errorf("%s is %s of %d, %d of %d entries are accepted and %d applied", name, strings.ToLower(g.State), g.Size, g.Committed, g.PIndex, g.Applied)
		}
	}
	return nil
}

// halfFor is longer than any group of one needs to elect itself, which is nine
// seconds at most.
const halfFor = 20 * time.Second

// half are the groups that have been so for halfFor: nobody but this server is in
// them, all that is known to be accepted is applied, and it does not stand for
// election. waits remembers since when.
func (s *Server) half(waits map[string]time.Time) (out []string) {
	for name, g := range s.groups(streamAccount, "") {
		if g.Size != 1 || g.State != "FOLLOWER" || g.EverHadLeader || g.Applied < g.Committed || g.PIndex <= g.Committed {
			delete(waits, name)
			continue
		}
		if _, known := waits[name]; !known {
			waits[name] = time.Now()
		}
		if time.Since(waits[name]) > halfFor {
			out = append(out, name)
		}
	}
	return out
}

// leadsAll tells whether this server leads the cluster and every stream it has. A
// stream whose raft group has not begun yet is not led.
func (s *Server) leadsAll() error {
	all, err := s.here()
	if err != nil {
		return err
	}
	for _, st := range all {
		if st.Cluster == nil || st.Cluster.Leader != s.cfg.Name {
			return fmt.Errorf("the stream %s has no leader yet", st.Name)
		}
	}
	return errors.Join(s.leads(systemAccount, metaGroup), s.leads(streamAccount, ""))
}

// onlyCopies brings every stream that is here down to the copy that is here. It
// asks this server itself: a list of streams from the cluster waits seconds for
// each that has no leader, and leaves it out.
func (s *Server) onlyCopies(ctx context.Context) error {
	js, err := s.api()
	if err != nil {
		return err
	}
	all, err := s.here()
	if err != nil {
		return err
	}
	var wait []error
	for _, st := range all {
		c := st.Cluster
		switch {
		case st.Config.Replicas != 1:
			var cfg jetstream.StreamConfig
			if err := again(st.Config, &cfg); err != nil {
				return err
			}
			if err := s.keep(ctx, js, cfg, 1); err != nil {
				return err
			}
			wait = append(wait, fmt.Errorf("%s was told just now", st.Name))
		case c == nil || c.Leader != s.cfg.Name:
			wait = append(wait, fmt.Errorf("%s has no leader", st.Name))
		case len(c.Replicas) > 0 || c.Desired != nil:
			why := "has not left the others yet"
			if c.Desired != nil && c.Desired.Status != nil {
				why = c.Desired.Status.Description
			}
			wait = append(wait, fmt.Errorf("%s: %s", st.Name, why))
		}
	}
	return errors.Join(wait...)
}

// again turns what a server says into what a client understands: they are the
// same JSON.
func again(from, to any) error {
	b, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}

// missing are the streams that this server has no copy of.
func (s *Server) missing(ctx context.Context) ([]string, error) {
	js, err := s.api()
	if err != nil {
		return nil, err
	}
	mine, err := s.here()
	if err != nil {
		return nil, err
	}
	all, err := streamNames(ctx, js)
	return slices.DeleteFunc(all, func(name string) bool {
		return slices.ContainsFunc(mine, func(st server.StreamDetail) bool { return st.Name == name })
	}), err
}

// held is what this server has, whoever leads.
func (s *Server) held() ([]Held, error) {
	all, err := s.here()
	var out []Held
	for _, st := range all {
		out = append(out, Held{Stream: st.Name, Messages: st.State.Msgs, Last: st.State.LastSeq, At: st.State.LastTime})
	}
	return out, err
}

// here are the streams that this server has a copy of, by name.
func (s *Server) here() ([]server.StreamDetail, error) {
	z, err := s.embedded.Jsz(&server.JSzOptions{Accounts: true, Streams: true, Config: true})
	if err != nil {
		return nil, err
	}
	var out []server.StreamDetail
	for _, a := range z.AccountDetails {
		out = append(out, a.Streams...)
	}
	slices.SortFunc(out, func(a, b server.StreamDetail) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}
