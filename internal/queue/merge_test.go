package queue

import (
	"strings"
	"testing"
	"time"
)

func TestOnlyPlainSingleRowInsertsAreShared(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"INSERT INTO t (a, b) VALUES (?, ?)":                   "(?, ?)",
		"insert t values(?,'a''b)',1.5,NULL)":                  "(?,'a''b)',1.5,NULL)",
		"INSERT INTO `values` VALUE (?, NOW(6), DEFAULT, -1)":  "(?, NOW(6), DEFAULT, -1)",
		"INSERT INTO s.t (`values`) VALUES (TRUE)":             "(TRUE)",
		"INSERT INTO t VALUES ()":                              "()",
		"INSERT INTO t VALUES (?), (?)":                        "",
		"INSERT INTO t VALUES (?) ON DUPLICATE KEY UPDATE a=1": "",
		"INSERT INTO t VALUES (?) AS new":                      "",
		"INSERT INTO t VALUES ROW(?)":                          "",
		"INSERT INTO t (a) SELECT ?":                           "",
		"INSERT INTO t SET a = ?":                              "",
		"INSERT INTO t SELECT a FROM (VALUES ROW(?)) AS v":     "",
		"INSERT IGNORE INTO t VALUES (?)":                      "",
		"INSERT DELAYED INTO t VALUES (?)":                     "",
		"INSERT INTO t VALUES ((SELECT MAX(a) FROM u))":        "",
		"INSERT INTO t (a, b) VALUES (1, a + 1)":               "",
		"INSERT INTO t VALUES (LAST_INSERT_ID())":              "",
		"INSERT INTO t VALUES (RAND())":                        "",
		"INSERT INTO t VALUES (own(?))":                        "",
		"INSERT INTO t VALUES (`a`)":                           "",
		"INSERT INTO t PARTITION (p0) VALUES (?)":              "(?)",
		"REPLACE INTO t VALUES (?)":                            "",
		"UPDATE t SET a = ? WHERE b = ?":                       "",
		"DELETE FROM t WHERE a = ?":                            "",
		"INSERT INTO t VALUES (?":                              "",
		"INSERT INTO t VALUES":                                 "",
		"INSERT INTO t VALUES (?))":                            "",
	} {
		text := strings.ReplaceAll(sql, "?", mark)
		got := ""
		if at := findRow(text); at > 0 {
			got = strings.ReplaceAll(text[at:], mark, "?")
		}
		if got != want {
			t.Errorf("%s: the row is %q, not %q", sql, got, want)
		}
	}
}

func TestWhatIsSharedKeepsItsOrderAndItsPlace(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 0).UTC()
	insert := func(v int64, at time.Time) item {
		return item{rec: &record{kind: kindWrite, at: at, stmts: []stmt{{sql: "INSERT INTO t VALUES (\x00)", args: []Value{Int(v)}, max: -1}}}}
	}
	other := item{rec: &record{kind: kindWrite, at: at, stmts: []stmt{{sql: "UPDATE t SET a=\x00", args: []Value{Int(9)}, max: -1}}}}
	exactly2 := insert(8, at)
	exactly2.rec.stmts[0].min, exactly2.rec.stmts[0].max = 2, 2
	var pk packet
	spots := pk.writes([]item{insert(1, at), insert(2, at), other, insert(3, at), exactly2, insert(4, at), insert(5, at.Add(time.Second)), insert(6, at.Add(time.Second))})
	want := "SET timestamp=1700000000.000000;INSERT INTO t VALUES (1),(2);UPDATE t SET a=9;INSERT INTO t VALUES (3);INSERT INTO t VALUES (8);INSERT INTO t VALUES (4);" +
		"SET timestamp=1700000001.000000;INSERT INTO t VALUES (5),(6)"
	if string(pk.b) != want {
		t.Errorf("%s\ninstead of\n%s", pk.b, want)
	}
	statements := strings.Split(want, ";")
	for i, s := range spots {
		if !strings.Contains(statements[s.first], []string{"1", "2", "9", "3", "8", "4", "5", "6"}[i]) {
			t.Errorf("write %d is looked for in %q", i, statements[s.first])
		}
		if (s.shared == 2) != (i < 2 || i > 5) {
			t.Errorf("write %d is shared by %d", i, s.shared)
		}
	}
	rows := []int64{0, 2, 1, 1, 1, 1, 0, 1}
	if n, err := affected(insert(1, at), spots[0], rows); n != 1 || err != nil {
		t.Error(n, err)
	}
	if _, err := affected(exactly2, spots[4], rows); err == nil {
		t.Error("one row instead of two is taken")
	}
	if _, err := affected(insert(6, at), spots[7], rows); err == nil {
		t.Error("one row for two writes is taken")
	}
}

// Whatever the guard lets through and is shared has its row at the end, and
// with a second row it is still one INSERT that the guard lets through.
func FuzzFindRow(f *testing.F) {
	for _, s := range []string{"INSERT INTO t (a) VALUES (?, 'x', NOW(6))", "INSERT t VALUE(:a)", "insert into `a(` values ((1),-- \n ?)", "INSERT INTO t VALUES ()"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		c, p := guard(sql, allow{})
		if p != nil {
			return
		}
		at := findRow(c.sql)
		if at == 0 {
			return
		}
		row := c.sql[at:]
		twice, p := guard(strings.ReplaceAll(c.sql+","+row, mark, "?"), allow{})
		if p != nil || c.verb != "INSERT" || row[0] != '(' || row[len(row)-1] != ')' || len(twice.params) != 2*len(c.params) || strings.Count(row, mark) != len(c.params) {
			t.Errorf("%q is shared by its row %q: %v", c.sql, row, p)
		}
	})
}
