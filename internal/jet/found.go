package jet

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/perdure/perdure/internal/durable"
)

// JetStream begins a cluster with two servers at least, and keeps the streams
// of a server alone in another way than those of a cluster. We want a node that
// begins alone and others that come later, without moving anything. So the
// first node writes the list of its cluster's servers itself, with one server
// in it, and tells the cluster about the streams it has.

const systemAccount = "$SYS"

// metaGroup is the raft group that decides which streams there are, and where.
const metaGroup = "_meta_"

// groupDir is where the log of a raft group is.
func groupDir(dir, group string) string {
	return filepath.Join(dir, "jetstream", systemAccount, "_js_", group)
}

// peersFile is where the cluster keeps the list of its servers.
func peersFile(dir string) string { return filepath.Join(groupDir(dir, metaGroup), "peers.idx") }

// found makes name the only server of a new cluster in dir, unless dir belongs
// to a cluster already, and returns the configurations of the streams that dir
// has from the time before. They stay without a place in the cluster until
// adopt has run, and the cluster removes such streams half a minute after it
// has begun: so the list of servers is written last, and read again until every
// stream was adopted.
func found(dir, name string) ([]json.RawMessage, error) {
	pending := filepath.Join(dir, "adopt.json")
	switch b, err := os.ReadFile(pending); {
	case err == nil:
		var all []json.RawMessage
		return all, json.Unmarshal(b, &all)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if _, err := os.Stat(peersFile(dir)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all, err := streamsIn(dir)
	if err != nil {
		return nil, err
	}
	if len(all) > 0 {
		b, err := json.Marshal(all)
		if err == nil {
			err = durable.Replace(pending, b)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Dir(peersFile(dir)), 0o700); err != nil {
		return nil, err
	}
	id := serverID(name)
	list := binary.LittleEndian.AppendUint32(nil, 1) // servers expected
	list = binary.LittleEndian.AppendUint32(list, 1) // servers known
	list = append(list, id...)
	return all, durable.Replace(peersFile(dir), binary.LittleEndian.AppendUint16(list, 0))
}

// companion starts a second server, without a store, that is linked to the first
// one and to nobody else. A server of a cluster waits for its first link before
// it does anything at all, and where the other nodes have not come yet this is
// the link.
func (s *Server) companion() error {
	k := *s.cfg.Cluster
	k.Listen = "127.0.0.1:0"
	opts, err := options(Config{Name: s.cfg.Name + "-companion", Cluster: &k})
	if err != nil {
		return err
	}
	opts.JetStream, opts.StoreDir, opts.Cluster.Port, opts.Cluster.NoAdvertise = false, "", server.RANDOM_PORT, true
	if s.beside, err = server.NewServer(opts); err != nil {
		return fmt.Errorf("companion of the embedded log server: %w", err)
	}
	s.beside.SetLoggerV2(s.serverLog(), false, false, false)
	s.beside.Start()
	return nil
}

// serverID is how the servers of a cluster call each other.
func serverID(name string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum := sha256.Sum256([]byte(name))
	id := sum[:8]
	for i := range id {
		id[i] = digits[int(id[i])%len(digits)]
	}
	return string(id)
}

// streamsIn reads the configurations of the streams of a server alone.
func streamsIn(dir string) ([]json.RawMessage, error) {
	files, err := filepath.Glob(filepath.Join(dir, "jetstream", "$G", "streams", "*", "meta.inf"))
	if err != nil {
		return nil, err
	}
	var all []json.RawMessage
	for _, f := range files {
		b, err := os.ReadFile(f) //nolint:gosec // in our directory
		if err != nil {
			return nil, err
		}
		if !json.Valid(b) {
			return nil, fmt.Errorf("%s is not as expected", f)
		}
		all = append(all, b)
	}
	return all, nil
}

// adoptLimit is less than the half minute after which the cluster removes what
// it was not told of.
const adoptLimit = 20 * time.Second

// adopt tells the cluster about the streams this server has.
func (s *Server) adopt(ctx context.Context, all []json.RawMessage) error {
	ctx, cancel := context.WithTimeoutCause(ctx, adoptLimit, errors.New("the cluster of streams does not begin"))
	defer cancel()
	nc, err := s.connect(0)
	if err != nil {
		return err
	}
	defer nc.Close()
	for _, raw := range all {
		var cfg map[string]json.RawMessage
		if err := json.Unmarshal(raw, &cfg); err != nil {
			return err
		}
		delete(cfg, "Created")
		delete(cfg, "created")
		if err := adoptOne(ctx, nc, cfg); err != nil {
			return fmt.Errorf("take the stream %s into the cluster: %w", cfg["name"], err)
		}
	}
	s.log.Info("streams were taken into a cluster", "streams", len(all))
	return os.Remove(filepath.Join(s.cfg.Dir, "adopt.json"))
}

func adoptOne(ctx context.Context, nc *nats.Conn, cfg map[string]json.RawMessage) error {
	var name string
	if err := json.Unmarshal(cfg["name"], &name); err != nil {
		return err
	}
	body, err := json.Marshal(cfg)
	if err != nil {
		return err
	}
	for {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		m, err := nc.RequestWithContext(try, "$JS.API.STREAM.CREATE."+name, body)
		cancel()
		if err == nil {
			var answer struct {
				Error *struct {
					Code        int    `json:"err_code"`
					Description string `json:"description"`
				} `json:"error"`
			}
			if err = json.Unmarshal(m.Data, &answer); err == nil && answer.Error == nil {
				return nil
			}
			if err == nil {
				err = fmt.Errorf("%s (%d)", answer.Error.Description, answer.Error.Code)
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}
