package gtid_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/gtid"
	"github.com/perdure/perdure/internal/mysqltest"
)

// malformed is the server's error for text that is no GTID set.
const malformed = 1772

func TestMain(m *testing.M) { mysqltest.Main(m) }

// What the package promises about text is held against a real server.
func TestTheServer(t *testing.T) {
	t.Parallel()
	m := mysqltest.Start(t, 1)[0]
	m.OpenForWrites(t)
	db := m.Root(t)
	t.Run("agrees on random sets", func(t *testing.T) { t.Parallel(); agreesOnRandomSets(t, db) })
	t.Run("refuses what Parse refuses", func(t *testing.T) { t.Parallel(); refusesWhatParseRefuses(t, db) })
	t.Run("counts what was committed", func(t *testing.T) { t.Parallel(); countsWhatWasCommitted(t, db) })
}

func agreesOnRandomSets(t *testing.T, db *sql.DB) {
	write := newWriter(t, db)
	type pair struct{ A, B string }
	for range 20 {
		batch := make([]pair, 200)
		for i := range batch {
			batch[i] = pair{write.set(), write.set()}
		}
		sent, err := json.Marshal(batch)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := db.QueryContext(t.Context(), `
			SELECT n, gtid_subtract(a, ''), gtid_subtract(CONCAT(a, ',', b), ''), gtid_subtract(a, b),
			       gtid_subtract(a, gtid_subtract(a, b)), gtid_subset(b, a),
			       gtid_subset(a, b) AND gtid_subset(b, a)
			FROM JSON_TABLE(?, '$[*]' COLUMNS (
			       n FOR ORDINALITY, a TEXT PATH '$.A', b TEXT PATH '$.B')) AS pairs`, string(sent))
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for rows.Next() {
			var n int
			var normal, union, minus, both string
			var contains, equal bool
			if err := rows.Scan(&n, &normal, &union, &minus, &both, &contains, &equal); err != nil {
				t.Fatal(err)
			}
			seen++
			p := batch[n-1]
			a, b := parse(t, p.A), parse(t, p.B)
			for _, got := range []struct{ op, ours, theirs string }{
				{"normal form", a.String(), normal},
				{"union", a.Union(b).String(), union},
				{"subtract", a.Subtract(b).String(), minus},
				{"intersect", a.Intersect(b).String(), both},
			} {
				if got.ours != got.theirs {
					t.Errorf("%s of\n%q and\n%q:\nours   %q\ntheirs %q", got.op, p.A, p.B, got.ours, got.theirs)
				}
			}
			if a.Contains(b) != contains || a.Equal(b) != equal {
				t.Errorf("%q and\n%q: contains %v, equal %v; the server says %v, %v",
					p.A, p.B, a.Contains(b), a.Equal(b), contains, equal)
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
		if seen != len(batch) || t.Failed() {
			t.Fatalf("%d of %d pairs came back", seen, len(batch))
		}
	}
}

func refusesWhatParseRefuses(t *testing.T, db *sql.DB) {
	write := newWriter(t, db)
	if write.dialect.before97 {
		t.Skip("servers before 9.7 read unfinished text and leading zeros in their own way")
	}
	ask, err := db.PrepareContext(t.Context(), "SELECT gtid_subtract(?, '')")
	if err != nil {
		t.Fatal(err)
	}
	defer ask.Close()
	refused := 0
	const tries = 4000
	for range tries {
		text := write.garbled()
		ours, parseErr := gtid.Parse(text)
		var theirs string
		err := ask.QueryRowContext(t.Context(), text).Scan(&theirs)
		if said, ok := errors.AsType[*mysql.MySQLError](err); ok && said.Number == malformed {
			refused++
			if parseErr == nil {
				t.Fatalf("%q: we read %q, the server says %v", text, ours, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if parseErr != nil {
			t.Fatalf("%q: the server reads %q, we say %v", text, theirs, parseErr)
		}
		if ours.String() != theirs {
			t.Fatalf("%q:\nours   %q\ntheirs %q", text, ours, theirs)
		}
	}
	t.Logf("%d of %d texts refused by both", refused, tries)
	if refused < tries/10 || refused > tries*9/10 {
		t.Errorf("%d of %d is no test of both", refused, tries)
	}
}

// Every GTID we print can be committed under, and gtid_executed then says the
// same as our own sum. This goes through the server's older reader, too.
func countsWhatWasCommitted(t *testing.T, db *sql.DB) {
	write := newWriter(t, db)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	do := func(statement string) {
		t.Helper()
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}

	var want gtid.Set
	for range 50 {
		g := write.gtid()
		if want.Has(g) {
			continue
		}
		do("SET gtid_next = '" + g.String() + "'")
		do("BEGIN")
		do("COMMIT")
		want = want.Union(gtid.Of(g))
	}
	do("SET gtid_next = 'AUTOMATIC'")

	var text string
	if err := conn.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_executed").Scan(&text); err != nil {
		t.Fatal(err)
	}
	executed := parse(t, text)
	if executed.String() != text {
		t.Errorf("ours   %q\ntheirs %q", executed, text)
	}
	if got := executed.Only(write.uuids...); !got.Equal(want) {
		t.Errorf("committed %q, executed %q", want, got)
	}
	for g := range want.All() {
		if !executed.Has(g) {
			t.Errorf("%v was committed, gtid_executed does not know it", g)
		}
	}
	var waited int
	err = conn.QueryRowContext(ctx, "SELECT wait_for_executed_gtid_set(?, 10)", want.String()).Scan(&waited)
	if err != nil || waited != 0 {
		t.Errorf("waiting for what is there: %d, %v", waited, err)
	}
}

func parse(t *testing.T, text string) gtid.Set {
	t.Helper()
	s, err := gtid.Parse(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return s
}

// newWriter makes texts that this server can read, from a seed in the log.
func newWriter(t *testing.T, db *sql.DB) *writer {
	t.Helper()
	var version string
	if err := db.QueryRowContext(t.Context(), "SELECT version()").Scan(&version); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("MySQL %s, seed %d", version, seed)
	w := &writer{Rand: rand.New(rand.NewPCG(seed, 0)), dialect: dialectOf(t, version)}
	for range 4 {
		var id gtid.UUID
		for i := range id {
			id[i] = byte(w.Uint32())
		}
		w.uuids = append(w.uuids, id)
	}
	return w
}
