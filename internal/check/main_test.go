package check_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/perdure/perdure/internal/check"
	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/topology"
)

func TestMain(m *testing.M) { mysqltest.Main(m) }

// server opens a member as somebody.
func server(t testing.TB, m *mysqltest.Member, user, password string) *mysql.Server {
	t.Helper()
	s, err := mysql.Open(m.Name(), mysql.Login{Address: m.Address(), User: user, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func admin(t testing.TB, m *mysqltest.Member) *mysql.Server {
	user, password := mysqltest.AdminAccount()
	return server(t, m, user, password)
}

// run runs statements one by one. Findings may hold several, parted by "; ".
func run(t testing.TB, db *sql.DB, statements ...string) {
	t.Helper()
	for _, one := range statements {
		for part := range strings.SplitSeq(one, "; ") {
			if _, err := db.ExecContext(t.Context(), part); err != nil {
				t.Fatalf("%s: %v", part, err)
			}
		}
	}
}

func look(t testing.TB, s *mysql.Server) (check.Facts, []check.Finding) {
	t.Helper()
	f, found, err := check.Server(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return f, found
}

func schema(t testing.TB, s *mysql.Server, mode topology.Mode) (int, []check.Finding) {
	t.Helper()
	var found []check.Finding
	n, err := check.Schema(context.WithoutCancel(t.Context()), s, mode, func(f check.Finding) error {
		found = append(found, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n, found
}

// of picks the findings of one kind, by subject.
func of(found []check.Finding, kind string) map[string]check.Finding {
	out := map[string]check.Finding{}
	for _, f := range found {
		if f.Kind == kind {
			out[f.Subject] = f
		}
	}
	return out
}
