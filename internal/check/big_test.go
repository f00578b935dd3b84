package check_test

import (
	"os"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/check"
	"github.com/perdure/perdure/internal/topology"
)

// bigLimit is the promise: 20,000 tables on a small, busy machine.
const bigLimit = 10 * time.Second

// Making the tables takes minutes, so it is asked for by PERDURE_BIG=1.
func TestTwentyThousandTablesAreCheckedInTenSeconds(t *testing.T) {
	if os.Getenv("PERDURE_BIG") == "" {
		t.Skip("takes minutes; PERDURE_BIG=1 runs it")
	}
	m := manyTables(t, 20_000)
	s := admin(t, m)
	for _, when := range []string{"just made", "again", "after a restart", "again"} {
		if when == "after a restart" {
			if err := m.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			s = admin(t, m)
		}
		began := time.Now()
		n, err := check.Schema(t.Context(), s, topology.MultiPrimary, func(check.Finding) error { return nil })
		took := time.Since(began)
		t.Logf("%s: %d tables in %s", when, n, took.Round(time.Millisecond))
		if err != nil || took > bigLimit {
			t.Errorf("%v after %s", err, took)
		}
	}
}
