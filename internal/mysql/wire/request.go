package wire

import "encoding/binary"

// QueryText finds the statement in the body of a COM_QUERY (without its command
// byte), behind the query attributes if the connection uses them. attrs is what
// lies before it.
func QueryText(p []byte, caps uint32) (attrs, text []byte, ok bool) {
	if caps&ClientQueryAttributes == 0 {
		return nil, p, true
	}
	count, n := LenEnc(p)
	if n == 0 {
		return nil, nil, false
	}
	at := n
	if _, n = LenEnc(p[at:]); n == 0 {
		return nil, nil, false
	}
	at += n
	if count > 0 {
		if count > 65535 {
			return nil, nil, false
		}
		end, good := skipParams(p[at:], int(count), true, nil)
		if !good {
			return nil, nil, false
		}
		at += end
	}
	return p[:at], p[at:], true
}

// Attribute finds a string among the query attributes in front of a statement.
func Attribute(attrs []byte, name string) (value []byte, found bool) {
	count, n := LenEnc(attrs)
	if n == 0 || count == 0 || count > 65535 {
		return nil, false
	}
	at := n
	_, n = LenEnc(attrs[at:])
	at += n
	if n == 0 {
		return nil, false
	}
	skipParams(attrs[at:], int(count), true, func(n, v []byte) {
		if string(n) == name {
			value, found = v, true
		}
	})
	return value, found
}

// skipParams walks over [null bitmap][flag][types and names][values] and returns
// its length. visit, if set, gets every string parameter.
func skipParams(p []byte, count int, named bool, visit func(name, value []byte)) (int, bool) {
	nulls := (count + 7) / 8
	if len(p) < nulls+1 || p[nulls] != 1 {
		return 0, false
	}
	at := nulls + 1
	types := at
	for range count {
		if len(p) < at+2 {
			return 0, false
		}
		at += 2
		if named {
			_, n := LenEncBytes(p[at:])
			if n == 0 {
				return 0, false
			}
			at += n
		}
	}
	t := types
	for i := range count {
		kind := p[t]
		t += 2
		var name []byte
		if named {
			s, n := LenEncBytes(p[t:])
			name, t = s, t+n
		}
		if p[i/8]&(1<<(i%8)) != 0 {
			continue
		}
		v, n := paramValue(p[at:], kind)
		if n == 0 {
			return 0, false
		}
		if visit != nil && v != nil {
			visit(name, v)
		}
		at += n
	}
	return at, true
}

// paramValue measures one binary parameter. v is set for strings only. A value
// without bytes (type NULL) counts as malformed unless its bitmap bit is set,
// which the caller has looked at.
func paramValue(p []byte, kind byte) (v []byte, n int) {
	fixed := 0
	switch kind {
	case 0x01: // tiny
		fixed = 1
	case 0x02, 0x0d: // short, year
		fixed = 2
	case 0x03, 0x09, 0x04: // long, int24, float
		fixed = 4
	case 0x08, 0x05: // longlong, double
		fixed = 8
	case 0x07, 0x0a, 0x0b, 0x0c: // timestamp, date, time, datetime
		if len(p) < 1 || len(p) < 1+int(p[0]) {
			return nil, 0
		}
		return nil, 1 + int(p[0])
	default:
		s, n := LenEncBytes(p)
		if n == 0 {
			return nil, 0
		}
		return s, n
	}
	if len(p) < fixed {
		return nil, 0
	}
	return nil, fixed
}

// Execute is the part of a COM_STMT_EXECUTE that decides how it can be sent to a
// server that has not seen the statement's parameter types.
type Execute struct {
	// TypesAt is where the flag "types follow" is, counted from the command
	// byte; 0 if the statement has no parameters.
	TypesAt int
	// Types is the block of types (and names) if they follow, with the flag.
	Types []byte
	// Cursor tells that the client asks for a cursor.
	Cursor bool
}

// ParseExecute reads a COM_STMT_EXECUTE, command byte included. params is the
// number of parameters the statement has.
func ParseExecute(p []byte, params int, caps uint32) (e Execute, ok bool) {
	if len(p) < 10 {
		return e, false
	}
	flags := p[5]
	e.Cursor = flags&0x07 != 0
	at := 10
	// The count is there whenever query attributes were agreed on and anything
	// follows at all; it covers the attributes as well.
	named := caps&ClientQueryAttributes != 0
	if named && (params > 0 || flags&0x08 != 0) {
		count, n := LenEnc(p[at:])
		if n == 0 || count > 65535 {
			return e, false
		}
		params = int(count)
		at += n
	}
	if params == 0 {
		return e, true
	}
	at += (params + 7) / 8
	if len(p) <= at {
		return e, false
	}
	e.TypesAt = at
	if p[at] != 1 {
		return e, true
	}
	end := at + 1
	for range params {
		if len(p) < end+2 {
			return e, false
		}
		end += 2
		if named {
			_, n := LenEncBytes(p[end:])
			if n == 0 {
				return e, false
			}
			end += n
		}
	}
	e.Types = p[at:end]
	return e, true
}

// StmtID is the statement a request is about; the request has been checked to
// be long enough.
func StmtID(p []byte) uint32 { return binary.LittleEndian.Uint32(p[1:]) }

// PutStmtID names another statement in its place.
func PutStmtID(p []byte, id uint32) { binary.LittleEndian.PutUint32(p[1:], id) }
