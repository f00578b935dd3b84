package lexer

import "strings"

// Assignment is one user variable set to a literal.
type Assignment struct {
	Name  string // as written, without @
	Value string // the literal as written
}

// Assignments reads a statement that does nothing but set user variables to
// literals. ok is false for every other statement: then only the server knows.
func Assignments(text []byte, noBackslash bool) (list []Assignment, ok bool) {
	s := scanner{b: text, noBackslash: noBackslash}
	if s.next() != word || !strings.EqualFold(string(s.b[s.at:s.to]), "SET") {
		return nil, false
	}
	for {
		if s.next() != userVar {
			return nil, false
		}
		a := Assignment{Name: string(s.b[s.at:s.to])}
		if t := s.next(); t != assign && (t != punct || s.b[s.at] != '=') {
			return nil, false
		}
		t := s.next()
		from := s.at
		if t == punct && (s.b[s.at] == '-' || s.b[s.at] == '+') {
			if t = s.next(); t != number {
				return nil, false
			}
		}
		switch t {
		case number:
		case str:
			if s.b[from] == '"' { // a name under ANSI_QUOTES
				return nil, false
			}
		case word:
			switch strings.ToUpper(string(s.b[from:s.to])) {
			case "NULL", "TRUE", "FALSE":
			default:
				return nil, false
			}
		default:
			return nil, false
		}
		a.Value = string(s.b[from:s.to])
		list = append(list, a)
		switch s.next() {
		case end:
			return list, true
		case semicolon:
			return list, s.next() == end
		case punct:
			if s.b[s.at] != ',' {
				return nil, false
			}
		default:
			return nil, false
		}
	}
}

// UserVars calls visit with the name of every user variable in text, as written.
func UserVars(text []byte, noBackslash bool, visit func(name []byte)) {
	s := scanner{b: text, noBackslash: noBackslash}
	for {
		switch s.next() {
		case end:
			return
		case userVar:
			if s.to > s.at {
				visit(s.b[s.at:s.to])
			}
		}
	}
}

// KillTarget reads KILL [CONNECTION|QUERY] n.
func KillTarget(text []byte) (id uint64, query, ok bool) {
	s := scanner{b: text}
	if s.next() != word {
		return 0, false, false
	}
	t := s.next()
	if t == word {
		switch strings.ToUpper(string(s.b[s.at:s.to])) {
		case "QUERY":
			query = true
		case "CONNECTION":
		default:
			return 0, false, false
		}
		t = s.next()
	}
	if t != number {
		return 0, false, false
	}
	for _, c := range s.b[s.at:s.to] {
		if c < '0' || c > '9' || id > 1<<40 {
			return 0, false, false
		}
		id = id*10 + uint64(c-'0')
	}
	switch s.next() {
	case end, semicolon:
		return id, query, true
	}
	return 0, false, false
}

// Digest is the text with its literals taken out, at most limit bytes: what two
// runs of one statement have in common. It holds no data.
func Digest(text []byte, noBackslash bool, limit int) string {
	s := scanner{b: text, noBackslash: noBackslash}
	var out strings.Builder
	prev := end
	list := false // inside "?, ?, ?"
	for out.Len() < limit {
		t := s.next()
		if t == end {
			break
		}
		if t == number || t == str {
			if !list {
				gap(&out, prev, t)
				out.WriteByte('?')
			}
			list = true
			prev = t
			continue
		}
		if t == punct && s.b[s.at] == ',' && list {
			prev = t
			continue
		}
		if list && prev == punct {
			out.WriteByte(',')
		}
		list = false
		gap(&out, prev, t)
		switch t {
		case word:
			out.WriteString(strings.ToLower(string(s.b[s.at:s.to])))
		case userVar:
			out.WriteByte('@')
			out.Write(s.b[s.at:s.to])
		default:
			out.Write(s.b[s.at:s.to])
		}
		prev = t
	}
	d := out.String()
	if len(d) > limit {
		d = d[:limit]
	}
	return d
}

func gap(out *strings.Builder, prev, t token) {
	if out.Len() == 0 || prev == sysVar || t == closing || prev == open || t == semicolon {
		return
	}
	out.WriteByte(' ')
}
