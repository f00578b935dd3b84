package proxy

import (
	"testing"
	"time"
)

// A session that only read gives its connection back without a reset. The next
// one must not be able to tell.
func TestAConnectionOfAReaderIsAsNew(t *testing.T) {
	t.Parallel()
	r := alone(t)
	addr := r.proxy.Addr(ReadWrite).String()
	reader := func() uint32 {
		rc := mustRaw(t, addr, 0)
		defer rc.close()
		for _, q := range []string{"SELECT 1 UNION SELECT 2", "SELECT @@sql_mode"} {
			if _, err := rc.query(q); err != nil {
				t.Fatal(err)
			}
		}
		return rc.id
	}
	idle := func() (n int) {
		st := r.proxy.seat(r.members[0].Name())
		st.mu.Lock()
		defer st.mu.Unlock()
		for _, list := range st.idle {
			for _, b := range list {
				if !b.fresh || b.owed != 0 {
					t.Error("the connection was reset")
				}
				n++
			}
		}
		return n
	}
	for _, q := range []string{"SELECT ROW_COUNT()", "SELECT LAST_INSERT_ID()", "SHOW WARNINGS", "SELECT @@sql_mode, @a"} {
		reader()
		until(t, 5*time.Second, "the connection is given back", func() bool { return idle() == 1 })
		through, direct := mustRaw(t, addr, 0), mustRaw(t, r.members[0].Address(), 0)
		a, err := through.query(q)
		if err != nil {
			t.Fatal(err)
		}
		b, err := direct.query(q)
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("%s: % x through the proxy, % x directly", q, a, b)
		}
		through.close()
		direct.close()
		until(t, 5*time.Second, "the client is gone", func() bool { return len(r.proxy.list()) == 0 })
		r.proxy.seat(r.members[0].Name()).prune(true)
	}
}
