package lexer

import "bytes"

type token uint8

const (
	end token = iota
	word
	quoted // `name`
	str    // 'text' or "text"
	number
	userVar // @name, the token covers the name alone
	sysVar  // @@
	assign  // :=
	semicolon
	open
	closing
	punct
)

// scanner walks over tokens; at and to are the bounds of the last one.
type scanner struct {
	b           []byte
	i           int
	at, to      int
	noBackslash bool
	// hint is called for comments that speak to us.
	reader, writer bool
}

var hintWord = []byte("perdure:")

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c >= 0x80
}

func (s *scanner) next() token {
	for s.i < len(s.b) {
		c := s.b[s.i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f' || c == 0:
			s.i++
		case c == '#', c == '-' && s.dashComment():
			s.line()
		case c == '/' && s.peek(1) == '*':
			s.comment()
		case c == '*' && s.peek(1) == '/':
			s.i += 2 // the end of a comment whose inside is code
		default:
			return s.token(c)
		}
	}
	s.at, s.to = len(s.b), len(s.b)
	return end
}

func (s *scanner) peek(n int) byte {
	if s.i+n < len(s.b) {
		return s.b[s.i+n]
	}
	return 0
}

func (s *scanner) dashComment() bool {
	return s.peek(1) == '-' && s.peek(2) <= ' '
}

func (s *scanner) line() {
	if n := bytes.IndexByte(s.b[s.i:], '\n'); n >= 0 {
		s.i += n + 1
	} else {
		s.i = len(s.b)
	}
}

// comment skips a comment, or only its opening if what follows is code: the
// server runs /*!80000 ... */ and so do we read it.
func (s *scanner) comment() {
	if s.peek(2) == '!' {
		s.i += 3
		for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
			s.i++
		}
		return
	}
	n := bytes.Index(s.b[s.i+2:], []byte("*/"))
	inside := s.b[s.i+2:]
	if n < 0 {
		s.i = len(s.b)
	} else {
		inside = inside[:n]
		s.i += n + 4
	}
	if at := bytes.Index(inside, hintWord); at >= 0 {
		s.hint(inside[at+len(hintWord):])
	}
}

func (s *scanner) hint(h []byte) {
	switch {
	case bytes.HasPrefix(h, []byte("reader")), bytes.HasPrefix(h, []byte("ro")):
		s.reader = true
	case bytes.HasPrefix(h, []byte("writer")), bytes.HasPrefix(h, []byte("rw")):
		s.writer = true
	}
}

func (s *scanner) token(c byte) token {
	s.at = s.i
	switch {
	case c >= '0' && c <= '9' || c == '.' && s.peek(1) >= '0' && s.peek(1) <= '9':
		s.i++
		for s.i < len(s.b) && (wordByte(s.b[s.i]) || s.b[s.i] == '.') {
			s.i++
		}
		s.to = s.i
		return number
	case wordByte(c):
		for s.i < len(s.b) && wordByte(s.b[s.i]) {
			s.i++
		}
		s.to = s.i
		return word
	case c == '\'' || c == '"':
		s.quote(c, !s.noBackslash)
		return str
	case c == '`':
		s.quote(c, false)
		return quoted
	case c == '@':
		return s.variable()
	case c == ':' && s.peek(1) == '=':
		s.i += 2
		s.to = s.i
		return assign
	}
	s.i++
	s.to = s.i
	switch c {
	case ';':
		return semicolon
	case '(':
		return open
	case ')':
		return closing
	}
	return punct
}

func (s *scanner) quote(q byte, backslash bool) {
	s.i++
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '\\' && backslash:
			s.i += 2
		case c == q && s.peek(1) == q:
			s.i += 2
		case c == q:
			s.i++
			s.to = s.i
			return
		default:
			s.i++
		}
	}
	s.i = len(s.b)
	s.to = s.i
}

func (s *scanner) variable() token {
	if s.peek(1) == '@' {
		s.i += 2
		s.to = s.i
		return sysVar
	}
	s.i++
	switch c := s.peek(0); c {
	case '`', '\'', '"':
		s.quote(c, c != '`' && !s.noBackslash)
	default:
		for s.i < len(s.b) && (wordByte(s.b[s.i]) || s.b[s.i] == '.') {
			s.i++
		}
	}
	s.at, s.to = s.at+1, s.i
	return userVar
}

// fold writes the word in capitals into buf and returns it, nil if it is too
// long to be one of ours.
func fold(buf *[32]byte, w []byte) []byte {
	if len(w) > len(buf) {
		return nil
	}
	for i, c := range w {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		buf[i] = c
	}
	return buf[:len(w)]
}
