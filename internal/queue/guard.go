package queue

import (
	"fmt"
	"slices"
	"strings"
)

// compiled is a statement that may be stored: comments gone, every bound value
// a mark.
type compiled struct {
	sql     string
	params  []string // names in order of the marks; empty strings for "?"
	resetID bool
	random  bool
	verb    string
}

// allow widens what the guard lets through.
type allow struct {
	call bool // CALL of procedures
}

// Functions whose answer differs when a write is applied again elsewhere, or
// that reach outside the statement.
var forbiddenFuncs = setOf(`
	UUID UUID_SHORT SYSDATE USER CURRENT_USER SESSION_USER SYSTEM_USER CURRENT_ROLE CONNECTION_ID
	FOUND_ROWS ROW_COUNT VERSION SLEEP BENCHMARK GET_LOCK RELEASE_LOCK RELEASE_ALL_LOCKS IS_FREE_LOCK IS_USED_LOCK
	LOAD_FILE RANDOM_BYTES MASTER_POS_WAIT SOURCE_POS_WAIT WAIT_FOR_EXECUTED_GTID_SET
	WAIT_UNTIL_SQL_THREAD_AFTER_GTIDS PS_CURRENT_THREAD_ID PS_THREAD_ID ICU_VERSION
	ASYNCHRONOUS_CONNECTION_FAILOVER_ADD_SOURCE GROUP_REPLICATION_SET_AS_PRIMARY
	GROUP_REPLICATION_SWITCH_TO_SINGLE_PRIMARY_MODE GROUP_REPLICATION_SWITCH_TO_MULTI_PRIMARY_MODE
	KEYRING_KEY_FETCH KEYRING_KEY_GENERATE KEYRING_KEY_STORE KEYRING_KEY_REMOVE EXTRACTVALUE UPDATEXML`)

// Words that are forbidden without parentheses too.
var forbiddenWords = setOf(`CURRENT_USER OUTFILE DUMPFILE PROCEDURE HANDLER`)

var forbiddenSchemas = setOf(`PERDURE MYSQL PERFORMANCE_SCHEMA SYS INFORMATION_SCHEMA MYSQL_INNODB_CLUSTER_METADATA`)

var verbs = setOf(`INSERT REPLACE UPDATE DELETE WITH CALL`)

func setOf(words string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		m[w] = true
	}
	return m
}

// guard lets one DML statement through, or says in a sentence what it refuses.
// It is a list of what is allowed at the front (the verb) and of what is not
// behind it; the grants of the queue's MySQL account are the wall behind the
// guard, and the applier notices an implicit commit all the same.
func guard(sql string, a allow) (compiled, *Problem) {
	toks, err := lex(sql)
	if err != nil {
		return compiled{}, invalid("bad-sql", "the statement cannot be read: %v", err)
	}
	for len(toks) > 0 && toks[len(toks)-1].text == ";" && toks[len(toks)-1].kind == tokOp {
		toks = toks[:len(toks)-1]
	}
	if len(toks) == 0 {
		return compiled{}, invalid("bad-sql", "the statement is empty")
	}
	c := compiled{verb: upperWord(toks[0])}
	if !verbs[c.verb] {
		return c, refuse(toks[0], "only INSERT, REPLACE, UPDATE and DELETE are queued")
	}
	if c.verb == "CALL" && !a.call {
		return c, refuse(toks[0], "CALL needs the right to call procedures")
	}
	if c.verb == "WITH" && !slices.ContainsFunc(toks, func(t token) bool { w := upperWord(t); return w == "UPDATE" || w == "DELETE" }) {
		return c, refuse(toks[0], "WITH is queued only in front of UPDATE or DELETE")
	}
	for i, t := range toks {
		if p := c.check(toks, i, t); p != nil {
			return c, p
		}
	}
	if p := limitNeedsOrder(toks); p != nil {
		return c, p
	}
	c.sql = c.write(sql, toks)
	return c, nil
}

func upperWord(t token) string {
	if t.kind != tokWord {
		return ""
	}
	return strings.ToUpper(t.text)
}

func refuse(t token, format string, args ...any) *Problem {
	word := t.text
	if len(word) > 40 {
		word = word[:40] + "…"
	}
	return invalid("refused-sql", "%q at %d: %s", word, t.pos, fmt.Sprintf(format, args...))
}

func (c *compiled) check(toks []token, i int, t token) *Problem {
	next := func(text string) bool { return i+1 < len(toks) && toks[i+1].kind == tokOp && toks[i+1].text == text }
	prevDot := i > 0 && toks[i-1].kind == tokOp && toks[i-1].text == "."
	name := strings.ToUpper(t.text)
	switch t.kind {
	case tokVar:
		return refuse(t, "variables are not the same where a write is applied again")
	case tokOp:
		if t.text == ";" {
			return refuse(t, "one statement a string; a write may have several")
		}
		return nil
	case tokPlace, tokParam:
		return nil
	case tokWord, tokQuoted:
	default:
		return nil
	}
	if forbiddenSchemas[strings.TrimSpace(name)] && next(".") && !prevDot {
		return refuse(t, "this schema is not for queued writes")
	}
	call := next("(") && !prevDot
	if call && forbiddenFuncs[name] {
		return refuse(t, "%s() answers differently when a write is applied again", name)
	}
	if t.kind == tokQuoted || prevDot {
		return nil
	}
	if forbiddenWords[name] && !next(".") {
		return refuse(t, "not allowed in a queued write")
	}
	switch {
	case name == "INTO" && i > 0 && c.verb != "INSERT" && c.verb != "REPLACE":
		return refuse(t, "SELECT … INTO is not allowed")
	case call && name == "LAST_INSERT_ID" && i+2 < len(toks) && toks[i+2].text == ")":
		c.resetID = true
	case call && name == "RAND":
		c.random = true
	}
	return nil
}

// limitNeedsOrder: which rows an UPDATE or DELETE with LIMIT takes is only
// certain with an order, and a replay must take the same.
func limitNeedsOrder(toks []token) *Problem {
	verb := upperWord(toks[0])
	if verb != "UPDATE" && verb != "DELETE" {
		return nil
	}
	ordered := false
	for _, t := range toks {
		switch upperWord(t) {
		case "ORDER":
			ordered = true
		case "LIMIT":
			if !ordered {
				return refuse(t, "LIMIT without ORDER BY takes rows that nobody can foresee")
			}
		}
	}
	return nil
}

// write puts the tokens together again, with single blanks where something
// was between them: what is stored is what was checked, not what was sent.
func (c *compiled) write(sql string, toks []token) string {
	var b strings.Builder
	b.Grow(len(sql))
	end := 0
	for i, t := range toks {
		// Two minuses that touched would open a comment where one behind them
		// was taken out.
		if i > 0 && (t.pos > end || t.text == "-" && toks[i-1].text == "-") {
			b.WriteByte(' ')
		}
		switch t.kind {
		case tokPlace:
			c.params = append(c.params, "")
			b.WriteString(mark)
			end = t.pos + 1
		case tokParam:
			c.params = append(c.params, t.text)
			b.WriteString(mark)
			end = t.pos + 1 + len(t.text)
		case tokQuoted:
			q := "`" + strings.ReplaceAll(t.text, "`", "``") + "`"
			b.WriteString(q)
			end = t.pos + len(q)
		default:
			b.WriteString(t.text)
			end = t.pos + len(t.text)
		}
	}
	return b.String()
}
