package jet

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	defaultMaxStore = 64 << 30
	defaultReserve  = 256 << 20
)

// Server is this node's JetStream: the embedded one, or the way to an external one.
type Server struct {
	cfg      Config
	log      *slog.Logger
	embedded *server.Server // nil when external
	beside   *server.Server // its companion, while no other node has come; nil else
	nc       *nats.Conn

	users []*server.User // of the embedded server, made anew at every start: ours and the system's

	store   server.JetStreamConfig // with which the store was opened first
	opening sync.Mutex
	opened  time.Time    // anew, last
	off     atomic.Int64 // since when it was seen switched off; 0 while it works
}

// Open starts the embedded server or connects to the external one. It returns
// when the local server answers; a cluster may still lack its quorum then, and
// OpenLog waits for that.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Server, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("log configuration: %w", err)
	}
	cfg.MaxStore = cmp.Or(cfg.MaxStore, defaultMaxStore)
	cfg.Reserve = cmp.Or(cfg.Reserve, defaultReserve)
	s := &Server{cfg: cfg, log: log}
	if cfg.External == nil {
		if err := s.startEmbedded(ctx); err != nil {
			return nil, err
		}
	}
	nc, err := s.connect(0)
	if err != nil {
		s.Close()
		return nil, err
	}
	s.nc = nc
	return s, nil
}

// Close stops the server after what it has accepted is on disk.
func (s *Server) Close() {
	if s.nc != nil {
		s.nc.Close()
	}
	if s.beside != nil {
		s.beside.Shutdown()
		s.beside.WaitForShutdown()
	}
	if s.embedded != nil {
		s.embedded.Shutdown()
		s.embedded.WaitForShutdown()
	}
}

// Conn is a connection for parts that speak NATS themselves. It is closed by Close.
func (s *Server) Conn() *nats.Conn { return s.nc }

func (s *Server) startEmbedded(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("directory of the log: %w", err)
	}
	var alone []json.RawMessage
	if k := s.cfg.Cluster; k != nil && k.Found {
		var err error
		if alone, err = found(s.cfg.Dir, s.cfg.Name); err != nil {
			return fmt.Errorf("begin the cluster of streams in %s: %w", s.cfg.Dir, err)
		}
	}
	opts, err := options(s.cfg)
	if err != nil {
		return err
	}
	s.users = opts.Users
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("embedded log server: %w", err)
	}
	srv.SetLoggerV2(s.serverLog(), false, false, false)
	srv.Start()
	s.embedded = srv
	if k := s.cfg.Cluster; k != nil && (k.Found && len(k.Peers) < 2 || s.cfg.beside) {
		if err := s.companion(); err != nil {
			s.Close()
			return err
		}
	}
	limit := time.Now().Add(2 * time.Minute) // a large store is checked at start
	for !srv.ReadyForConnections(100 * time.Millisecond) {
		if ctx.Err() != nil || time.Now().After(limit) {
			s.Close()
			return errors.Join(errors.New("embedded log server did not start"), context.Cause(ctx))
		}
	}
	if !srv.JetStreamEnabled() {
		s.Close()
		return fmt.Errorf("embedded log server could not open its store in %s", s.cfg.Dir)
	}
	s.store = *srv.JetStreamConfig()
	s.store.StoreDir = s.cfg.Dir // the server appends a directory of its own to what it is given
	if len(alone) > 0 {
		if err := s.adopt(ctx, alone); err != nil {
			s.Close()
			return err
		}
	}
	return nil
}

func options(cfg Config) (*server.Options, error) {
	opts := &server.Options{
		ServerName:         cmp.Or(cfg.Name, "perdure"),
		DontListen:         true,
		JetStream:          true,
		StoreDir:           cfg.Dir,
		JetStreamMaxStore:  cfg.MaxStore,
		JetStreamMaxMemory: 64 << 20,
		// Everything this project promises about accepted writes hangs on this
		// line: the default acknowledges before the disk has anything.
		SyncAlways: true,
		MaxPayload: MaxPayload,
		NoSigs:     true,
		NoLog:      true,
	}
	k := cfg.Cluster
	if k == nil {
		return opts, nil
	}
	host, port, err := net.SplitHostPort(k.Listen)
	if err != nil {
		return nil, fmt.Errorf("cluster.listen: %w", err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("cluster.listen: port %q is not a number", port)
	}
	// A server that does not listen for clients never links to its peers, in
	// this version. So it listens where only this machine can come, on a port
	// nobody is told, for a password that only this process knows.
	opts.DontListen, opts.Host, opts.Port = false, "127.0.0.1", server.RANDOM_PORT
	system := server.NewAccount(systemAccount)
	opts.SystemAccount, opts.Accounts = systemAccount, []*server.Account{system}
	opts.Users = []*server.User{{Username: "node", Password: rand.Text()}, {Username: "system", Password: rand.Text(), Account: system}}
	opts.Cluster = server.ClusterOpts{
		Name: k.Name, Host: host, Port: n,
		Username: "node", Password: k.Secret, AuthTimeout: 5,
		TLSConfig: k.TLS, TLSTimeout: 5,
		Compression: server.CompressionOpts{Mode: server.CompressionOff},
	}
	for _, p := range k.Peers {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats", Host: p, User: url.UserPassword("node", k.Secret)})
	}
	return opts, nil
}

// connect connects as one of users, the first or the system's.
func (s *Server) connect(as int) (*nats.Conn, error) {
	opts := []nats.Option{
		nats.Name("perdure " + s.cfg.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		// A request that cannot be sent now is answered now: the caller decides
		// whether to wait. Buffering would hide an outage and grow without bound.
		nats.ReconnectBufSize(-1),
		// What one question of ours is answered with. The library's own 65,536
		// places are half a megabyte for every question.
		nats.SyncQueueLen(answerMost),
		nats.IgnoreAuthErrorAbort(),
	}
	addr := ""
	if s.embedded != nil {
		opts = append(opts, nats.InProcessServer(s.embedded))
		if as < len(s.users) {
			opts = append(opts, nats.UserInfo(s.users[as].Username, s.users[as].Password))
		}
	} else {
		x := s.cfg.External
		for i, u := range x.URLs {
			if i > 0 {
				addr += ","
			}
			addr += u
		}
		if x.Credentials != "" {
			opts = append(opts, nats.UserCredentials(x.Credentials))
		}
		if x.TLS != nil {
			opts = append(opts, nats.Secure(x.TLS))
		}
	}
	nc, err := nats.Connect(addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("connection to the log: %w", err)
	}
	return nc, nil
}

// others tells whether readers on other nodes may wait for what is stored here.
func (s *Server) others() bool { return s.cfg.Cluster != nil || s.cfg.External != nil }

// api is how streams are managed. A question whose context has no end is given up
// after five seconds.
func (s *Server) api() (jetstream.JetStream, error) {
	return jetstream.New(s.nc, jetstream.WithDefaultTimeout(5*time.Second))
}

// serverLog passes the embedded server's words on, one level lower: what it
// calls information is detail to an operator of ours. What it repeats, such as
// that a node is away, is passed on twice a minute.
type serverLog struct {
	log  *slog.Logger
	said *said
}

const repeatAfter = 30 * time.Second

// said is when each kind of message was passed on last. Kinds are the formats of
// messages, so there are few.
type said struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (s *Server) serverLog() serverLog {
	return serverLog{s.log.With("part", "jetstream"), &said{last: map[string]time.Time{}}}
}

func (l serverLog) say(level slog.Level, f string, a []any) {
	l.said.mu.Lock()
	due := time.Since(l.said.last[f]) >= repeatAfter
	if due {
		l.said.last[f] = time.Now()
	}
	l.said.mu.Unlock()
	if due {
		l.log.Log(context.Background(), level, fmt.Sprintf(f, a...))
	}
}

func (l serverLog) Noticef(f string, a ...any) { l.log.Debug(fmt.Sprintf(f, a...)) }

func (l serverLog) Warnf(f string, a ...any) {
	if quiet[f] {
		return
	}
	l.say(slog.LevelWarn, f, a)
}

func (l serverLog) Fatalf(f string, a ...any) { l.log.Error(fmt.Sprintf(f, a...)) }
func (l serverLog) Errorf(f string, a ...any) { l.say(slog.LevelError, f, a) }
func (l serverLog) Debugf(f string, a ...any) { l.log.Debug(fmt.Sprintf(f, a...)) }
func (l serverLog) Tracef(string, ...any)     {}

// quiet are warnings about what we chose on purpose.
var quiet = map[string]bool{
	// They are made anew at every start and never leave this process.
	"Plaintext passwords detected, use nkeys or bcrypt": true,
}
