package queue

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysqltest"
)

type fixed struct{ target Target }

func (f fixed) Writer(context.Context) (Target, error) { return f.target, nil }

// The server takes a transaction back behind our back, between the packet with
// the effects and the one with the ledger: the second must not commit alone.
func TestHalfATransactionIsNotCommitted(t *testing.T) {
	t.Parallel()
	m := mysqltest.Start(t, 1)[0]
	m.OpenForWrites(t)
	user, pw := mysqltest.AppAccount()
	db, err := OpenTarget(mysql.Login{Address: m.Address(), User: user, Password: pw})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	ctx := t.Context()
	if _, err := setUp(ctx, db, 7, 1); err != nil {
		t.Fatal(err)
	}
	s, err := connect(ctx, fixed{Target{Member: "m1", DB: db}}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	c, err := s.claim(ctx, 7, 0, 0, 99, false)
	if err != nil {
		t.Fatal(err)
	}
	p := &partition{a: &Applier{stream: 7, holder: 99}, s: s, epoch: c.epoch, log: slog.New(slog.DiscardHandler)}
	half := func(between string, want error, rows int) {
		t.Helper()
		if err := p.fence(ctx); err != nil {
			t.Fatal(err)
		}
		if between != "" {
			if _, err := s.exec(ctx, []byte(between)); err != nil {
				t.Fatal(err)
			}
		}
		var pk packet
		pk.ledger(7, []ledgerRow{{id: NewID(time.Now()), seq: 1, outcome: ledgerApplied}})
		if err := p.end(ctx, &pk); !errors.Is(err, want) {
			t.Errorf("after %q: %v", between, err)
		}
		_, _ = s.exec(ctx, []byte("ROLLBACK"))
		n := 0
		if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM perdure.queue_ledger").Scan(&n); err != nil || n != rows {
			t.Errorf("after %q the ledger has %d rows, not %d: %v", between, n, rows, err)
		}
	}
	half("ROLLBACK;BEGIN", errMoved, 0)
	half("", nil, 1)
	half("ROLLBACK;BEGIN", errMoved, 1)
}
