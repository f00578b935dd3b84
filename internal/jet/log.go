package jet

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/perdure/perdure/internal/queue"
)

const (
	generationKey = "perdure.generation"
	// dedupWindow has to outlive every retry of one Append, not more: who
	// counts writes is the ledger.
	dedupWindow = 2 * time.Minute
	// askLimit bounds questions to the log; a cluster without leader is silent.
	askLimit = 5 * time.Second
)

// LogConfig describes one stream.
type LogConfig struct {
	Name     string // of the stream: letters, digits, '-' and '_'
	Replicas int    // 1 or 3; default 1
	MaxBytes int64  // default 16 GiB; appends are refused beyond, nothing is dropped
	// Expect is the generation this log had before, where somebody remembers.
	// A log of another generation, or none, is then an error (queue.ErrLost):
	// the stream was removed behind our back and what it held is gone.
	Expect uint64
	// AckTimeout is how long one attempt waits for its acknowledgement before
	// it is offered again. Default 5 s.
	AckTimeout time.Duration
}

// Log is a queue.Log on one JetStream stream.
type Log struct {
	srv        *Server
	js         jetstream.JetStream
	stream     jetstream.Stream
	cfg        LogConfig
	generation uint64
	subject    string
	tick       string
	space      space
	wake       *wake
	healer     healer
}

// OpenLog finds or makes the stream, and waits until ctx ends for a cluster
// that has no quorum yet.
func (s *Server) OpenLog(ctx context.Context, cfg LogConfig) (*Log, error) {
	cfg.Replicas = cmp.Or(cfg.Replicas, 1)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 16<<30)
	cfg.AckTimeout = cmp.Or(cfg.AckTimeout, 5*time.Second)
	js, err := s.api()
	if err != nil {
		return nil, err
	}
	l := &Log{
		srv: s, js: js, cfg: cfg,
		subject: "perdure.log." + cfg.Name,
		tick:    "perdure.tick." + cfg.Name,
		space:   space{dir: s.cfg.Dir, reserve: s.cfg.Reserve},
		wake:    newWake(),
	}
	for {
		// A question asked before there is a leader is never answered.
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := l.find(try)
		cancel()
		if err == nil {
			break
		}
		if errors.Is(err, queue.ErrLost) || errors.Is(err, errRefused) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("opening log %s: %w", cfg.Name, errors.Join(err, context.Cause(ctx)))
		case <-time.After(250 * time.Millisecond):
		}
	}
	if _, err := s.nc.Subscribe(l.tick, func(*nats.Msg) { l.wake.all() }); err != nil {
		return nil, fmt.Errorf("opening log %s: %w", cfg.Name, err)
	}
	return l, nil
}

var errRefused = errors.New("refused")

func (l *Log) find(ctx context.Context) error {
	st, err := l.js.Stream(ctx, l.cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if l.cfg.Expect != 0 {
			return fmt.Errorf("log %s: the stream is gone: %w", l.cfg.Name, queue.ErrLost)
		}
		st, err = l.create(ctx)
	}
	if err != nil {
		return err
	}
	l.stream = st
	text := st.CachedInfo().Config.Metadata[generationKey]
	l.generation, err = strconv.ParseUint(text, 16, 64)
	if err != nil {
		return fmt.Errorf("%w: stream %s was not made by us (no %s)", errRefused, l.cfg.Name, generationKey)
	}
	if l.cfg.Expect != 0 && l.cfg.Expect != l.generation {
		return fmt.Errorf("log %s: generation is %016x, expected %016x: %w", l.cfg.Name, l.generation, l.cfg.Expect, queue.ErrLost)
	}
	return l.adjust(ctx)
}

func (l *Log) create(ctx context.Context) (jetstream.Stream, error) {
	var g [8]byte
	if _, err := rand.Read(g[:]); err != nil {
		return nil, err
	}
	cfg := l.streamConfig()
	cfg.Metadata = map[string]string{generationKey: fmt.Sprintf("%016x", binary.BigEndian.Uint64(g[:])>>1|1)}
	st, err := l.js.CreateStream(ctx, cfg)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was faster
		return l.js.Stream(ctx, l.cfg.Name)
	}
	return st, err
}

func (l *Log) streamConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:     l.cfg.Name,
		Subjects: []string{l.subject},
		// Never by age, never the oldest first, never on acknowledgement: each
		// of those would silently drop writes in a long outage of the database.
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		MaxBytes:    l.cfg.MaxBytes,
		MaxMsgs:     -1,
		MaxMsgSize:  MaxPayload,
		Storage:     jetstream.FileStorage,
		Replicas:    l.cfg.Replicas,
		Duplicates:  dedupWindow,
		AllowDirect: true,
		DenyDelete:  true,
	}
}

// adjust brings limits of an existing stream to what is configured now.
func (l *Log) adjust(ctx context.Context) error {
	have := l.stream.CachedInfo().Config
	if have.MaxBytes == l.cfg.MaxBytes && have.Replicas == l.cfg.Replicas {
		return nil
	}
	have.MaxBytes, have.Replicas = l.cfg.MaxBytes, l.cfg.Replicas
	st, err := l.js.UpdateStream(ctx, have)
	if err != nil {
		return fmt.Errorf("adjusting log %s: %w", l.cfg.Name, err)
	}
	l.stream = st
	return nil
}

// Append implements queue.Log. It offers the frame again, under the same
// message id, until it is acknowledged or ctx ends.
func (l *Log) Append(ctx context.Context, frame []byte) (uint64, error) {
	room := l.space.check()
	if room != nil {
		return 0, room
	}
	l.srv.mend(room)
	msg := nats.NewMsg(l.subject)
	msg.Header["Nats-Msg-Id"] = []string{nuid.Next()}
	msg.Data = frame
	doubt := false
	for {
		seq, err := l.offer(ctx, msg)
		if err == nil {
			l.wake.all()
			if l.srv.others() {
				_ = l.srv.nc.Publish(l.tick, nil)
			}
			return seq, nil
		}
		if errors.Is(err, queue.ErrFull) && !doubt {
			return 0, err
		}
		doubt = doubt || !notSent(err)
		if healed := l.healer.failed(l.srv, err, l.space.check()); healed != nil {
			err = errors.Join(err, healed)
		}
		select {
		case <-ctx.Done():
			if doubt {
				return 0, fmt.Errorf("%w (%w)", queue.ErrInDoubt, err)
			}
			return 0, fmt.Errorf("%w (%w)", queue.ErrUnavailable, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// notSent tells the failures after which nobody can have seen the frame.
func notSent(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrConnectionClosed) ||
		errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, queue.ErrFull) || errors.Is(err, errAnswered)
}

var errAnswered = errors.New("the log server refused")

func (l *Log) offer(ctx context.Context, msg *nats.Msg) (uint64, error) {
	try, cancel := context.WithTimeout(ctx, l.cfg.AckTimeout)
	defer cancel()
	answer, err := l.srv.nc.RequestMsgWithContext(try, msg)
	if err != nil {
		return 0, err
	}
	var ack struct {
		Seq   uint64 `json:"seq"`
		Error *struct {
			Code        int    `json:"err_code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return 0, fmt.Errorf("acknowledgement: %w", err)
	}
	if e := ack.Error; e != nil {
		if full(e.Code, e.Description) {
			return 0, fmt.Errorf("%w: %s", queue.ErrFull, e.Description)
		}
		return 0, fmt.Errorf("%w: %s (%d)", errAnswered, e.Description, e.Code)
	}
	if ack.Seq == 0 {
		return 0, errors.New("acknowledgement without a sequence")
	}
	return ack.Seq, nil
}

func full(code int, text string) bool {
	switch code {
	case 10047, 10023, 10028: // no room on this server, in the cluster, for the account
		return true
	}
	return strings.Contains(text, "maximum bytes") || strings.Contains(text, "no space left") ||
		strings.Contains(text, "resource limits")
}

// State implements queue.Log.
func (l *Log) State(ctx context.Context) (queue.LogState, error) {
	l.srv.mend(l.space.check()) // nobody may append here, and the others still need this node
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	info, err := l.stream.Info(ctx)
	if err != nil {
		return queue.LogState{}, fmt.Errorf("state of log %s: %w", l.cfg.Name, err)
	}
	if g := info.Config.Metadata[generationKey]; g != fmt.Sprintf("%016x", l.generation) {
		return queue.LogState{}, fmt.Errorf("log %s was replaced while open (generation %s): %w", l.cfg.Name, g, queue.ErrLost)
	}
	st := queue.LogState{
		Generation: l.generation,
		First:      info.State.FirstSeq,
		Last:       info.State.LastSeq,
		Bytes:      int64(info.State.Bytes),
		MaxBytes:   info.Config.MaxBytes,
		Replicas:   info.Config.Replicas,
	}
	if info.State.Msgs == 0 {
		st.First = st.Last + 1
	} else {
		st.Oldest = info.State.FirstTime
	}
	return st, nil
}

// Generation is the mark of this incarnation of the stream.
func (l *Log) Generation() uint64 { return l.generation }

// Trim implements queue.Log.
func (l *Log) Trim(ctx context.Context, before uint64) error {
	if before <= 1 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if err := l.stream.Purge(ctx, jetstream.WithPurgeSequence(before)); err != nil {
		return fmt.Errorf("trimming log %s: %w", l.cfg.Name, err)
	}
	return nil
}
