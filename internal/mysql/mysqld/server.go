package mysqld

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// ErrDown is returned when something is asked of a server that is not running.
var ErrDown = errors.New("the server is not running")

// After says what becomes of a server that was killed on purpose.
type After int

const (
	StayDown After = iota // until Start
	ComeBack              // as after a crash: the RestartDelay of its Config decides
)

// Server is one supervised server. Its methods may be called from several
// goroutines.
type Server struct {
	cfg    Config
	socket string

	mu   sync.Mutex
	port int   // 0 until chosen
	life *life // nil while the server is down
}

// New checks cfg and starts nothing.
func New(cfg Config) (*Server, error) {
	cfg.Name = cmp.Or(cfg.Name, filepath.Base(cfg.Dir))
	cfg.BindAddress = cmp.Or(cfg.BindAddress, localhost)
	cfg.StartLimit = cmp.Or(cfg.StartLimit, time.Minute)
	cfg.StopLimit = cmp.Or(cfg.StopLimit, 30*time.Second)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Log = cfg.Log.With("member", cfg.Name)
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("server %s: %w", cfg.Name, err)
	}
	return &Server{cfg: cfg, socket: socketPath(cfg.Dir), port: cfg.Port}, nil
}

// Start starts the server and returns once it is usable, or says why it is not;
// then it is down again. The server outlives ctx, which limits only the start.
func (s *Server) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.StartLimit,
		fmt.Errorf("its %s are over", s.cfg.StartLimit))
	defer cancel()
	const tries = 5 // another process may take the port between our look and mysqld's
	for try := 1; ; try++ {
		err := s.startOnce(ctx)
		if err == nil || try == tries || s.cfg.Port != 0 || !addressInUse(err) {
			return err
		}
		s.mu.Lock()
		s.port = 0
		s.mu.Unlock()
	}
}

func (s *Server) startOnce(ctx context.Context) error {
	began := time.Now()
	logPath := s.LogPath()
	offset := fileSize(logPath)
	l, err := s.begin()
	if err != nil {
		return fmt.Errorf("start server %s: %w", s.cfg.Name, err)
	}
	err = s.untilUsable(ctx, l)
	if err == nil {
		s.cfg.Log.Info("server is usable", "address", s.Address(), "pid", s.PID(), "took", time.Since(began))
		return nil
	}
	// A half-started server helps nobody, and the caller believes it is down.
	return errors.Join(
		&StartError{Server: "start server " + s.cfg.Name, Err: err, Log: errorLines(logPath, offset)},
		s.end(l, syscall.SIGKILL))
}

// begin starts the first process of a new life.
func (s *Server) begin() (*life, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life != nil {
		return nil, errors.New("it is running already")
	}
	if err := prepareSocket(s.socket); err != nil {
		return nil, err
	}
	if s.port == 0 {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		s.port = port
	}
	if err := s.cfg.cnf(s.port, s.socket).write(filepath.Join(s.cfg.Dir, cnfFile)); err != nil {
		return nil, err
	}
	p, err := s.launch()
	if err != nil {
		return nil, err
	}
	s.life = &life{proc: p, downed: make(chan struct{}), ended: make(chan struct{})}
	go s.supervise(s.life)
	return s.life, nil
}

// launch starts one process on the files begin has written.
func (s *Server) launch() (*process, error) {
	if err := writableByPersisted(filepath.Join(s.cfg.Dir, dataDir)); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(s.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the child has its own
	//nolint:noctx // it outlives the call that starts it; supervise ends it
	cmd := exec.Command(s.cfg.Binary.Path, "--defaults-file="+filepath.Join(s.cfg.Dir, cnfFile))
	cmd.Dir = s.cfg.Dir
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = log, log
	return launch(cmd)
}

// environment passes on the little a server needs. Ours may hold secrets, and
// variables such as MYSQL_TCP_PORT would change what the server does.
func environment() []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD"} {
		if value, set := os.LookupEnv(name); set {
			env = append(env, name+"="+value)
		}
	}
	// RESTART is refused, and CLONE ends with a dead server, unless mysqld finds
	// the pid of its parent here.
	return append(env, "MYSQLD_PARENT_PID="+strconv.Itoa(os.Getpid()))
}

// Stop asks the server to shut down, and kills it when ctx ends or StopLimit is
// over. It returns when the server is down, and it stays down. A server that is
// down already is no error.
func (s *Server) Stop(ctx context.Context) error {
	l := s.current()
	if l == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.StopLimit)
	defer cancel()
	s.condemn(l)
	if err := s.signal(l, syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-l.ended:
		return nil
	case <-ctx.Done():
		s.cfg.Log.Warn("server does not stop, killing it", "limit", s.cfg.StopLimit)
		return s.end(l, syscall.SIGKILL)
	}
}

// Restart stops the server and starts it again.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Kill ends the server with SIGKILL, as a crash would, and returns when the
// process is gone. It works on a frozen server too.
func (s *Server) Kill(after After) error {
	l := s.current()
	if l == nil {
		return fmt.Errorf("kill server %s: %w", s.cfg.Name, ErrDown)
	}
	if after == StayDown {
		return s.end(l, syscall.SIGKILL)
	}
	p := s.process(l)
	if err := p.signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill server %s: %w", s.cfg.Name, err)
	}
	<-p.done
	return nil
}

// Freeze stops the server's clock with SIGSTOP: connections stay open, new ones
// are accepted by the kernel, and nobody answers.
func (s *Server) Freeze() error { return s.toRunning("freeze", syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (s *Server) Thaw() error { return s.toRunning("thaw", syscall.SIGCONT) }

func (s *Server) toRunning(what string, sig syscall.Signal) error {
	l := s.current()
	if l == nil {
		return fmt.Errorf("%s server %s: %w", what, s.cfg.Name, ErrDown)
	}
	return s.signal(l, sig)
}

// WaitUsable returns once the server is usable, for instance again after
// RESTART, CLONE or a crash it comes back from.
func (s *Server) WaitUsable(ctx context.Context) error {
	l := s.current()
	if l == nil {
		return fmt.Errorf("wait for server %s: %w", s.cfg.Name, ErrDown)
	}
	offset := fileSize(s.LogPath())
	for {
		p := s.process(l)
		err := usable(ctx, p, s.socket, s.Address())
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for server %s: %w", s.cfg.Name, err)
		}
		if !s.next(ctx, l, p) {
			return &StartError{
				Server: "wait for server " + s.cfg.Name,
				Err:    fmt.Errorf("%w: %w", ErrDown, err), Log: errorLines(s.LogPath(), offset),
			}
		}
	}
}

// Name is the name of the server in logs and errors.
func (s *Server) Name() string { return s.cfg.Name }

// Dir is the directory of the server.
func (s *Server) Dir() string { return s.cfg.Dir }

// LogPath is where the server writes its error log.
func (s *Server) LogPath() string { return filepath.Join(s.cfg.Dir, errorLog) }

// Socket is the path of the server's Unix socket.
func (s *Server) Socket() string { return s.socket }

// Port is the server's port, 0 before the first Start if it is ours to choose.
func (s *Server) Port() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.port
}

// Address is host:port of the server.
func (s *Server) Address() string {
	return net.JoinHostPort(s.cfg.BindAddress, strconv.Itoa(s.Port()))
}
