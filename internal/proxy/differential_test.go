package proxy

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql/wire"
)

// A random sequence of commands is played directly and through the proxy, on
// the same fresh schema; every byte of every answer has to be the same.
func TestRandomCommandsGetTheSameBytesDirectlyAndThroughTheProxy(t *testing.T) {
	t.Parallel()
	sequences := 6
	if v, err := strconv.Atoi(os.Getenv("PERDURE_SEQUENCES")); err == nil {
		sequences = v
	}
	first, _ := strconv.ParseUint(os.Getenv("PERDURE_FIRST"), 10, 64)
	only, err := strconv.ParseUint(os.Getenv("PERDURE_SEED"), 10, 64)
	if err == nil {
		first, sequences = only, 1
	}
	for name, change := range map[string]func(*Config){"connection": func(*Config) {}, "transaction": transaction} {
		t.Run("pooling by "+name, func(t *testing.T) {
			t.Parallel()
			// Nobody is asked about commits here, but they are marked.
			r := alone(t, change, func(c *Config) { c.Outcomes = outcomes{} })
			root := r.members[0].Root(t)
			exec(t, root, "SET GLOBAL sync_binlog=0, GLOBAL innodb_flush_log_at_trx_commit=0")
			commands := 0
			for seed := first; seed < first+uint64(sequences); seed++ {
				want := play(t, root, r.members[0].Address(), seed, nil)
				for _, mode := range []Mode{ReadWrite, Split} {
					commands += len(play(t, root, r.proxy.Addr(mode).String(), seed, want))
					if t.Failed() {
						t.FailNow()
					}
				}
			}
			t.Logf("%d sequences on the listeners rw and split, %d commands compared", sequences, commands)
		})
	}
}

type step struct {
	name   string
	answer []byte
}

func play(t *testing.T, root *sql.DB, addr string, seed uint64, want []step) (got []step) {
	t.Helper()
	// The server notices a little later that the one before has left, and what that
	// held would be in the way of the same names.
	until(t, 30*time.Second, "nothing is left of the play before", func() bool {
		return ask(t, root, `SELECT (SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE OBJECT_TYPE = 'USER LEVEL LOCK') +
			(SELECT COUNT(*) FROM performance_schema.threads t JOIN performance_schema.events_transactions_current e USING (THREAD_ID)
			WHERE t.PROCESSLIST_USER = '`+testUser+`' AND e.STATE = 'ACTIVE' AND e.XA_STATE IS NOT NULL)`) == "0"
	})
	exec(t, root, "DROP DATABASE IF EXISTS test", "DROP DATABASE IF EXISTS two", "CREATE DATABASE test", "CREATE DATABASE two",
		"CREATE TABLE test.t (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(200), b BLOB)", "CREATE TABLE two.t (id INT PRIMARY KEY)",
		"INSERT INTO test.t (v) VALUES ('a'),('b'),('c'),('d')",
		"CREATE PROCEDURE test.p(IN n INT, OUT o INT) BEGIN SELECT n; SELECT v FROM test.t ORDER BY id LIMIT 2; SET o = n * 2; END",
		"CREATE PROCEDURE test.bad() BEGIN SELECT 1; SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END")
	rnd := rand.New(rand.NewPCG(seed, 7))
	caps := wire.ClientMultiResults | wire.ClientPSMultiResults | wire.ClientLocalFiles
	for _, c := range []uint32{wire.ClientDeprecateEOF, wire.ClientSessionTrack, wire.ClientQueryAttributes, wire.ClientMultiStatements, wire.ClientFoundRows} {
		if rnd.IntN(2) == 0 {
			caps |= c
		}
	}
	rc, err := rawLogin(addr, caps, testUser, testPassword)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.close()
	// FOUND_ROWS() of a session that has not asked anything yet is not ours to
	// keep: we asked something on its connection.
	if _, err := rc.query("SELECT 1"); err != nil {
		t.Fatal(err)
	}
	g := &generator{rnd: rnd, caps: caps}
	for i := range 40 {
		name, req, shape := g.next()
		rc.file = g.file
		var answer []byte
		if req[4] == wire.ComChangeUser {
			err = rc.c.Write(req)
			if err == nil {
				err = rc.finishAuth(testPassword)
			}
		} else {
			if os.Getenv("PERDURE_SEED") != "" {
				t.Log(addr, name)
			}
			answer, err = rc.do(req, shape)
		}
		if err != nil {
			t.Fatalf("seed %d, step %d, %s: %v", seed, i, name, err)
		}
		switch {
		case shape == wire.ShapeString:
			answer = nil // statistics differ every time
		case shape == wire.ShapePrepare && answer[4] == 0:
			// Ids are the server's business; only what they name has to be the same.
			g.stmts = append(g.stmts, prepared{id: binary.LittleEndian.Uint32(answer[5:]), at: i, params: int(binary.LittleEndian.Uint16(answer[11:])), reads: strings.HasPrefix(name, "prepare SELECT")})
			clear(answer[5:9])
		case caps&wire.ClientSessionTrack != 0 && strings.Contains(name, "START TRANSACTION READ ONLY"):
			answer = nil // servers say at times that something changed, and then nothing
		case shape == wire.ShapeOK && (name == "ping" || strings.HasPrefix(name, "reset ")) && answer[4] == 0:
			// It repeats the affected rows before, and may say where a statement left
			// the schema that was prepared in another.
			answer = answer[4:5]
		case name == "set option":
			answer = answer[:5] // it repeats the number of warnings before
		case caps&wire.ClientSessionTrack != 0 && (shape == wire.ShapeOK || shape == wire.ShapeQuery || shape == wire.ShapeExecute):
			answer = plainEnd(t, answer, caps, strings.Contains(name, "USE ") || strings.HasPrefix(name, "init db"))
		case bytes.Contains(answer, []byte("has no open cursor")):
			answer = nil // it names the id
		}
		// ROW_COUNT() is about the statement directly before, and FOUND_ROWS() too, if
		// that had rows; what an earlier one left may be on another connection by then.
		g.stated = shape == wire.ShapeQuery || shape == wire.ShapeExecute
		g.rows = g.stated && len(answer) > 4 && answer[4] > 0 && answer[4] < 0xfb
		got = append(got, step{name, answer})
		if want != nil && !bytes.Equal(want[i].answer, answer) {
			var story string
			for _, s := range got {
				story += "\n  " + s.name
			}
			t.Errorf("seed %d, %s, capabilities %x, step %d, %s:\ndirectly %q\n through %q\nafter%s", seed, addr, caps, i, name, want[i].answer, answer, story)
			return got
		}
	}
	return got
}

// plainEnd is an answer whose last packet, if it is an OK, is without what a
// server adds when it gets round to it: that the schema is what it was, or that
// something changed, and then nothing.
func plainEnd(t *testing.T, answer []byte, caps uint32, schema bool) []byte {
	t.Helper()
	const changed = 0x4000
	at := 0
	for size := 0; at < len(answer); at += 4 + size {
		size = int(answer[at]) | int(answer[at+1])<<8 | int(answer[at+2])<<16
		if at+4+size == len(answer) {
			break
		}
	}
	last := answer[at+4:]
	if len(last) == 0 || last[0] != 0 && (last[0] != 0xfe || caps&wire.ClientDeprecateEOF == 0) {
		return answer
	}
	ok, err := wire.ParseOK(last, caps)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Appendf(bytes.Clone(answer[:at]), "%d %d %x %d %q", ok.Affected, ok.InsertID, ok.Status&^changed, ok.Warnings, ok.Info)
	for rest := ok.Tracks; len(rest) > 0; {
		kind, item, next, err := wire.NextTrack(rest)
		if err != nil {
			t.Fatal(err)
		}
		if kind != wire.TrackSchema || schema {
			out = fmt.Appendf(out, " %d %q", kind, item)
		}
		rest = next
	}
	return out
}

// generator makes random requests.
type generator struct {
	rnd   *rand.Rand
	caps  uint32
	stmts []prepared
	file  []byte
	// stated: the command before was a statement; rows: and it had some.
	stated, rows bool
}

type prepared struct {
	id     uint32
	at     int // step that made it, its name in the story
	params int
	typed  bool
	cursor bool // executed with one last
	reads  bool // so that it can have one
}

const foundRows, rowCount = "SELECT FOUND_ROWS()", "SELECT ROW_COUNT()"

var queries = []string{
	"SELECT 1", "SELECT id, v FROM t ORDER BY id", "SELECT * FROM nowhere", "SELEC 1", "INSERT INTO t (v) VALUES ('x'),('y')",
	"INSERT INTO t (v) VALUES ('e') ON DUPLICATE KEY UPDATE v='f'", "UPDATE t SET v = CONCAT(v, '.') WHERE id < 3",
	"DELETE FROM t WHERE id > 6", "SELECT LAST_INSERT_ID()", "SELECT ROW_COUNT()", "SHOW WARNINGS", "SELECT 1/0", "SELECT CAST('a' AS SIGNED)",
	"SET @a = 5", "SET @b = CONCAT('p', 'q'), @c = 1.5", "SELECT @a, @b, @c, @d", "SELECT @d := 7", "SELECT v INTO @e FROM t WHERE id = 1", "SELECT @e",
	"SET SESSION sql_mode = ''", "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'", "SELECT @@sql_mode", "SET NAMES latin1", "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
	"SELECT @@collation_connection, @@character_set_client, @@character_set_results", "SET autocommit = 0", "SET autocommit = 1", "SELECT @@autocommit",
	"BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s", "START TRANSACTION READ ONLY", "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
	"SELECT @@transaction_isolation", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "USE two", "USE test", "SELECT DATABASE()", "CREATE TEMPORARY TABLE IF NOT EXISTS tmp (a INT)",
	"INSERT INTO tmp VALUES (1)", "SELECT * FROM tmp", "DROP TEMPORARY TABLE IF EXISTS tmp", "CALL test.p(3, @o)", "SELECT @o", "CALL test.bad()", "SELECT GET_LOCK('l', 0)", "SELECT RELEASE_LOCK('l')",
	"SELECT IS_USED_LOCK('l') IS NULL", "PREPARE ps FROM 'SELECT v FROM test.t WHERE id = ?'", "SET @one = 1", "EXECUTE ps USING @one", "DEALLOCATE PREPARE ps",
	"SELECT SQL_CALC_FOUND_ROWS * FROM test.t LIMIT 1", "SELECT FOUND_ROWS()", "LOCK TABLES test.t WRITE", "UNLOCK TABLES", "HANDLER test.t OPEN", "HANDLER t READ FIRST", "HANDLER t CLOSE",
	"SELECT REPEAT('x', 20000)", "SELECT REPEAT('y', 300000)", "SELECT a.id FROM test.t a, test.t b, test.t c", "LOAD DATA LOCAL INFILE 'f' INTO TABLE test.t (v)", "DO 1", "SET time_zone = '+02:00'", "SELECT @@time_zone",
	"SELECT NULL, '', 1.5, 2e0, _binary 'z'", "EXPLAIN SELECT 1", "SELECT 'a;b' /* ; */ -- ;", "CREATE TABLE IF NOT EXISTS test.n (a INT PRIMARY KEY)", "DROP TABLE IF EXISTS test.n", "INSERT INTO test.n VALUES (1)",
	"SET timestamp = 1000", "SELECT NOW() < 20000101000000", "SET timestamp = DEFAULT", "SELECT /* perdure:reader */ 2", "SET group_concat_max_len = 9", "SELECT @@group_concat_max_len", "SET @a = NULL",
	"SET character_set_results = NULL", "XA START 'x'", "XA END 'x'", "XA ROLLBACK 'x'", "SET SESSION wait_timeout = 1000", "SELECT @@wait_timeout", "ALTER TABLE test.t COMMENT 'c'", "TRUNCATE two.t",
	"SHOW COUNT(*) WARNINGS", "GET DIAGNOSTICS @n = NUMBER", "SELECT @n", "SHOW TABLES", "SELECT JSON_OBJECT('a', 1)", "SET SESSION lc_time_names = 'de_DE'", "SELECT @@lc_time_names, @@identity",
}

var statements = []string{
	"SELECT ?", "SELECT id, v FROM test.t WHERE id >= ? ORDER BY id", "INSERT INTO test.t (v) VALUES (?)", "SELECT 1", "SELECT nothing",
	"SELECT ?, ?", "UPDATE test.t SET b = ? WHERE id = 1", "CALL test.p(?, @o)", "SET @a = 9", "SELECT LAST_INSERT_ID()",
}

func (g *generator) next() (name string, req []byte, shape wire.Shape) {
	switch n := g.rnd.IntN(100); {
	case n < 50:
		return g.query()
	case n < 60:
		s := statements[g.rnd.IntN(len(statements))]
		return "prepare " + s, wire.AppendCommand(nil, wire.ComStmtPrepare, s), wire.ShapePrepare
	case n < 78:
		return g.execute()
	case n < 82:
		// Errors about statements that do not exist or have no cursor are ours,
		// and the server's count of warnings does not know of them;
		// so they are left out.
		id := g.anyStmt(func(p prepared) bool { return p.cursor && p.reads })
		if id == 0 {
			return g.query()
		}
		return fmt.Sprint("fetch ", id), wire.AppendCommand(nil, wire.ComStmtFetch, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, id), 1)), wire.ShapeFetch
	case n < 84:
		id := g.anyStmt(func(prepared) bool { return true })
		if id == 0 {
			return g.query()
		}
		return fmt.Sprint("reset ", id), wire.AppendCommand(nil, wire.ComStmtReset, binary.LittleEndian.AppendUint32(nil, id)), wire.ShapeOK
	case n < 86:
		id := g.anyStmt(func(prepared) bool { return true })
		if id == 0 {
			return g.query()
		}
		for i := range g.stmts {
			if g.stmts[i].id == id {
				g.stmts = append(g.stmts[:i], g.stmts[i+1:]...)
				break
			}
		}
		return fmt.Sprint("close ", id), wire.AppendCommand(nil, wire.ComStmtClose, binary.LittleEndian.AppendUint32(nil, id)), wire.ShapeNone
	case n < 88:
		name := []string{"test", "two", "nowhere"}[g.rnd.IntN(3)]
		return "init db " + name, wire.AppendCommand(nil, wire.ComInitDB, name), wire.ShapeOK
	case n < 90:
		return "ping", wire.AppendCommand(nil, wire.ComPing, ""), wire.ShapeOK
	case n < 91:
		return "statistics", wire.AppendCommand(nil, wire.ComStatistics, ""), wire.ShapeString
	case n < 92:
		return "field list", wire.AppendCommand(nil, wire.ComFieldList, "t\x00%"), wire.ShapeFields
	case n < 94:
		return "set option", wire.AppendCommand(nil, wire.ComSetOption, []byte{byte(g.rnd.IntN(2)), 0}), wire.ShapeOK
	case n < 96:
		g.stmts = nil
		return "reset connection", wire.AppendCommand(nil, wire.ComResetConnection, ""), wire.ShapeOK
	case n < 97:
		g.stmts = nil
		body := append([]byte(testUser), 0, 0)
		body = append(append(body, "test"...), 0, 45, 0)
		body = append(append(body, wire.PluginCachingSHA2...), 0)
		return "change user", wire.AppendCommand(nil, wire.ComChangeUser, body), wire.ShapeNone
	}
	var sql string
	for i := range 1 + g.rnd.IntN(3) {
		if i > 0 {
			sql += "; "
		}
		q := queries[g.rnd.IntN(len(queries))]
		if q == foundRows || q == rowCount {
			q = "DO 2"
		}
		sql += q
		if strings.HasPrefix(q, "SET NAMES") || strings.HasPrefix(q, "SET character") {
			g.stmts = nil
		}
	}
	g.file = []byte("m1\nm2\n")
	return "multi " + sql, wire.AppendQuery(nil, g.caps, sql), wire.ShapeQuery
}

func (g *generator) query() (string, []byte, wire.Shape) {
	q := queries[g.rnd.IntN(len(queries))]
	if q == foundRows && !g.rows || q == rowCount && !g.stated {
		q = "DO 2"
	}
	if strings.HasPrefix(q, "SET NAMES") || strings.HasPrefix(q, "SET character") {
		// One that is prepared again elsewhere has the lengths of the character set
		// of that moment.
		g.stmts = nil
	}
	g.file = []byte("l1\nl2\n")
	if g.rnd.IntN(3) == 0 {
		g.file = nil
	}
	if g.caps&wire.ClientQueryAttributes != 0 && g.rnd.IntN(3) == 0 {
		body := []byte{1, 1, 0, 1, 0xfe, 0}
		body = wire.AppendLenEncBytes(body, "trace")
		body = wire.AppendLenEncBytes(body, "abc")
		return "attr " + q, wire.AppendCommand(nil, wire.ComQuery, append(body, q...)), wire.ShapeQuery
	}
	return q, wire.AppendQuery(nil, g.caps, q), wire.ShapeQuery
}

func (g *generator) anyStmt(fits func(prepared) bool) uint32 {
	var ids []uint32
	for _, p := range g.stmts {
		if fits(p) {
			ids = append(ids, p.id)
		}
	}
	if len(ids) == 0 {
		return 0
	}
	return ids[g.rnd.IntN(len(ids))]
}

func (g *generator) execute() (string, []byte, wire.Shape) {
	if len(g.stmts) == 0 {
		return g.query()
	}
	s := &g.stmts[g.rnd.IntN(len(g.stmts))]
	cursor := byte(0)
	// A statement uses cursors always or never: 9.7.4 answers with a broken result
	// when one that had a cursor is executed again without.
	if s.at%3 == 0 {
		cursor = 1
	}
	s.cursor = cursor == 1
	named := g.caps&wire.ClientQueryAttributes != 0
	flags := cursor
	if named {
		flags |= 8
	}
	body := binary.LittleEndian.AppendUint32(nil, s.id)
	body = append(body, flags, 1, 0, 0, 0)
	if s.params > 0 || named {
		if named {
			body = append(body, byte(s.params))
		}
	}
	name := fmt.Sprintf("execute %d cursor %d", s.id, cursor)
	if s.params > 0 {
		body = append(body, 0)
		if s.typed && g.rnd.IntN(2) == 0 {
			name += " untyped"
			body = append(body, 0)
		} else {
			body = append(body, 1)
			for range s.params {
				body = append(body, 0xfe, 0)
				if named {
					body = append(body, 0)
				}
			}
			s.typed = true
		}
		for range s.params {
			body = wire.AppendLenEncBytes(body, strconv.Itoa(g.rnd.IntN(9)))
		}
	}
	return name, wire.AppendCommand(nil, wire.ComStmtExecute, body), wire.ShapeExecute
}
