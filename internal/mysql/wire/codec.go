package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed means the other side sent something that is not the protocol.
var ErrMalformed = errors.New("malformed packet")

// LenEnc reads a length-encoded integer; n is 0 if it is not all there.
func LenEnc(b []byte) (v uint64, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	switch c := b[0]; {
	case c < 0xfb:
		return uint64(c), 1
	case c == 0xfc && len(b) >= 3:
		return uint64(binary.LittleEndian.Uint16(b[1:])), 3
	case c == 0xfd && len(b) >= 4:
		return uint64(b[1]) | uint64(b[2])<<8 | uint64(b[3])<<16, 4
	case c == 0xfe && len(b) >= 9:
		return binary.LittleEndian.Uint64(b[1:]), 9
	}
	return 0, 0
}

// AppendLenEnc appends v as a length-encoded integer.
func AppendLenEnc(b []byte, v uint64) []byte {
	switch {
	case v < 0xfb:
		return append(b, byte(v))
	case v < 1<<16:
		return append(b, 0xfc, byte(v), byte(v>>8))
	case v < 1<<24:
		return append(b, 0xfd, byte(v), byte(v>>8), byte(v>>16))
	}
	return binary.LittleEndian.AppendUint64(append(b, 0xfe), v)
}

// LenEncBytes reads a length-encoded string; n is 0 if it is not all there.
func LenEncBytes(b []byte) (s []byte, n int) {
	v, k := LenEnc(b)
	if k == 0 || v > uint64(len(b)-k) {
		return nil, 0
	}
	return b[k : k+int(v)], k + int(v)
}

// AppendLenEncBytes appends s with its length in front.
func AppendLenEncBytes[T string | []byte](b []byte, s T) []byte {
	return append(AppendLenEnc(b, uint64(len(s))), s...)
}

// AppendPacket appends payload as packets, the first numbered seq. What is
// longer than a packet can be is cut in several, as the protocol wants it.
func AppendPacket[T string | []byte](b []byte, seq byte, payload T) []byte {
	for {
		n := min(len(payload), maxPayload)
		b = append(b, byte(n), byte(n>>8), byte(n>>16), seq)
		b = append(b, payload[:n]...)
		payload = payload[n:]
		seq++
		if n < maxPayload {
			return b
		}
	}
}

// PutHeader writes a packet's header into the first four bytes of b.
func PutHeader(b []byte, n int, seq byte) {
	b[0], b[1], b[2], b[3] = byte(n), byte(n>>8), byte(n>>16), seq
}

// AppendCommand appends one request: command byte and body.
func AppendCommand[T string | []byte](b []byte, cmd byte, body T) []byte {
	if len(body)+1 < maxPayload {
		n := len(body) + 1
		b = append(b, byte(n), byte(n>>8), byte(n>>16), 0, cmd)
		return append(b, body...)
	}
	whole := make([]byte, 0, len(body)+1)
	whole = append(append(whole, cmd), body...)
	return AppendPacket(b, 0, whole)
}

// AppendQuery appends a COM_QUERY in the form the capabilities ask for.
func AppendQuery[T string | []byte](b []byte, caps uint32, sql T) []byte {
	if caps&ClientQueryAttributes == 0 {
		return AppendCommand(b, ComQuery, sql)
	}
	n := len(sql) + 3
	if n < maxPayload {
		b = append(b, byte(n), byte(n>>8), byte(n>>16), 0, ComQuery, 0, 1)
		return append(b, sql...)
	}
	whole := make([]byte, 0, n)
	whole = append(append(whole, ComQuery, 0, 1), sql...)
	return AppendPacket(b, 0, whole)
}

// OK is what an OK packet (or a result's closing EOF) says. Info and Tracks
// point into the packet.
type OK struct {
	Header   byte
	Affected uint64
	InsertID uint64
	Status   uint16
	Warnings uint16
	Info     []byte
	Tracks   []byte
	// statusAt is where the status is in the payload.
	statusAt int
	// infoAt is where the text behind the fixed part begins.
	infoAt int
}

// ParseOK reads the payload of an OK packet under the given capabilities.
// A closing EOF of a connection without DEPRECATE_EOF is understood too.
func ParseOK(p []byte, caps uint32) (ok OK, err error) {
	if len(p) < 1 {
		return ok, ErrMalformed
	}
	ok.Header = p[0]
	if p[0] == 0xfe && caps&ClientDeprecateEOF == 0 {
		if len(p) < 5 {
			return ok, ErrMalformed
		}
		ok.Warnings = binary.LittleEndian.Uint16(p[1:])
		ok.Status = binary.LittleEndian.Uint16(p[3:])
		ok.statusAt, ok.infoAt = 3, len(p)
		return ok, nil
	}
	at := 1
	v, n := LenEnc(p[at:])
	if n == 0 {
		return ok, ErrMalformed
	}
	ok.Affected = v
	at += n
	if v, n = LenEnc(p[at:]); n == 0 {
		return ok, ErrMalformed
	}
	ok.InsertID = v
	at += n
	if len(p) < at+4 {
		return ok, ErrMalformed
	}
	ok.statusAt = at
	ok.Status = binary.LittleEndian.Uint16(p[at:])
	ok.Warnings = binary.LittleEndian.Uint16(p[at+2:])
	at += 4
	ok.infoAt = at
	if at == len(p) {
		return ok, nil
	}
	info, n := LenEncBytes(p[at:])
	if n == 0 {
		return ok, ErrMalformed
	}
	ok.Info = info
	at += n
	if caps&ClientSessionTrack != 0 && ok.Status&StatusStateChanged != 0 {
		tracks, n := LenEncBytes(p[at:])
		if n == 0 {
			return ok, ErrMalformed
		}
		ok.Tracks = tracks
	}
	return ok, nil
}

// NextTrack takes one item from a list of session tracks. It returns a nil rest
// at the end and ErrMalformed if the list is not one.
func NextTrack(tracks []byte) (kind byte, item, rest []byte, err error) {
	if len(tracks) < 2 {
		return 0, nil, nil, ErrMalformed
	}
	item, n := LenEncBytes(tracks[1:])
	if n == 0 {
		return 0, nil, nil, ErrMalformed
	}
	return tracks[0], item, tracks[1+n:], nil
}

// KeepTracks rewrites an OK packet in place so that only the tracks that keep
// accepts are left, and returns the new length of the payload. It never grows.
// A packet it cannot read is left as it is.
func KeepTracks(p []byte, ok *OK, keep func(kind byte, item []byte) bool) int {
	if ok.Status&StatusStateChanged == 0 || ok.Tracks == nil {
		return len(p)
	}
	// The items that stay are moved to the front of the list, and only then the
	// lengths before them are written again, which can only become shorter.
	list := ok.Tracks
	w := 0
	for rest := list; len(rest) > 0; {
		kind, item, next, err := NextTrack(rest)
		if err != nil {
			return len(p)
		}
		size := len(rest) - len(next)
		if keep(kind, item) {
			copy(list[w:], rest[:size])
			w += size
		}
		rest = next
	}
	if w > 0 && w == len(list) {
		return len(p)
	}
	if w == 0 {
		binary.LittleEndian.PutUint16(p[ok.statusAt:], ok.Status&^StatusStateChanged)
		if len(ok.Info) == 0 {
			return ok.infoAt
		}
		_, n := LenEncBytes(p[ok.infoAt:])
		return ok.infoAt + n
	}
	_, n := LenEncBytes(p[ok.infoAt:])
	at := ok.infoAt + n
	var head [9]byte
	k := copy(p[at:], AppendLenEnc(head[:0], uint64(w)))
	copy(p[at+k:], list[:w])
	return at + k + w
}

// AppendOK appends an OK packet.
func AppendOK(b []byte, seq byte, ok OK) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, seq, ok.Header)
	b = AppendLenEnc(b, ok.Affected)
	b = AppendLenEnc(b, ok.InsertID)
	b = binary.LittleEndian.AppendUint16(b, ok.Status)
	b = binary.LittleEndian.AppendUint16(b, ok.Warnings)
	if len(ok.Info) > 0 || len(ok.Tracks) > 0 {
		b = AppendLenEncBytes(b, ok.Info)
	}
	if len(ok.Tracks) > 0 {
		b = AppendLenEncBytes(b, ok.Tracks)
	}
	PutHeader(b[at:], len(b)-at-4, seq)
	return b
}

// ServerError is an error a server answered with, or one we answer with.
type ServerError struct {
	Code    uint16
	State   string // five characters
	Message string
}

func (e *ServerError) Error() string {
	return fmt.Sprintf("error %d (%s): %s", e.Code, e.State, e.Message)
}

// ErrCode is the number in an ERR packet's payload, 0 if it is none.
func ErrCode(p []byte) uint16 {
	if len(p) < 3 || p[0] != 0xff {
		return 0
	}
	return binary.LittleEndian.Uint16(p[1:])
}

// ParseErr reads the payload of an ERR packet.
func ParseErr(p []byte) *ServerError {
	e := &ServerError{Code: ErrCode(p), State: "HY000"}
	if len(p) > 3 {
		p = p[3:]
		if len(p) >= 6 && p[0] == '#' {
			e.State, p = string(p[1:6]), p[6:]
		}
		e.Message = string(p)
	}
	return e
}

// AppendErr appends an ERR packet.
func AppendErr(b []byte, seq byte, e *ServerError) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, seq, 0xff)
	b = binary.LittleEndian.AppendUint16(b, e.Code)
	state := e.State
	if len(state) != 5 {
		state = "HY000"
	}
	b = append(append(b, '#'), state...)
	msg := e.Message
	if len(msg) > 512 { // clients keep a fixed buffer of this size
		msg = msg[:512]
	}
	b = append(b, msg...)
	PutHeader(b[at:], len(b)-at-4, seq)
	return b
}
