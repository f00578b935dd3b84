package lexer

import "strings"

// Target is one thing a SET statement sets.
type Target struct {
	Name   []byte // as written, without @ or scope
	User   bool   // a user variable
	Global bool   // not of this session
}

// SetTargets calls visit with everything a SET statement sets. It returns false
// if the statement is none, or has a form it does not follow.
func SetTargets(text []byte, noBackslash bool, visit func(Target)) bool {
	s := scanner{b: text, noBackslash: noBackslash}
	if s.next() != word || !strings.EqualFold(string(s.b[s.at:s.to]), "SET") {
		return false
	}
	for {
		var t Target
		tok := s.next()
		if tok == sysVar {
			tok = s.next()
		}
		switch tok {
		case userVar:
			t.User, t.Name = true, s.b[s.at:s.to]
			tok = s.next()
		case word, quoted:
			t.Name = s.b[s.at:s.to]
			tok = s.next()
			for range 2 {
				switch {
				case scope(t.Name) && (tok == word || tok == quoted || tok == sysVar):
					t.Global = !session(t.Name)
					if tok == sysVar {
						s.next()
					}
					t.Name = s.b[s.at:s.to]
					tok = s.next()
				case tok == punct && s.b[s.at] == '.':
					if scope(t.Name) {
						t.Global = !session(t.Name)
					}
					if tok = s.next(); tok != word && tok != quoted {
						return false
					}
					t.Name = s.b[s.at:s.to]
					tok = s.next()
				}
			}
		default:
			return false
		}
		if len(t.Name) > 1 && t.Name[0] == '`' {
			t.Name = t.Name[1 : len(t.Name)-1]
		}
		visit(t)
		// The value may be anything; a comma outside of parentheses ends it.
		for depth := 0; ; tok = s.next() {
			switch tok {
			case end:
				return true
			case semicolon:
				return s.next() == end
			case open:
				depth++
			case closing:
				depth--
			}
			if tok == punct && s.b[s.at] == ',' && depth == 0 {
				break
			}
		}
	}
}

func scope(w []byte) bool {
	var buf [32]byte
	switch string(fold(&buf, w)) {
	case "SESSION", "LOCAL", "GLOBAL", "PERSIST", "PERSIST_ONLY":
		return true
	}
	return false
}

func session(w []byte) bool {
	var buf [32]byte
	switch string(fold(&buf, w)) {
	case "SESSION", "LOCAL":
		return true
	}
	return false
}

// NamesClause is the NAMES or CHARACTER SET clause of a SET statement in a form
// of its own: "NAMES 'utf8mb4' COLLATE 'utf8mb4_bin'". It is empty if there is
// none that can be repeated.
func NamesClause(text []byte, noBackslash bool) string {
	s := scanner{b: text, noBackslash: noBackslash}
	if s.next() != word || s.next() != word { //nolint:staticcheck // the second call reads the next word
		return ""
	}
	var out strings.Builder
	switch strings.ToUpper(string(s.b[s.at:s.to])) {
	case "NAMES":
		out.WriteString("NAMES ")
	case "CHARSET":
		out.WriteString("CHARACTER SET ")
	case "CHARACTER":
		if s.next() != word {
			return ""
		}
		out.WriteString("CHARACTER SET ")
	default:
		return ""
	}
	if t := s.next(); t != word && t != str {
		return ""
	}
	out.Write(s.b[s.at:s.to])
	if s.next() == word && strings.EqualFold(string(s.b[s.at:s.to]), "COLLATE") {
		if t := s.next(); t != word && t != str {
			return ""
		}
		out.WriteString(" COLLATE ")
		out.Write(s.b[s.at:s.to])
	}
	return out.String()
}
