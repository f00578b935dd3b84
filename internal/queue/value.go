package queue

import (
	"encoding/hex"
	"strconv"
	"time"
)

// Type of a bound value.
type valueKind byte

const (
	kindNull valueKind = iota
	kindInt
	kindUint
	kindNumber // decimal or float, as text that was checked to be a number
	kindText
	kindBytes
	kindTime
)

// Value is one bound value of a statement. It never becomes part of the text
// of a statement other than as a literal of its kind.
type Value struct {
	kind valueKind
	num  uint64
	text string
}

// Null, Int, Uint, Number, Text, Bytes and Time make values.
func Null() Value              { return Value{} }
func Int(i int64) Value        { return Value{kind: kindInt, num: uint64(i)} }
func Uint(u uint64) Value      { return Value{kind: kindUint, num: u} }
func Text(s string) Value      { return Value{kind: kindText, text: s} }
func Bytes(b []byte) Value     { return Value{kind: kindBytes, text: string(b)} }
func Time(t time.Time) Value   { return Value{kind: kindTime, num: uint64(t.UnixMicro())} }
func number(text string) Value { return Value{kind: kindNumber, text: text} }

// appendLiteral writes v as MySQL reads it in the pinned session: utf8mb4, and
// neither NO_BACKSLASH_ESCAPES nor ANSI_QUOTES in sql_mode. In utf8mb4 no byte
// of a longer character looks like a quote or a backslash, so escaping byte by
// byte is safe.
func (v Value) appendLiteral(b []byte) []byte {
	switch v.kind {
	case kindInt:
		return strconv.AppendInt(b, int64(v.num), 10)
	case kindUint:
		return strconv.AppendUint(b, v.num, 10)
	case kindNumber:
		return append(b, v.text...)
	case kindText:
		return appendQuoted(b, v.text)
	case kindBytes:
		b = append(b, "x'"...)
		b = hex.AppendEncode(b, []byte(v.text))
		return append(b, '\'')
	case kindTime:
		b = append(b, '\'')
		b = time.UnixMicro(int64(v.num)).UTC().AppendFormat(b, "2006-01-02 15:04:05.000000")
		return append(b, '\'')
	}
	return append(b, "NULL"...)
}

func appendQuoted(b []byte, s string) []byte {
	b = append(b, '\'')
	start := 0
	for i := range len(s) {
		var esc byte
		switch s[i] {
		case 0:
			esc = '0'
		case '\n':
			esc = 'n'
		case '\r':
			esc = 'r'
		case 0x1a:
			esc = 'Z'
		case '\'', '"', '\\':
			esc = s[i]
		default:
			continue
		}
		b = append(b, s[start:i]...)
		b = append(b, '\\', esc)
		start = i + 1
	}
	b = append(b, s[start:]...)
	return append(b, '\'')
}

func (v Value) size() int { return len(v.text) + 10 }

// any is v for people and JSON.
func (v Value) any() any {
	switch v.kind {
	case kindInt:
		return int64(v.num)
	case kindUint:
		return v.num
	case kindNumber, kindText:
		return v.text
	case kindBytes:
		return []byte(v.text)
	case kindTime:
		return time.UnixMicro(int64(v.num)).UTC()
	}
	return nil
}
