package control

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func TestTheStoresOwnLogIsPassedOnWithoutItsChatter(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	closing, shut := context.WithCancel(t.Context())
	z := newZap(closing, slog.New(slog.NewTextHandler(&out, nil)))
	lines := func() []string {
		defer out.Reset()
		return strings.Split(strings.TrimSpace(out.String()), "\n")
	}

	z.Info("starting")
	z.Warn("simple token is not cryptographically signed")
	z.With(zap.String("peer", "b")).Warn("lost", zap.Error(context.Canceled))
	for range 100 {
		z.Warn("lost")
	}
	got := lines()
	if len(got) != 1 || !strings.Contains(got[0], `level=WARN msg="etcd: lost" peer=b err="context canceled"`) {
		t.Errorf("passed on: %q", got)
	}

	s := &said{last: map[string]time.Time{}, since: map[string]int{}}
	now := time.Now()
	s.again("lost", now)
	s.again("lost", now.Add(repeatAfter-1))
	if held, due := s.again("lost", now.Add(repeatAfter)); !due || held != 1 {
		t.Errorf("after %s: due %t, held back %d", repeatAfter, due, held)
	}

	shut()
	z.Error("accept: use of closed network connection")
	if got := lines(); got[0] != "" {
		t.Errorf("while closing: %q", got)
	}
}
