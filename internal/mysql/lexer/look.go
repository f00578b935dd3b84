package lexer

// Kind is what a statement is for.
type Kind uint8

// The kinds of statement.
const (
	Other Kind = iota // anything we have no word for: treated with care
	Read              // SELECT, SHOW, EXPLAIN ... that changes nothing
	Write             // INSERT, UPDATE, DELETE, REPLACE
	Load              // LOAD DATA, LOAD XML, IMPORT
	Begin
	BeginReadOnly
	Commit
	Rollback
	Savepoint
	Set
	Use
	Schema // changes of schema and of accounts
	Call
	LockTables
	UnlockTables
	Handler
	Kill
	Prepare // text protocol
	Execute
	Deallocate
	XA
	Flush
	LockInstance
	Admin // SHUTDOWN, CHANGE REPLICATION, INSTALL ...: runs where it is sent
)

// Flags are the things in a statement that matter wherever they stand.
type Flags uint32

// The flags.
const (
	UserVar    Flags = 1 << iota // mentions @x
	Assigns                      // sets @x in passing: := or INTO @x
	Locks                        // GET_LOCK and its kin
	CalcFound                    // SQL_CALC_FOUND_ROWS
	Diagnostic                   // asks about the statement before
	LastID                       // LAST_INSERT_ID()
	ForUpdate                    // a locking read
	Into                         // SELECT ... INTO
	Multi                        // more than one statement
	Tracks                       // session_track_...
	Temporary                    // CREATE or DROP TEMPORARY TABLE
	Role                         // SET ROLE
	Names                        // SET NAMES, SET CHARACTER SET
	NextTrx                      // SET TRANSACTION for the next one only
	Global                       // SET GLOBAL, PERSIST
	Calls                        // calls a function that may be anybody's
	Resource                     // SET RESOURCE GROUP
	HintReader                   // /* perdure:reader */
	HintWriter                   // /* perdure:writer */
	SysVar                       // mentions @@x
	ReadLock                     // FLUSH TABLES ... WITH READ LOCK
	Chain                        // COMMIT AND CHAIN, RELEASE
)

// Stmt is what Look found.
type Stmt struct {
	Kind  Kind
	Flags Flags
	Kinds uint32 // every kind in the text, one bit each
}

// Has tells whether any of f is set.
func (s Stmt) Has(f Flags) bool { return s.Flags&f != 0 }

// Contains tells whether a statement of kind k is in the text.
func (s Stmt) Contains(k Kind) bool { return s.Kinds&(1<<k) != 0 }

// Look reads text. noBackslash says that the session treats a backslash in a
// string as any other letter.
func Look(text []byte, noBackslash bool) Stmt {
	s := scanner{b: text, noBackslash: noBackslash}
	var st Stmt
	for pieces := 0; ; {
		kind, flags, any, last := s.piece()
		if any {
			pieces++
			st.Kind = kind
			st.Kinds |= 1 << kind
			if pieces > 1 {
				st.Flags |= Multi
				st.Kind = Other
			}
		}
		st.Flags |= flags
		if last {
			break
		}
	}
	if s.reader {
		st.Flags |= HintReader
	}
	if s.writer {
		st.Flags |= HintWriter
	}
	return st
}

// lead are the first words of a statement, in capitals.
type lead struct {
	n    int
	buf  [4][32]byte
	size [4]int
}

func (l *lead) add(w []byte) {
	if l.n < len(l.buf) {
		l.size[l.n] = len(fold(&l.buf[l.n], w))
		l.n++
	}
}

func (l *lead) at(i int) []byte {
	if i >= l.n {
		return nil
	}
	return l.buf[i][:l.size[i]]
}

// piece reads up to the next semicolon outside of quotes.
func (s *scanner) piece() (kind Kind, flags Flags, any, last bool) {
	var first lead
	var buf [32]byte
	var prev token
	var main Kind // of a statement that begins with WITH
	depth := 0
	leading := true
	var into bool
	var prevWord, prevEnd int
	for {
		t := s.next()
		if t == end || t == semicolon {
			if any {
				var more Flags
				kind, more = s.classify(&first, main)
				flags |= more
			}
			return kind, flags, any, t == end
		}
		any = true
		if t != word {
			leading = leading && t == open
		}
		switch t {
		case open:
			depth++
			if prev == word {
				w := fold(&buf, s.b[prevWord:prevEnd])
				flags |= called(w)
			} else if prev == quoted {
				flags |= Calls
			}
		case closing:
			depth--
		case userVar:
			flags |= UserVar
			if into {
				flags |= Assigns
			}
		case assign:
			flags |= Assigns
		case sysVar:
			flags |= SysVar
		case word:
			w := fold(&buf, s.b[s.at:s.to])
			if leading || prev == word || first.n > 0 && first.n < 4 {
				first.add(s.b[s.at:s.to])
			}
			leading = false
			if depth == 0 && main == Other {
				main = mainVerb(w)
			}
			f := mark(w)
			if f == Into {
				if verb := string(first.at(0)); verb == "INSERT" || verb == "REPLACE" {
					f = 0 // into a table
				} else {
					into = true
				}
			}
			if f == ForUpdate && !(prev == word && locking(s.b[prevWord:prevEnd], w)) {
				f = 0
			}
			flags |= f
			prevWord, prevEnd = s.at, s.to
		}
		prev = t
	}
}

// locking tells whether the two words make a read take locks.
func locking(before, w []byte) bool {
	var buf [32]byte
	switch string(fold(&buf, before)) {
	case "FOR":
		return true
	case "IN":
		return string(w) == "SHARE"
	}
	return false
}

// mainVerb finds what a statement with common table expressions does.
func mainVerb(w []byte) Kind {
	switch string(w) {
	case "SELECT", "TABLE", "VALUES":
		return Read
	case "INSERT", "UPDATE", "DELETE", "REPLACE":
		return Write
	}
	return Other
}

// mark is what a word means wherever it stands in code.
func mark(w []byte) Flags {
	if len(w) < 4 {
		return 0
	}
	switch w[0] {
	case 'S':
		if string(w) == "SQL_CALC_FOUND_ROWS" {
			return CalcFound
		}
		if string(w) == "SHARE" {
			return ForUpdate // only counts behind FOR or IN
		}
		if len(w) > 14 && string(w[:14]) == "SESSION_TRACK_" {
			return Tracks
		}
	case 'U':
		if string(w) == "UPDATE" {
			return ForUpdate // only counts behind FOR
		}
	case 'I':
		if string(w) == "INTO" {
			return Into
		}
		if string(w) == "IDENTITY" { // @@identity; a column of that name loses little
			return LastID
		}
	case 'L':
		if string(w) == "LAST_INSERT_ID" {
			return LastID
		}
	}
	return 0
}

// called is what calling a function means; w is its name in capitals.
func called(w []byte) Flags {
	switch string(w) {
	case "GET_LOCK", "RELEASE_LOCK", "RELEASE_ALL_LOCKS", "SERVICE_GET_READ_LOCKS",
		"SERVICE_GET_WRITE_LOCKS", "SERVICE_RELEASE_LOCKS":
		return Locks
	case "LAST_INSERT_ID":
		return LastID
	case "FOUND_ROWS", "ROW_COUNT":
		return Diagnostic
	}
	if harmless[string(w)] {
		return 0
	}
	return Calls
}

func (s *scanner) classify(l *lead, main Kind) (Kind, Flags) {
	second := string(l.at(1))
	switch string(l.at(0)) {
	case "SELECT", "VALUES", "TABLE":
		return Read, 0
	case "WITH":
		return main, 0
	case "SHOW":
		if second == "WARNINGS" || second == "ERRORS" || second == "COUNT" || second == "PROFILE" || second == "PROFILES" {
			return Read, Diagnostic
		}
		return Read, 0
	case "DESC", "DESCRIBE", "EXPLAIN", "HELP", "CHECKSUM":
		if second == "ANALYZE" {
			return main, 0
		}
		return Read, 0
	case "INSERT", "UPDATE", "DELETE", "REPLACE":
		return Write, 0
	case "LOAD", "IMPORT":
		return Load, 0
	case "BEGIN":
		return Begin, 0
	case "START":
		return l.start()
	case "COMMIT", "ROLLBACK":
		return l.finish()
	case "SAVEPOINT", "RELEASE":
		return Savepoint, 0
	case "SET":
		return l.set()
	case "USE":
		return Use, 0
	case "CALL":
		return Call, Calls
	case "DO":
		return Other, 0
	case "LOCK", "UNLOCK":
		return l.lock()
	case "HANDLER":
		return Handler, 0
	case "KILL":
		return Kill, 0
	case "PREPARE":
		return Prepare, 0
	case "EXECUTE":
		return Execute, Calls
	case "DEALLOCATE":
		return Deallocate, 0
	case "DROP":
		if second == "PREPARE" {
			return Deallocate, 0
		}
		if second == "TEMPORARY" {
			return Other, Temporary
		}
		return Schema, 0
	case "CREATE":
		if second == "TEMPORARY" {
			return Other, Temporary
		}
		return Schema, 0
	case "ALTER", "RENAME", "TRUNCATE", "GRANT", "REVOKE", "OPTIMIZE", "REPAIR":
		return Schema, 0
	case "ANALYZE", "CHECK":
		return Other, 0
	case "XA":
		return XA, 0
	case "FLUSH":
		return Flush, ReadLock
	case "GET":
		return Read, Diagnostic | Assigns
	case "SHUTDOWN", "RESTART", "CHANGE", "INSTALL", "UNINSTALL", "STOP", "RESET", "PURGE", "CLONE", "CACHE", "BINLOG":
		return Admin, 0
	}
	return Other, Calls
}

func (l *lead) start() (Kind, Flags) {
	if string(l.at(1)) != "TRANSACTION" {
		return Admin, 0 // START REPLICA, START GROUP_REPLICATION
	}
	if string(l.at(2)) == "READ" && string(l.at(3)) == "ONLY" {
		return BeginReadOnly, 0
	}
	return Begin, 0
}

func (l *lead) finish() (Kind, Flags) {
	var f Flags
	for i := 1; i < l.n; i++ {
		switch string(l.at(i)) {
		case "TO", "SAVEPOINT":
			return Savepoint, 0
		case "AND", "RELEASE", "CHAIN":
			f = Chain
		}
	}
	if string(l.at(0)) == "COMMIT" {
		return Commit, f
	}
	return Rollback, f
}

func (l *lead) set() (Kind, Flags) {
	switch string(l.at(1)) {
	case "ROLE":
		return Set, Role
	case "DEFAULT", "PASSWORD":
		if string(l.at(1)) == "DEFAULT" && string(l.at(2)) != "ROLE" {
			return Set, 0
		}
		return Schema, 0 // SET PASSWORD, SET DEFAULT ROLE write to the grant tables
	case "RESOURCE":
		return Set, Resource
	case "NAMES", "CHARACTER", "CHARSET":
		return Set, Names
	case "TRANSACTION":
		return Set, NextTrx
	case "GLOBAL", "PERSIST", "PERSIST_ONLY":
		return Set, Global
	}
	return Set, 0
}

func (l *lead) lock() (Kind, Flags) {
	switch string(l.at(1)) {
	case "INSTANCE":
		return LockInstance, 0
	}
	if string(l.at(0)) == "LOCK" {
		return LockTables, 0
	}
	return UnlockTables, 0
}
