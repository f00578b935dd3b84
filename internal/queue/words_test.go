package queue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	driversql "github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/mysql"
)

func TestIDsAreUUIDsOfVersion7InOrderOfTime(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_800_000_000_123)
	id := NewID(at)
	again, err := ParseID(id.String())
	if err != nil || again != id || !again.Time().Equal(at) {
		t.Fatal(id, again, err)
	}
	if later := NewID(at.Add(time.Millisecond)); later.String() <= id.String() {
		t.Fatal("not in order")
	}
	for _, bad := range []string{"", "x", strings.ToUpper(id.String()[:35]), "019a9d2e-7c40-4000-8000-0123456789ab", "019a9d2e-7c40-7000-0000-0123456789ab", "019a9d2e_7c40-7000-8000-0123456789ab", "019a9d2e-7c40-7000-8000-0123456789ag"} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func someRecord() *record {
	return &record{kind: kindWrite, id: NewID(time.UnixMilli(1e12)), key: "k", operation: "op", by: "me", at: time.UnixMicro(1e15).UTC(), session: 1, stmts: []stmt{
		{
			sql: "INSERT INTO t VALUES (\x00,\x00,\x00,\x00,\x00,\x00,\x00)", min: 1, max: 1, random: true,
			args: []Value{Null(), Int(-5), Uint(1 << 63), number("1.50"), Text("é'"), Bytes([]byte{0, 1}), Time(time.UnixMicro(5))},
		},
		{sql: "DELETE FROM t", max: -1, resetID: true},
	}}
}

func TestFramesGiveBackWhatWasPutIn(t *testing.T) {
	t.Parallel()
	in := someRecord()
	b := encodeFrame([]*record{in, in}, in.at)
	out, err := decodeFrame(b)
	if err != nil || len(out) != 2 || !reflect.DeepEqual(&out[1], in) {
		t.Fatalf("%+v\n%+v\n%v", out, in, err)
	}
	for i := range b {
		if _, err := decodeFrame(b[:i]); err == nil {
			t.Fatalf("a frame cut at %d was taken", i)
		}
	}
	other := *in
	other.by, other.at = "you", time.Now()
	if in.digest() != other.digest() {
		t.Error("a retry by somebody else, later, is another write")
	}
	other.key = "k2"
	if in.digest() == other.digest() {
		t.Error("another key is the same write")
	}
}

func FuzzDecodeFrame(f *testing.F) {
	r := someRecord()
	f.Add(encodeFrame([]*record{r}, r.at))
	f.Add([]byte("PQF1\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := decodeFrame(b)
		if err != nil {
			return
		}
		var again []*record
		for i := range out {
			again = append(again, &out[i])
			var pk packet
			pk.write(&out[i]) // must not trip over any record that decodes
		}
		if len(again) == 0 {
			return
		}
		body := frameMagic
		body = append(bytes.Clone(body), byte(len(again)))
		if len(again) < 128 {
			for _, r := range again {
				body = r.append(body)
			}
			if _, err := decodeFrame(body); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestParametersTakeWhatTheyDeclare(t *testing.T) {
	t.Parallel()
	num := func(s string) *json.Number { n := json.Number(s); return &n }
	cases := []struct {
		name  string
		param Param
		good  []string
		bad   []string
	}{
		{"a whole number in its range", Param{Type: "int", Min: num("1"), Max: num("10")}, []string{"1", "10"}, []string{"0", "11", "1.5", `"1"`, "true", "null", "1e1", "99999999999999999999"}},
		{"a number", Param{Type: "number", Max: num("0.5")}, []string{"0.5", "-1e10", "0"}, []string{"0.51", "1e400", `"0"`, "{}", "[]"}},
		{"text with a length", Param{Min: num("2"), Max: num("3")}, []string{`"éé"`, `"abc"`}, []string{`"a"`, `"abcd"`, "12", "{}"}},
		{"text with a pattern that must match all of it", Param{Pattern: "[a-z]+"}, []string{`"abc"`}, []string{`"abc1"`, `""`, `"a\nb"`}},
		{"an enum", Param{Type: "enum", Values: []string{"a", "b"}}, []string{`"a"`}, []string{`"c"`, `""`}},
		{"a date", Param{Type: "date"}, []string{`"2024-02-29"`}, []string{`"2023-02-29"`, `"29.2.2024"`}},
		{"a time", Param{Type: "time"}, []string{`"2024-02-29T10:00:00Z"`, `"2024-02-29T10:00:00.123+02:00"`}, []string{`"2024-02-29 10:00:00"`, `"0001-01-01T00:00:00Z"`}},
		{"bytes", Param{Type: "bytes", Max: num("2")}, []string{`"AAA="`}, []string{`"AAAA"`, `"?"`}},
		{"a uuid", Param{Type: "uuid"}, []string{`"019a9d2e-7c40-4000-8000-0123456789AB"`}, []string{`"x"`}},
		{"JSON", Param{Type: "json", Max: num("10")}, []string{`{"a":1}`, "[1]"}, []string{`{"a":"toolong"}`}},
		{"something optional", Param{Type: "int", Optional: true}, []string{"null", "1"}, []string{`""`}},
		{"text without attempts", Param{}, []string{`"O'Brien"`, `"Tom & Jerry <3"`, `"50% off; today"`}, []string{`"' OR '1'='1' -- "`, `"1; DROP TABLE users--"`, `"<script>alert(1)</script>"`, `"<img src=x onerror=alert(1)>"`, `"x' UNION SELECT password FROM users#"`}},
		{"text that is free", Param{Free: true}, []string{`"' OR '1'='1' -- "`}, nil},
	}
	for _, c := range cases {
		c.param.Name = "p"
		p, err := c.param.compile()
		if err != nil {
			t.Fatal(c.name, err)
		}
		for _, s := range c.good {
			if _, prob := p.value(json.RawMessage(s)); prob != nil {
				t.Errorf("%s: %s was refused: %v", c.name, s, prob)
			}
		}
		for _, s := range c.bad {
			if v, prob := p.value(json.RawMessage(s)); prob == nil {
				t.Errorf("%s: %s was taken as %v", c.name, s, v)
			}
		}
	}
}

func FuzzParam(f *testing.F) {
	var ps []*param
	for _, typ := range types {
		d := Param{Name: "p", Type: typ}
		if typ == "enum" {
			d.Values = []string{"a"}
		}
		p, err := d.compile()
		if err != nil {
			f.Fatal(err)
		}
		ps = append(ps, p)
	}
	f.Add(0, "1")
	f.Add(3, `"x"`)
	f.Fuzz(func(t *testing.T, n int, raw string) {
		if !json.Valid([]byte(raw)) {
			return
		}
		p := ps[uint(n)%uint(len(ps))]
		v, prob := p.value(json.RawMessage(raw))
		if prob != nil {
			return
		}
		// Whatever it was, it is one literal: a guard that reads it finds one token.
		toks, err := lex("INSERT INTO t VALUES (" + string(v.appendLiteral(nil)) + ")")
		if p.Type == "text" || p.Type == "json" { // NUL is escaped, so lex takes it
			if err != nil {
				t.Fatal(err)
			}
		}
		if n := len(toks); err != nil || n > 9 {
			t.Fatalf("%s became %d tokens: %v", raw, n, err)
		}
	})
}

func TestOperationsReportAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	one, two := int64(1), int64(2)
	_, err := NewOperations([]Operation{
		{Name: "Bad Name", Statements: []Statement{{SQL: "DELETE FROM t"}}},
		{Name: "a", Statements: []Statement{{SQL: "DROP TABLE t"}}, Params: []Param{{Name: "unused"}}},
		{Name: "b", Key: "{missing}", Statements: []Statement{{SQL: "DELETE FROM t WHERE a=:nope"}}},
		{Name: "c", Statements: []Statement{{SQL: "DELETE FROM t WHERE a=?"}}},
		{Name: "d", Statements: []Statement{{SQL: "DELETE FROM t", Rows: &one, MaxRows: &two}}},
		{Name: "e", Statements: []Statement{{SQL: "INSERT INTO t VALUES (LAST_INSERT_ID())"}}},
		{Name: "f"},
		{Name: "g", Params: []Param{{Name: "x", Type: "blob"}}, Statements: []Statement{{SQL: "DELETE FROM t"}}},
	})
	for _, want := range []string{"Bad Name", "only INSERT", `"unused" is never used`, "{missing}", ":nope", "not ?", "exclude", "LAST_INSERT_ID", "no statements", "blob"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

func TestHostileRequestsAreRefusedWithTheRightStatus(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"params":`, 1000)
	for in, status := range map[string]int{
		``: 400, `{`: 400, `[]`: 400, `"x"`: 400, `{"key":1}`: 400, `{"nosuch":1}`: 400, `{} {}`: 400, deep: 400, "{\"key\":\"\xff\"}": 400, "\xef\xbb\xbf{}": 400,
	} {
		if _, p := Decode([]byte(in)); p == nil || p.Status != status {
			t.Errorf("%.40q: %v", in, p)
		}
	}
	ops, err := NewOperations([]Operation{{Name: "op", Params: []Param{{Name: "a", Type: "int"}}, Statements: []Statement{{SQL: "DELETE FROM t WHERE a=:a"}}}})
	if err != nil {
		t.Fatal(err)
	}
	s := &Service{ops: ops, limits: Limits{WriteBytes: 1000}.withDefaults(), window: time.Hour, guards: map[guardKey]compiled{}}
	full := Caller{Name: "x", Operations: []string{"op"}, SQL: true}
	for in, want := range map[string]string{
		`{"key":"k"}`: "bad-write",
		`{"key":"k","operation":"op","statements":[{"sql":"x"}]}`:                                                   "bad-write",
		`{"key":"k","operation":"other"}`:                                                                           "not-allowed",
		`{"key":"k","operation":"op"}`:                                                                              "missing",
		`{"operation":"op","params":{"a":1}}`:                                                                       "missing",
		`{"key":"k","operation":"op","params":{"a":"1"}}`:                                                           "wrong-type",
		`{"key":"k","operation":"op","params":{"a":1,"b":2}}`:                                                       "unknown-parameter",
		`{"key":"k","id":"x","operation":"op","params":{"a":1}}`:                                                    "bad-id",
		`{"key":"` + strings.Repeat("k", 256) + `","operation":"op","params":{"a":1}}`:                              "out-of-range",
		`{"key":"k","statements":[{"sql":"DELETE FROM t WHERE a=?"}]}`:                                              "bad-args",
		`{"key":"k","statements":[{"sql":"DELETE FROM t WHERE a=?","args":[[]]}]}`:                                  "wrong-type",
		`{"key":"k","statements":[{"sql":"DELETE FROM t WHERE a=?","args":["' OR 1=1 -- "]}]}`:                      "suspicious-text",
		`{"key":"k","statements":[{"sql":"DELETE FROM t WHERE a='` + strings.Repeat("x", 1000) + `'"}]}`:            "too-large",
		`{"key":"k","id":"` + NewID(time.Now().Add(-2*time.Hour)).String() + `","operation":"op","params":{"a":1}}`: "id-too-old",
		`{"key":"k","id":"` + NewID(time.Now().Add(time.Hour)).String() + `","operation":"op","params":{"a":1}}`:    "bad-id",
		`{"key":"k","operation":"op","params":{"a":1}}`:                                                             "",
	} {
		w, p := Decode([]byte(in))
		if p != nil {
			t.Errorf("%.60s: %v", in, p)
			continue
		}
		_, p = s.build(w, full, time.Now())
		if p == nil && want != "" || p != nil && p.Kind != want {
			t.Errorf("%.80s: %v, expected %s", in, p, want)
		}
	}
	if _, p := s.build(Write{Key: "k", Statements: []Statement{{SQL: "DELETE FROM t"}}}, Caller{}, time.Now()); p == nil || p.Status != 403 {
		t.Error("SQL without the right:", p)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"key":"k","operation":"op","params":{"a":1}}`))
	f.Add([]byte(`{"key":"k","statements":[{"sql":"DELETE FROM t WHERE a=?","args":[1.5,"x",null,true,{"bytes":"AA=="}]}]}`))
	ops, err := NewOperations([]Operation{{Name: "op", Params: []Param{{Name: "a", Type: "int"}}, Statements: []Statement{{SQL: "DELETE FROM t WHERE a=:a"}}}})
	if err != nil {
		f.Fatal(err)
	}
	s := &Service{ops: ops, limits: Limits{}.withDefaults(), window: time.Hour, guards: map[guardKey]compiled{}}
	c := Caller{Operations: []string{"*"}, SQL: true, Call: true}
	f.Fuzz(func(t *testing.T, b []byte) {
		w, p := Decode(b)
		if p != nil {
			return
		}
		r, p := s.build(w, c, time.Now())
		if p != nil {
			return
		}
		if _, err := decodeRecord(r.append(nil)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWhatToDoAfterAnError(t *testing.T) {
	t.Parallel()
	sqlErr := func(n uint16) error { return fmt.Errorf("wrapped: %w", &driversql.MySQLError{Number: n}) }
	for _, c := range []struct {
		name       string
		err        error
		committing bool
		size       int
		tries      int
		want       act
	}{
		{"the statement's own fault is looked for one by one", sqlErr(1062), false, 100, 1, redo},
		{"a missing table as well", sqlErr(1146), false, 1, 1, redo},
		{"an unknown number counts as the statement's", sqlErr(9999), false, 100, 1, redo},
		{"the ledger refuses: some are known", sqlErr(1062), true, 100, 1, known},
		{"a deadlock is tried again", sqlErr(1213), false, 100, 1, again},
		{"and split when it repeats", sqlErr(1213), false, 100, 3, halve},
		{"but one write is tried for ever", sqlErr(1213), false, 1, 1000, again},
		{"a failed certification is tried again", sqlErr(1180), true, 10, 2, again},
		{"an old certification error as well", sqlErr(3101), true, 10, 3, halve},
		{"too large is split", sqlErr(1197), true, 8, 1, halve},
		{"and one that is too large is set aside", sqlErr(1197), true, 1, 1, reject},
		{"a lock is waited for a while", sqlErr(1205), false, 100, 2, again},
		{"and then only by the one that needs it", sqlErr(1205), false, 100, 3, redo},
		{"read only: another member may be the writer", sqlErr(1290), false, 1, 1, reconnect},
		{"the group refuses: too large, perhaps", sqlErr(3100), true, 10, 3, halve},
		{"a lost connection at COMMIT: read the position", driversql.ErrInvalidConn, true, 100, 1, reconnect},
		{"a row count: one by one", &rowsError{}, false, 100, 1, redo},
		{"a statement that committed", errImplicit, false, 1, 1, halt},
		{"not where we left it", errMoved, false, 1, 1, reconnect},
		{"something nobody knows", errors.New("?"), false, 1, 1, reconnect},
	} {
		if got := decide(c.err, c.committing, c.size, c.tries); got != c.want {
			t.Errorf("%s: %s, expected %s", c.name, got, c.want)
		}
	}
	if faultOf(sqlErr(1290)) != notItsFault || faultOf(sqlErr(1205)) != waits || faultOf(sqlErr(1062)) != counts || faultOf(driversql.ErrInvalidConn) != notItsFault {
		t.Error("faults are mixed up")
	}
	_ = mysql.Fine
}

func TestBackOffGrowsToItsLimit(t *testing.T) {
	t.Parallel()
	b := backoff{200 * time.Millisecond, time.Minute}
	var sum time.Duration
	for n := 1; n < 25; n++ {
		if b.after(n) < b.after(n-1) || b.after(n) > time.Minute {
			t.Fatal(n, b.after(n))
		}
		sum += b.after(n)
	}
	if sum < 10*time.Minute || sum > 20*time.Minute {
		t.Error("25 attempts take", sum)
	}
}
