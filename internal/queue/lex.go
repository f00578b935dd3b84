package queue

import "fmt"

type tokenKind byte

const (
	tokWord   tokenKind = iota // bare word: keyword, name or function
	tokQuoted                  // `name`
	tokText                    // 'text' or "text"
	tokNumber
	tokPlace // ?
	tokParam // :name
	tokVar   // @x or @@x
	tokOp    // one character of anything else
)

// token is a piece of SQL. text is as written, without the quotes of a `name`.
type token struct {
	kind tokenKind
	text string
	pos  int
}

// lex takes SQL apart the way the server does in the pinned session (utf8mb4,
// backslash escapes, double quotes are text). Comments vanish; those the server
// would execute are an error. It never panics and never loops, whatever sql is.
func lex(sql string) ([]token, error) {
	var out []token
	for i := 0; i < len(sql); {
		c := sql[i]
		switch {
		case c == 0:
			return nil, fmt.Errorf("NUL byte at %d", i)
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
			i++
		case c == '#' || c == '-' && isDashComment(sql[i:]):
			for i < len(sql) && sql[i] != '\n' {
				i++
			}
		case c == '/' && i+1 < len(sql) && sql[i+1] == '*':
			n, err := comment(sql[i:])
			if err != nil {
				return nil, fmt.Errorf("%w at %d", err, i)
			}
			i += n
		case c == '\'' || c == '"' || c == '`':
			n := quoted(sql[i:], c)
			if n < 0 {
				return nil, fmt.Errorf("%c without its end at %d", c, i)
			}
			t := token{tokText, sql[i : i+n], i}
			if c == '`' {
				t = token{tokQuoted, unquoteName(sql[i+1 : i+n-1]), i}
			}
			out = append(out, t)
			i += n
		case c == '?':
			out = append(out, token{tokPlace, "?", i})
			i++
		case c == ':' && i+1 < len(sql) && isWordStart(sql[i+1]):
			n := 1 + word(sql[i+1:])
			out = append(out, token{tokParam, sql[i+1 : i+n], i})
			i += n
		case c == '@':
			n := 1
			for i+n < len(sql) && (sql[i+n] == '@' || isWord(sql[i+n]) || sql[i+n] == '.') {
				n++
			}
			out = append(out, token{tokVar, sql[i : i+n], i})
			i += n
		case c >= '0' && c <= '9' || c == '.' && i+1 < len(sql) && isDigit(sql[i+1]) && !afterName(out):
			n := num(sql[i:])
			out = append(out, token{tokNumber, sql[i : i+n], i})
			i += n
		case isWordStart(c):
			n := word(sql[i:])
			out = append(out, token{tokWord, sql[i : i+n], i})
			i += n
		default:
			out = append(out, token{tokOp, sql[i : i+1], i})
			i++
		}
	}
	return out, nil
}

// afterName: in t.1a the dot belongs to a name, not to a number.
func afterName(out []token) bool {
	if len(out) == 0 {
		return false
	}
	k := out[len(out)-1].kind
	return k == tokWord || k == tokQuoted
}

// isDashComment: two dashes open a comment only before a blank or the end.
func isDashComment(s string) bool {
	return len(s) >= 2 && s[1] == '-' && (len(s) == 2 || s[2] <= ' ')
}

func comment(s string) (int, error) {
	if len(s) > 2 && (s[2] == '!' || s[2] == '+' || s[2] == 'M' && len(s) > 3 && s[3] == '!') {
		return 0, fmt.Errorf("a comment that the server executes")
	}
	for i := 2; i+1 < len(s); i++ {
		if s[i] == '*' && s[i+1] == '/' {
			return i + 2, nil
		}
		if s[i] == '/' && s[i+1] == '*' { // servers differ about nesting
			return 0, fmt.Errorf("a comment inside a comment")
		}
	}
	return 0, fmt.Errorf("a comment without its end")
}

// quoted measures a quoted piece, -1 without end. A doubled quote is one
// quote; a backslash escapes in text and means nothing in a `name`.
func quoted(s string, q byte) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if q != '`' {
				i++
			}
		case 0:
			return -1
		case q:
			if i+1 < len(s) && s[i+1] == q {
				i++
				continue
			}
			return i + 1
		}
	}
	return -1
}

func unquoteName(s string) string {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		b = append(b, s[i])
		if s[i] == '`' {
			i++
		}
	}
	return string(b)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// Bytes from 0x80 on belong to names: every such character of utf8mb4 may
// stand in a bare name, and the server refuses the few that may not.
func isWordStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$' || c >= 0x80
}
func isWord(c byte) bool { return isWordStart(c) || isDigit(c) }

func word(s string) int {
	n := 0
	for n < len(s) && isWord(s[n]) {
		n++
	}
	return n
}

// num takes digits, a point, an exponent, and 0x… or names that begin with a
// digit: those are words to the server, and harmless to us either way.
func num(s string) int {
	n := 0
	for n < len(s) {
		switch {
		case isWord(s[n]) || s[n] == '.':
			n++
		case (s[n] == '+' || s[n] == '-') && n > 0 && (s[n-1] == 'e' || s[n-1] == 'E') && isDecimal(s[:n-1]):
			n++
		default:
			return n
		}
	}
	return n
}

func isDecimal(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) && s[i] != '.' {
			return false
		}
	}
	return len(s) > 0
}
