package control

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/state"
	"github.com/perdure/perdure/internal/state/statetest"
)

// open opens a store and closes it when the test ends.
func open(t testing.TB, cfg Config) *Control {
	t.Helper()
	c, err := Open(t.Context(), cfg, logTo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// alone is a node without peers on a fresh directory.
func alone(t testing.TB) Config { return Config{Name: "node1", Dir: t.TempDir()} }

func logTo(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil)).With("test", t.Name())
}

func TestANodeAloneIsAStore(t *testing.T) {
	t.Parallel()
	cfg := alone(t)
	began := time.Now()
	c := open(t, cfg)
	t.Logf("open after %s", time.Since(began).Round(time.Millisecond))
	suite(t, c)
}

// suite runs the suite of all Stores against the nodes of one store in turn.
// It returns when the suite has ended, before which none may be closed.
func suite(t *testing.T, all ...*Control) {
	t.Helper()
	var next atomic.Uint64
	t.Run("suite", func(t *testing.T) {
		statetest.Run(t, func(t *testing.T) (state.Store, string) {
			c := all[next.Add(1)%uint64(len(all))]
			return c, strings.ReplaceAll(t.Name(), "/", "_") + "/"
		})
	})
}
