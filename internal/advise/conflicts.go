package advise

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysql"
)

// Lost is one statement of a transaction that lost, as its session remembers.
type Lost struct {
	Member    string
	Thread    uint64
	Event     uint64 // of the statement that was answered with the error
	Table     string
	Statement string
}

// askLost finds what failed with the error of a lost transaction and, where
// that was a COMMIT, what was changed before it in the same transaction.
const askLost = `SELECT f.THREAD_ID, f.EVENT_ID, COALESCE(d.CURRENT_SCHEMA, ''), d.DIGEST_TEXT
	FROM performance_schema.events_statements_history f
	JOIN performance_schema.events_statements_history d ON d.THREAD_ID = f.THREAD_ID AND (d.EVENT_ID = f.EVENT_ID
		OR (d.NESTING_EVENT_TYPE = 'TRANSACTION' AND f.NESTING_EVENT_TYPE = 'TRANSACTION' AND d.NESTING_EVENT_ID = f.NESTING_EVENT_ID AND d.EVENT_ID < f.EVENT_ID))
	WHERE f.MYSQL_ERRNO IN (` + lost + `) AND d.DIGEST_TEXT IS NOT NULL`

// LostNow reads what the sessions of a member remember of lost transactions.
// Asking again gives many of them again; Tally counts each once.
func LostNow(ctx context.Context, s *mysql.Server) ([]Lost, error) {
	rows, err := s.DB().QueryContext(ctx, askLost)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var out []Lost
	for rows.Next() {
		l := Lost{Member: s.Name()}
		var schema string
		if err := rows.Scan(&l.Thread, &l.Event, &schema, &l.Statement); err != nil {
			return nil, err
		}
		if l.Table = tableOf(l.Statement, schema); l.Table != "" {
			out = append(out, l)
		}
	}
	return out, rows.Err()
}

// The digest of a statement has its names quoted and apart: UPDATE `shop` . `t`.
var changes = regexp.MustCompile("^(?:UPDATE(?: LOW_PRIORITY| IGNORE)*|(?:INSERT|REPLACE)(?: LOW_PRIORITY| HIGH_PRIORITY| IGNORE| INTO)*|DELETE(?: LOW_PRIORITY| QUICK| IGNORE)* FROM) (`[^`]+`)(?: \\. (`[^`]+`))?")

// tableOf is the table a statement changes, "" if that cannot be told.
func tableOf(digest, schema string) string {
	m := changes.FindStringSubmatch(digest)
	if m == nil {
		return ""
	}
	first, second := strings.Trim(m[1], "`"), strings.Trim(m[2], "`")
	if second != "" {
		return first + "." + second
	}
	return schema + "." + first
}

// Tally sums up, by table, the most lost first.
func Tally(all []Lost) []api.TableConflict {
	type key struct {
		member, table string
		thread, event uint64
	}
	seen := map[key]bool{}
	by := map[string]*api.TableConflict{}
	for _, l := range all {
		k := key{l.Member, l.Table, l.Thread, l.Event}
		if seen[k] {
			continue
		}
		seen[k] = true
		t := by[l.Table]
		if t == nil {
			t = &api.TableConflict{Table: l.Table, Statement: l.Statement}
			by[l.Table] = t
		}
		t.Lost++
		if !slices.Contains(t.Members, l.Member) {
			t.Members = append(t.Members, l.Member)
		}
	}
	out := []api.TableConflict{}
	for _, t := range by {
		slices.Sort(t.Members)
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b api.TableConflict) int {
		if a.Lost != b.Lost {
			return b.Lost - a.Lost
		}
		return strings.Compare(a.Table, b.Table)
	})
	return out
}
