package control

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// quiet are warnings that etcd gives at every start about settings we chose on
// purpose. The reason stands beside each.
var quiet = map[string]bool{
	// We serve no clients over a socket at all.
	"Running http and grpc server on single port. This is not recommended for production.": true,
	// Tokens are for logins, and nobody can log in.
	"simple token is not cryptographically signed": true,
}

// bridge passes etcd's own log on to ours: warnings and worse, and nothing of
// its chatter at start.
type bridge struct {
	log     *slog.Logger
	said    *said
	closing context.Context // when it is over, etcd's complaints about its own end are too
}

func newZap(closing context.Context, log *slog.Logger) *zap.Logger {
	return zap.New(bridge{log, &said{last: map[string]time.Time{}, since: map[string]int{}}, closing})
}

// said keeps a node that cannot reach its peers from filling the disk: etcd
// repeats itself forty times a second then. Messages are constants, so the
// maps stay small.
type said struct {
	mu    sync.Mutex
	last  map[string]time.Time
	since map[string]int // not passed on since then
}

const repeatAfter = 30 * time.Second

// again reports whether a message is due, and how many of it were held back.
func (s *said) again(message string, at time.Time) (held int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.Sub(s.last[message]) < repeatAfter {
		s.since[message]++
		return 0, false
	}
	held = s.since[message]
	s.last[message], s.since[message] = at, 0
	return held, true
}

func (b bridge) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (b bridge) With(fields []zapcore.Field) zapcore.Core {
	return bridge{b.log.With(attributes(fields)...), b.said, b.closing}
}

func (b bridge) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !b.Enabled(e.Level) || quiet[e.Message] || b.closing.Err() != nil && e.Level <= zapcore.ErrorLevel {
		return checked
	}
	return checked.AddCore(e, b)
}

func (b bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	held, due := b.said.again(e.Message, e.Time)
	if !due {
		return nil
	}
	log := b.log
	if held > 0 {
		log = log.With("repeated", held)
	}
	level := slog.LevelWarn
	if e.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	log.Log(context.Background(), level, "etcd: "+e.Message, attributes(fields)...)
	return nil
}

func (b bridge) Sync() error { return nil }

func attributes(fields []zapcore.Field) []any {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(m)
	}
	var out []any
	for _, f := range fields {
		if v, ok := m.Fields[f.Key]; ok {
			key := f.Key
			if key == "error" {
				key = "err"
			}
			out = append(out, slog.Any(key, v))
		}
	}
	return out
}
