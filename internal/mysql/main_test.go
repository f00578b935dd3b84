package mysql

import (
	"testing"

	"github.com/perdure/perdure/internal/mysqltest"
)

func TestMain(m *testing.M) { mysqltest.Main(m) }

// opened is the server as the product speaks to it.
func opened(t *testing.T, m *mysqltest.Member) *Server {
	t.Helper()
	user, password := mysqltest.AdminAccount()
	s, err := Open(m.Name(), Login{Address: m.Address(), User: user, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// do executes statements as root.
func do(t *testing.T, m *mysqltest.Member, statements ...string) {
	t.Helper()
	db := m.Root(t)
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// value reads one value as root.
func value(t *testing.T, m *mysqltest.Member, query string) string {
	t.Helper()
	var v string
	if err := m.Root(t).QueryRowContext(t.Context(), query).Scan(&v); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return v
}
