package proxy

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/perdure/perdure/internal/mysql/wire"
)

// Sessions that take turns on a few connections see what they would see alone on
// one of their own.
func TestSessionsThatShareConnectionsSeeTheirOwnState(t *testing.T) {
	t.Parallel()
	r := alone(t, transaction)
	exec(t, r.members[0].Root(t), "CREATE DATABASE two")
	sayings := []string{
		"SELECT 1", "SELECT DATABASE()", "USE two", "USE test", "SET @a = 1", "SET @a = 'x'", "SELECT @a", "SET NAMES latin1", "SET NAMES utf8mb4",
		"SELECT @@collation_connection, @@character_set_results, 'ü'", "SET sql_mode = 'ANSI'", "SET sql_mode = DEFAULT", "SELECT @@sql_mode",
		"SET time_zone = '+01:00'", "SET time_zone = DEFAULT", "SELECT @@time_zone", "SELECT 1/0", "SHOW WARNINGS", "SELECT LAST_INSERT_ID()",
		"SELECT NOW() > 0", "SELECT nothing", "DO 1", "SELECT @@autocommit, @@transaction_isolation", "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
		"PREPARE p FROM 'SELECT 7'", "EXECUTE p", "DEALLOCATE PREPARE p", "SELECT ROW_COUNT()",
	}
	rnd := rand.New(rand.NewPCG(11, 4))
	type pair struct{ through, direct *rawClient }
	var all []pair
	for range 6 {
		p := pair{mustRaw(t, r.proxy.Addr(ReadWrite).String(), wire.ClientDeprecateEOF), mustRaw(t, r.members[0].Address(), wire.ClientDeprecateEOF)}
		defer p.through.close()
		defer p.direct.close()
		all = append(all, p)
	}
	for i := range 3000 {
		at := rnd.IntN(len(all))
		p := all[at]
		q := sayings[rnd.IntN(len(sayings))]
		if i < 1000 || q == "SELECT ROW_COUNT()" { // most applications read, and read again
			q = sayings[rnd.IntN(2)]
		}
		want, err := p.direct.query(q)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.through.query(q)
		if err != nil {
			t.Fatal(q, err)
		}
		if !bytes.Equal(want, got) {
			t.Fatalf("session %d, step %d, %s: directly %q, through the proxy %q", at, i, q, want, got)
		}
	}
	st := r.proxy.seat(r.members[0].Name())
	t.Logf("%d connections opened, %d times one was shared", st.dials.Load(), st.borrowed.Load())
	if st.borrowed.Load() == 0 {
		t.Error("nothing was shared, so nothing was shown")
	}
}
