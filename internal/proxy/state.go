package proxy

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/perdure/perdure/internal/mysql/lexer"
	"github.com/perdure/perdure/internal/mysql/wire"
)

// carried are the session variables we take along. Servers are asked to report
// them; setting any other pins the session. statement_id and timestamp must
// never be here: the server would report them with every answer.
var carried = strings.Fields(`autocommit character_set_client character_set_connection character_set_results
collation_connection sql_mode time_zone transaction_isolation transaction_read_only sql_select_limit
sql_safe_updates sql_big_selects max_execution_time group_concat_max_len lock_wait_timeout innodb_lock_wait_timeout
wait_timeout interactive_timeout net_read_timeout net_write_timeout lc_time_names lc_messages foreign_key_checks
unique_checks optimizer_switch optimizer_prune_level optimizer_search_depth join_buffer_size sort_buffer_size
read_buffer_size read_rnd_buffer_size tmp_table_size max_heap_table_size bulk_insert_buffer_size
default_storage_engine default_tmp_storage_engine div_precision_increment explicit_defaults_for_timestamp
group_replication_consistency sql_auto_is_null sql_quote_show_create sql_warnings sql_notes
sql_generate_invisible_primary_key sql_require_primary_key cte_max_recursion_depth eq_range_index_dive_limit
long_query_time max_join_size max_sort_length max_error_count block_encryption_mode default_week_format
default_collation_for_utf8mb4 auto_increment_increment auto_increment_offset completion_type
information_schema_stats_expiry low_priority_updates sql_buffer_result sql_log_bin updatable_views_with_limit
windowing_use_high_precision show_gipk_in_create_table_and_information_schema use_secondary_engine
character_set_filesystem old_alter_table binlog_row_image binlog_rows_query_log_events`)

var isCarried = func() map[string]bool {
	m := map[string]bool{"names": true, "character": true, "charset": true}
	for _, n := range carried {
		m[n] = true
	}
	// Other names of the same.
	m["tx_isolation"], m["tx_read_only"] = true, true
	return m
}()

// trackers is what every server connection of ours is told first.
var trackers = "session_track_system_variables='" + strings.Join(carried, ",") +
	"',session_track_schema=ON,session_track_state_change=ON,session_track_transaction_info=OFF," +
	"session_track_gtids=OWN_GTID"

const untracked = "SET session_track_system_variables=DEFAULT,session_track_schema=DEFAULT," +
	"session_track_state_change=DEFAULT,session_track_transaction_info=DEFAULT,session_track_gtids=DEFAULT"

type variable struct{ name, value string }

// state is what a session takes along when it moves.
type state struct {
	schema string
	names  string // a NAMES clause, applied before vars
	vars   []variable
	role   string            // the SET ROLE statement
	user   map[string]string // user variables as literals, "" if only the server knows
	lastID uint64
	multi  int8 // COM_SET_OPTION: -1 never sent, else its value
	plain  bool // COM_RESET_CONNECTION was sent: the charset of the sign-in is gone
	gtid   []byte
	wrote  string // member the gtid was written on
	size   int
	// version grows with every change; a server connection knows which version
	// it has.
	version uint64
}

func (st *state) changed(b *backend) {
	st.version++
	if b != nil {
		b.version = st.version
	}
}

func (st *state) setVariable(name, value []byte) {
	for i := range st.vars {
		if st.vars[i].name == string(name) {
			if st.vars[i].value != string(value) {
				st.size += len(value) - len(st.vars[i].value)
				st.vars[i].value = string(value)
			}
			return
		}
	}
	st.size += len(name) + len(value)
	st.vars = append(st.vars, variable{string(name), string(value)})
}

func (st *state) setNames(clause string) {
	if clause == "" {
		return
	}
	st.names = clause
	// The clause says these, and better: setting one of them after it would
	// reset the collation it names.
	kept := st.vars[:0]
	for _, v := range st.vars {
		switch v.name {
		case "character_set_client", "character_set_connection", "character_set_results", "collation_connection":
		default:
			kept = append(kept, v)
		}
	}
	st.vars = kept
}

func (st *state) setUser(name, literal string) {
	if st.user == nil {
		st.user = map[string]string{}
	}
	name = varKey(name)
	st.size += len(name) + len(literal) - len(st.user[name])
	st.user[name] = literal
}

// varKey is a user variable's name with its quotes off and in lower case, as the
// server compares them.
func varKey(name string) string {
	if len(name) > 1 && strings.ContainsRune("`'\"", rune(name[0])) {
		q := name[:1]
		name = strings.ReplaceAll(name[1:len(name)-1], q+q, q)
	}
	return strings.ToLower(name)
}

func quoteVar(name string) string { return "@`" + strings.ReplaceAll(name, "`", "``") + "`" }

// unknownUser tells whether there is a user variable only the server knows.
func (st *state) unknownUser() bool {
	for _, v := range st.user {
		if v == "" {
			return true
		}
	}
	return false
}

// reset is what COM_RESET_CONNECTION leaves: nothing but the schema.
func (st *state) reset() {
	*st = state{schema: st.schema, multi: st.multi, plain: true, version: st.version + 1, gtid: st.gtid[:0]}
}

// setText appends the SET statement that makes a fresh server connection equal to
// the state. base is what signing in with the client's collation set.
func (st *state) setText(b []byte, base string) []byte {
	b = append(b, "SET "...)
	b = append(b, trackers...)
	if !st.plain && base != "" {
		b = append(append(b, ','), base...)
	}
	if st.names != "" {
		b = append(append(b, ','), st.names...)
	}
	b = st.appendCharsets(b)
	for _, v := range st.vars {
		if !charsetVar(v.name) {
			b = appendVariable(b, v)
		}
	}
	for name, literal := range st.user {
		if literal != "" {
			b = append(append(append(append(b, ','), quoteVar(name)...), '='), literal...)
		}
	}
	if st.lastID != 0 {
		b = strconv.AppendUint(append(b, ",@@session.last_insert_id="...), st.lastID, 10)
	}
	return b
}

func charsetVar(name string) bool {
	return strings.HasPrefix(name, "character_set_") || name == "collation_connection"
}

// appendCharsets puts character_set_connection before collation_connection,
// because setting the first resets the second.
func (st *state) appendCharsets(b []byte) []byte {
	for _, v := range st.vars {
		if charsetVar(v.name) && v.name != "collation_connection" {
			b = appendVariable(b, v)
		}
	}
	for _, v := range st.vars {
		if v.name == "collation_connection" {
			b = appendVariable(b, v)
		}
	}
	return b
}

func appendVariable(b []byte, v variable) []byte {
	b = append(append(append(b, ",@@session."...), v.name...), '=')
	switch {
	case v.name == "character_set_results" && v.value == "":
		return append(b, "NULL"...)
	case numeric(v.value):
		return append(b, v.value...)
	}
	return appendQuoted(b, v.value)
}

// appendQuoted writes a string literal that means the same with and without
// backslash escapes: what would differ is written in hexadecimal.
func appendQuoted(b []byte, s string) []byte {
	if strings.ContainsAny(s, "\\'\x00") {
		b = append(b, "0x"...)
		for i := range len(s) {
			b = append(b, "0123456789abcdef"[s[i]>>4], "0123456789abcdef"[s[i]&15])
		}
		return b
	}
	return append(append(append(b, '\''), s...), '\'')
}

func numeric(s string) bool {
	if s == "" {
		return false
	}
	dots := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
		case c == '-' && i == 0 && len(s) > 1:
		case c == '.' && dots == 0 && i > 0:
			dots++
		default:
			return false
		}
	}
	return true
}

// The tracks a client sees that asked for session tracking and changed nothing
// about it: the server's own defaults.
var shownVars = [][]byte{
	[]byte("time_zone"), []byte("autocommit"), []byte("character_set_client"),
	[]byte("character_set_results"), []byte("character_set_connection"),
}

func keepNone(byte, []byte) bool { return false }

func keepDefault(kind byte, item []byte) bool {
	switch kind {
	case wire.TrackSchema, wire.TrackTrxChars, wire.TrackTrxState:
		// We never ask for the last two; some servers send them all the same.
		return true
	case wire.TrackVariable:
		name, n := wire.LenEncBytes(item)
		if n == 0 {
			return false
		}
		for _, s := range shownVars {
			if bytes.Equal(name, s) {
				return true
			}
		}
	}
	return false
}

// observe takes note of what an OK packet says about the session. It returns
// true if the server reported a change without naming it.
func (s *session) observe(ok *wire.OK) (unnamed bool) {
	if ok.InsertID != 0 {
		s.st.lastID, s.b.lastID = ok.InsertID, ok.InsertID
	}
	if ok.Tracks == nil {
		return false
	}
	named, state := false, false
	for rest := ok.Tracks; len(rest) > 0; {
		kind, item, next, err := wire.NextTrack(rest)
		if err != nil {
			return true
		}
		rest = next
		switch kind {
		case wire.TrackVariable:
			name, n := wire.LenEncBytes(item)
			value, m := wire.LenEncBytes(item[n:])
			if n == 0 || m == 0 {
				continue
			}
			s.st.setVariable(name, value)
			s.st.changed(s.b)
			named = true
		case wire.TrackSchema:
			schema, n := wire.LenEncBytes(item)
			if n == 0 {
				continue
			}
			if string(schema) != s.st.schema {
				s.st.schema = string(schema)
				s.st.changed(s.b)
			}
			s.b.schema = s.st.schema
			named = true
		case wire.TrackState:
			state = true
		case wire.TrackGTID:
			if len(item) > 1 {
				if g, n := wire.LenEncBytes(item[1:]); n > 0 {
					s.st.gtid = append(s.st.gtid[:0], g...)
					s.st.wrote = s.b.seat.name
				}
			}
		}
	}
	return state && !named
}

// learn draws the consequences of a statement that succeeded. unnamed is what
// observe said.
func (s *session) learn(st lexer.Stmt, text []byte, unnamed bool) {
	const plain = lexer.UserVar | lexer.Assigns | lexer.Locks | lexer.CalcFound | lexer.Tracks |
		lexer.Temporary | lexer.Role | lexer.Names | lexer.NextTrx | lexer.Resource | lexer.ReadLock
	special := uint32(1<<lexer.Set | 1<<lexer.Call | 1<<lexer.LockTables | 1<<lexer.UnlockTables | 1<<lexer.Handler |
		1<<lexer.Prepare | 1<<lexer.Execute | 1<<lexer.XA | 1<<lexer.LockInstance | 1<<lexer.Flush)
	if !unnamed && st.Flags&plain == 0 && st.Kinds&special == 0 {
		return
	}
	var p pins
	nb := s.status&wire.StatusNoBackslashEscapes != 0
	switch {
	case st.Has(lexer.Multi):
		// Several statements in one text: what they set is taken from the
		// tracks; user variables are asked for when needed.
		if st.Contains(lexer.Set) && unnamed && !st.Has(lexer.UserVar) {
			p |= pinSetting
		}
		if st.Contains(lexer.Set) && st.Has(lexer.Names) {
			p |= pinSetting
		}
		if st.Has(lexer.Role) || st.Has(lexer.NextTrx) {
			p |= pinSetting
		}
		if st.Has(lexer.UserVar) {
			p |= s.unknownVars(text, nb)
		}
	case st.Kind == lexer.Set:
		p |= s.learnSet(st, text, nb)
		unnamed = false
	case st.Has(lexer.Assigns), st.Has(lexer.UserVar) && (st.Kind == lexer.Call || st.Kind == lexer.Execute):
		p |= s.unknownVars(text, nb)
	}
	if st.Has(lexer.Locks) {
		p |= pinLock
	}
	if st.Has(lexer.Temporary) {
		p |= pinTemporary
		unnamed = false
	}
	if st.Has(lexer.ReadLock) || st.Contains(lexer.LockTables) {
		p |= pinTables
	}
	if st.Kind == lexer.UnlockTables {
		s.unpin(pinTables | pinInstance)
	}
	if st.Contains(lexer.Handler) {
		p |= pinHandler
	}
	if st.Contains(lexer.Prepare) {
		p |= pinPrepare
		s.schemaText = s.schemaText || preparesSchema(text, nb)
	}
	if st.Contains(lexer.XA) {
		p |= pinXA
	}
	if st.Contains(lexer.LockInstance) {
		p |= pinInstance
	}
	if st.Has(lexer.Resource) {
		p |= pinSetting
	}
	if st.Contains(lexer.Call) && unnamed {
		p |= pinCall
	}
	if unnamed && p == 0 && st.Kind != lexer.Deallocate && st.Kind != lexer.Prepare {
		p |= pinUnknown
	}
	if p != 0 {
		s.pin(p, text)
	}
}

func (s *session) learnSet(st lexer.Stmt, text []byte, nb bool) (p pins) {
	s.st.changed(s.b)
	switch {
	case st.Has(lexer.Role):
		if len(text) > 1024 {
			return pinSetting
		}
		s.st.role = string(text)
		return 0
	case st.Has(lexer.NextTrx):
		return pinNextTrx
	case st.Has(lexer.Resource):
		return pinSetting
	case st.Has(lexer.Names):
		s.st.setNames(lexer.NamesClause(text, nb))
	}
	literal, all := lexer.Assignments(text, nb)
	if all {
		for _, a := range literal {
			s.st.setUser(a.Name, a.Value)
		}
		if s.st.size > s.p.cfg.MaxState {
			return pinSetting
		}
		if s.pins.load()&pinVariable != 0 && !s.st.unknownUser() {
			s.unpin(pinVariable)
		}
		return 0
	}
	ok := lexer.SetTargets(text, nb, func(t lexer.Target) {
		switch {
		case t.User:
			s.st.setUser(string(t.Name), "")
			p |= pinVariable
		case t.Global:
		case st.Has(lexer.Names) && charsetVar(strings.ToLower(string(t.Name))):
			p |= pinSetting // set beside NAMES: which of them is last is not known here
		case !isCarried[strings.ToLower(string(t.Name))] && !bytes.EqualFold(t.Name, []byte("transaction")):
			p |= pinSetting
		}
	})
	if !ok {
		p |= pinSetting
	}
	if st.Has(lexer.Assigns) && st.Has(lexer.UserVar) {
		p |= s.unknownVars(text, nb)
	}
	if s.st.size > s.p.cfg.MaxState {
		p |= pinSetting
	}
	return p
}

func (s *session) unknownVars(text []byte, nb bool) pins {
	lexer.UserVars(text, nb, func(name []byte) { s.st.setUser(string(name), "") })
	s.st.changed(s.b)
	return pinVariable
}
