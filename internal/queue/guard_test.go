package queue

import (
	"strings"
	"testing"
)

func TestStatementsThatMayBeQueued(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"INSERT INTO t VALUES (?, ?)":                                     "INSERT INTO t VALUES (@, @)",
		"insert into t (a) values (:a) ;;":                                "insert into t (a) values (@)",
		"UPDATE t SET a=a+? WHERE b='it''s ?; DROP'":                      "UPDATE t SET a=a+@ WHERE b='it''s ?; DROP'",
		"UPDATE t /* a ? comment; */ SET a=1 -- the end ?\n WHERE b=?":    "UPDATE t SET a=1 WHERE b=@",
		"DELETE FROM `t``x` WHERE `a;b` = \"c\\\"?\"":                     "DELETE FROM `t``x` WHERE `a;b` = \"c\\\"?\"",
		"REPLACE INTO db.t SET a=NOW(6), b=RAND()":                        "REPLACE INTO db.t SET a=NOW(6), b=RAND()",
		"DELETE FROM t ORDER BY id LIMIT ?":                               "DELETE FROM t ORDER BY id LIMIT @",
		"WITH x AS (SELECT 1) DELETE FROM t WHERE a IN (SELECT * FROM x)": "WITH x AS (SELECT 1) DELETE FROM t WHERE a IN (SELECT * FROM x)",
		"INSERT INTO t SELECT a--1, 1e-5, .5, t.1a, 0x1f FROM s":          "INSERT INTO t SELECT a- -1, 1e-5, .5, t.1a, 0x1f FROM s",
		"UPDATE users SET user = 'x', version = 2, sys = 1":               "UPDATE users SET user = 'x', version = 2, sys = 1",
		"DELETE FROM t WHERE a=1--/**/ 2 AND b=?":                         "DELETE FROM t WHERE a=1- - 2 AND b=@",
		"INSERT INTO t (a) VALUES (LAST_INSERT_ID())":                     "INSERT INTO t (a) VALUES (LAST_INSERT_ID())",
	} {
		c, p := guard(in, allow{})
		if p != nil {
			t.Errorf("%s\n\trefused: %v", in, p)
		} else if got := strings.ReplaceAll(c.sql, mark, "@"); got != want {
			t.Errorf("%s\n\tbecame %s", in, got)
		}
	}
}

func TestStatementsThatMayNotBeQueued(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"", ";", "SELECT 1", "DROP TABLE t", "CREATE TABLE t (a INT)", "ALTER TABLE t ADD b INT", "TRUNCATE t", "RENAME TABLE a TO b",
		"BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK", "SAVEPOINT a", "XA START 'x'", "SET autocommit=0", "SET @a=1", "LOCK TABLES t WRITE", "UNLOCK TABLES",
		"GRANT ALL ON *.* TO a", "FLUSH LOGS", "KILL 1", "LOAD DATA INFILE 'x' INTO TABLE t", "HANDLER t OPEN", "PREPARE s FROM 'x'", "EXECUTE s", "DO SLEEP(1)",
		"CALL p()", "EXPLAIN DELETE FROM t", "WITH a AS (SELECT 1) SELECT * FROM a", "(DELETE FROM t)",
		"DELETE FROM t; DROP TABLE t", "DELETE FROM t;COMMIT",
		"INSERT INTO t VALUES (UUID())", "INSERT INTO t VALUES (uuid ())", "INSERT INTO t VALUES (sysdate())", "INSERT INTO t VALUES (CURRENT_USER)",
		"INSERT INTO t VALUES (USER())", "INSERT INTO t VALUES (CONNECTION_ID())", "INSERT INTO t VALUES (SLEEP(10))", "INSERT INTO t VALUES (`sleep`(10))",
		"UPDATE t SET a=BENCHMARK(1,1)", "UPDATE t SET a=GET_LOCK('x',1)", "UPDATE t SET a=LOAD_FILE('/etc/passwd')", "UPDATE t SET a=@x", "UPDATE t SET a=@@version",
		"UPDATE t SET a=@`x`", "INSERT INTO t SELECT 1 INTO OUTFILE '/tmp/x'", "UPDATE t SET a=(SELECT 1 INTO @x)", "DELETE FROM t WHERE a=(SELECT b FROM s INTO DUMPFILE 'x')",
		"DELETE FROM t LIMIT 1", "UPDATE t SET a=1 LIMIT 5",
		"DELETE FROM perdure.queue_ledger", "DELETE FROM `perdure` . queue_ledger", "UPDATE mysql.user SET a=1", "INSERT INTO t SELECT * FROM information_schema.tables",
		"INSERT /*! INTO */ t VALUES (1)", "INSERT /*+ SET_VAR(sql_mode='') */ INTO t VALUES (1)", "INSERT /*M! x */ INTO t VALUES (1)", "DELETE FROM t /* open",
		"DELETE FROM t /* a /* b */ */ WHERE 1", "INSERT INTO t VALUES ('open", "INSERT INTO t VALUES (\"open", "INSERT INTO `t", "INSERT INTO t VALUES ('\x00')",
	} {
		if c, p := guard(in, allow{}); p == nil {
			t.Errorf("%s\n\twas let through as %q", in, c.sql)
		} else if p.Status != 422 {
			t.Errorf("%s: status %d", in, p.Status)
		}
	}
	if _, p := guard("CALL p(?)", allow{call: true}); p != nil {
		t.Error(p)
	}
}

// What passes the guard is read the same way again: the guard cannot be led to
// store something other than what it looked at.
func FuzzGuard(f *testing.F) {
	for _, s := range []string{"INSERT INTO t VALUES (?)", "UPDATE `a` SET b='\\'' -- x\n", "DELETE FROM t /* */ WHERE a=:b", "WITH a AS (SELECT 1) UPDATE t SET a=.5e-3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		c, p := guard(in, allow{})
		if p != nil {
			return
		}
		if n := strings.Count(c.sql, mark); n != len(c.params) {
			t.Fatalf("%d marks, %d parameters", n, len(c.params))
		}
		again, p := guard(strings.ReplaceAll(c.sql, mark, "?"), allow{})
		if p != nil {
			t.Fatalf("%q became %q, which is refused: %v", in, c.sql, p)
		}
		if again.sql != c.sql {
			t.Fatalf("%q became %q and then %q", in, c.sql, again.sql)
		}
	})
}
