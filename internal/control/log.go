package control

import (
	"context"
	"log/slog"

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
type bridge struct{ log *slog.Logger }

func newZap(log *slog.Logger) *zap.Logger { return zap.New(bridge{log}) }

func (b bridge) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

func (b bridge) With(fields []zapcore.Field) zapcore.Core {
	return bridge{b.log.With(attributes(fields)...)}
}

func (b bridge) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !b.Enabled(e.Level) || quiet[e.Message] {
		return checked
	}
	return checked.AddCore(e, b)
}

func (b bridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	if e.Level > zapcore.WarnLevel {
		level = slog.LevelError
	}
	b.log.Log(context.Background(), level, "etcd: "+e.Message, attributes(fields)...)
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
