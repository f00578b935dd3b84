package jet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Linked lists the servers that this node's embedded server knows to be in its
// cluster, by name, and whether each answers. It is nil for a server alone.
func (s *Server) Linked() []Link {
	if s.embedded == nil || s.cfg.Cluster == nil {
		return nil
	}
	z, err := s.embedded.Jsz(&server.JSzOptions{})
	if err != nil || z.Meta == nil {
		return nil
	}
	out := []Link{{Name: s.cfg.Name, Answers: true, Current: true}}
	for _, p := range z.Meta.Replicas {
		out = append(out, Link{Name: p.Name, Answers: !p.Offline, Current: p.Current, Silent: p.Active})
	}
	slices.SortFunc(out, func(a, b Link) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Link is one server of a cluster as this node sees it. Only the server that
// leads the cluster sees all of them well.
type Link struct {
	Name    string
	Answers bool
	Current bool          // it has what the cluster has decided
	Silent  time.Duration // since it was heard
}

// Copies brings every stream to so many copies, as far as there are servers for
// them, and says whether each of them is there and up to date.
func (s *Server) Copies(ctx context.Context, want int) (whole bool, err error) {
	js, err := s.api()
	if err != nil {
		return false, err
	}
	// The infos leave a stream out whose leader does not answer.
	silent, err := streamNames(ctx, js)
	whole = true
	all := js.ListStreams(ctx)
	for info := range all.Info() {
		cfg := info.Config
		silent = slices.DeleteFunc(silent, func(name string) bool { return name == cfg.Name })
		if cfg.Replicas == want {
			whole = whole && complete(info, want)
			continue
		}
		whole = false
		err = errors.Join(err, s.keep(ctx, js, cfg, want))
	}
	return whole && len(silent) == 0, errors.Join(err, all.Err())
}

// keep tells the cluster how many copies of a stream there are to be.
func (s *Server) keep(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig, copies int) error {
	cfg.Replicas = copies
	if _, err := js.UpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("keep %d copies of the stream %s: %w", copies, cfg.Name, err)
	}
	s.log.Info("copies of a stream", "stream", cfg.Name, "copies", copies)
	return nil
}

// streamNames are the streams that the cluster knows of, whoever answers for them.
func streamNames(ctx context.Context, js jetstream.JetStream) (out []string, err error) {
	all := js.StreamNames(ctx)
	for name := range all.Name() {
		out = append(out, name)
	}
	return out, all.Err()
}

// complete tells whether a stream has its copies, all up to date. While the
// cluster is still on its way to them, one that is up to date may be no member of
// the stream yet: it has all that is in it, and could not go on without the others.
func complete(info *jetstream.StreamInfo, want int) bool {
	if info.Cluster == nil {
		return want == 1
	}
	if info.Cluster.Leader == "" || info.Cluster.Desired != nil || len(info.Cluster.Replicas)+1 < want {
		return false
	}
	return !slices.ContainsFunc(info.Cluster.Replicas, func(p *jetstream.PeerInfo) bool { return p.Offline || !p.Current })
}

// Unlink takes a server out of the cluster for good; it should be dead or about
// to stop. What it held a copy of is copied to another server, if there is one.
// A server that is not in the cluster is no error.
func (s *Server) Unlink(ctx context.Context, name string) error {
	if s.embedded == nil || s.cfg.Cluster == nil {
		return nil
	}
	nc, err := s.connect(1)
	if err != nil {
		return err
	}
	defer nc.Close()
	body, err := json.Marshal(map[string]string{"peer": name, "peer_id": serverID(name)})
	if err != nil {
		return err
	}
	m, err := nc.RequestWithContext(ctx, "$JS.API.SERVER.REMOVE", body)
	if err != nil {
		if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, context.DeadlineExceeded) {
			err = errors.New("the cluster of streams has no leader")
		}
		return fmt.Errorf("remove %s from the cluster of streams: %w", name, err)
	}
	var answer struct {
		Error *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return err
	}
	const noSuchServer = 10044
	if answer.Error != nil && answer.Error.Code != noSuchServer {
		return fmt.Errorf("remove %s from the cluster of streams: %s (%d)", name, answer.Error.Description, answer.Error.Code)
	}
	return nil
}
