package wire

import (
	"bytes"
	"encoding/binary"
)

// Greeting is the packet a server speaks first.
type Greeting struct {
	Version   string
	ThreadID  uint32
	Nonce     []byte // 20 bytes
	Caps      uint32
	Collation byte
	Status    uint16
	Plugin    string
}

// AppendGreeting appends the payload of a greeting.
func AppendGreeting(b []byte, g *Greeting) []byte {
	b = append(b, 10)
	b = append(append(b, g.Version...), 0)
	b = binary.LittleEndian.AppendUint32(b, g.ThreadID)
	b = append(append(b, g.Nonce[:8]...), 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(g.Caps))
	b = append(b, g.Collation)
	b = binary.LittleEndian.AppendUint16(b, g.Status)
	b = binary.LittleEndian.AppendUint16(b, uint16(g.Caps>>16))
	b = append(b, byte(len(g.Nonce)+1))
	b = append(b, make([]byte, 10)...)
	b = append(append(b, g.Nonce[8:]...), 0)
	return append(append(b, g.Plugin...), 0)
}

// ParseGreeting reads a server's greeting. A server that refuses before it
// greets sends an ERR, which comes back as *ServerError.
func ParseGreeting(p []byte) (*Greeting, error) {
	if len(p) > 0 && p[0] == 0xff {
		return nil, ParseErr(p)
	}
	if len(p) < 1 || p[0] != 10 {
		return nil, ErrMalformed
	}
	g := &Greeting{}
	version, p, ok := bytes.Cut(p[1:], []byte{0})
	if !ok || len(p) < 31 {
		return nil, ErrMalformed
	}
	g.Version = string(version)
	g.ThreadID = binary.LittleEndian.Uint32(p)
	g.Nonce = append(g.Nonce, p[4:12]...)
	g.Caps = uint32(binary.LittleEndian.Uint16(p[13:]))
	g.Collation = p[15]
	g.Status = binary.LittleEndian.Uint16(p[16:])
	g.Caps |= uint32(binary.LittleEndian.Uint16(p[18:])) << 16
	rest := p[31:]
	n := max(13, int(p[20])-8)
	if len(rest) < n {
		return nil, ErrMalformed
	}
	g.Nonce = append(g.Nonce, rest[:n-1]...)
	if len(g.Nonce) > 20 {
		g.Nonce = g.Nonce[:20]
	}
	plugin, _, _ := bytes.Cut(rest[n:], []byte{0})
	g.Plugin = string(plugin)
	return g, nil
}

// Response is what a client answers to the greeting.
type Response struct {
	Caps      uint32
	MaxPacket uint32
	Collation byte
	User      string
	Auth      []byte
	Schema    string
	Plugin    string
	Attrs     []byte // connection attributes, without their total length
}

// SSLRequest tells whether p asks to continue in TLS, and nothing more.
func SSLRequest(p []byte) bool {
	return len(p) == 32 && binary.LittleEndian.Uint32(p)&ClientSSL != 0
}

// ParseResponse reads a client's answer to the greeting. Nothing in the result
// points into p.
func ParseResponse(p []byte) (*Response, error) {
	if len(p) < 33 {
		return nil, ErrMalformed
	}
	r := &Response{
		Caps:      binary.LittleEndian.Uint32(p),
		MaxPacket: binary.LittleEndian.Uint32(p[4:]),
		Collation: p[8],
	}
	if r.Caps&ClientProtocol41 == 0 {
		return nil, ErrMalformed
	}
	user, p, ok := bytes.Cut(p[32:], []byte{0})
	if !ok {
		return nil, ErrMalformed
	}
	r.User = string(user)
	switch {
	case r.Caps&ClientPluginAuthLenEnc != 0:
		auth, n := LenEncBytes(p)
		if n == 0 {
			return nil, ErrMalformed
		}
		r.Auth, p = bytes.Clone(auth), p[n:]
	case r.Caps&ClientSecureConnection != 0:
		if len(p) < 1 || len(p) < 1+int(p[0]) {
			return nil, ErrMalformed
		}
		r.Auth, p = bytes.Clone(p[1:1+int(p[0])]), p[1+int(p[0]):]
	default:
		auth, rest, _ := bytes.Cut(p, []byte{0})
		r.Auth, p = bytes.Clone(auth), rest
	}
	if r.Caps&ClientConnectWithDB != 0 {
		schema, rest, _ := bytes.Cut(p, []byte{0})
		r.Schema, p = string(schema), rest
	}
	if r.Caps&ClientPluginAuth != 0 {
		plugin, rest, _ := bytes.Cut(p, []byte{0})
		r.Plugin, p = string(plugin), rest
	}
	if r.Caps&ClientConnectAttrs != 0 {
		attrs, _ := LenEncBytes(p)
		r.Attrs = bytes.Clone(attrs)
	}
	return r, nil
}

// AppendResponse appends the payload of an answer to a greeting.
func AppendResponse(b []byte, r *Response) []byte {
	b = appendResponseHead(b, r)
	b = append(append(b, r.User...), 0)
	b = AppendLenEncBytes(b, r.Auth)
	if r.Caps&ClientConnectWithDB != 0 {
		b = append(append(b, r.Schema...), 0)
	}
	b = append(append(b, r.Plugin...), 0)
	if r.Caps&ClientConnectAttrs != 0 {
		b = AppendLenEncBytes(b, r.Attrs)
	}
	return b
}

func appendResponseHead(b []byte, r *Response) []byte {
	b = binary.LittleEndian.AppendUint32(b, r.Caps)
	b = binary.LittleEndian.AppendUint32(b, r.MaxPacket)
	b = append(b, r.Collation)
	return append(b, make([]byte, 23)...)
}

// ChangeUser is the body of a COM_CHANGE_USER.
type ChangeUser struct {
	User      string
	Auth      []byte
	Schema    string
	Collation uint16
	Plugin    string
	Attrs     []byte
}

// ParseChangeUser reads the body of a COM_CHANGE_USER, without its command byte.
func ParseChangeUser(p []byte, caps uint32) (*ChangeUser, error) {
	c := &ChangeUser{}
	user, p, ok := bytes.Cut(p, []byte{0})
	if !ok || len(p) < 1 || len(p) < 1+int(p[0]) {
		return nil, ErrMalformed
	}
	c.User = string(user)
	c.Auth, p = bytes.Clone(p[1:1+int(p[0])]), p[1+int(p[0]):]
	schema, p, ok := bytes.Cut(p, []byte{0})
	if !ok {
		return nil, ErrMalformed
	}
	c.Schema = string(schema)
	if len(p) >= 2 {
		c.Collation, p = binary.LittleEndian.Uint16(p), p[2:]
	}
	if caps&ClientPluginAuth != 0 {
		plugin, rest, _ := bytes.Cut(p, []byte{0})
		c.Plugin, p = string(plugin), rest
	}
	if caps&ClientConnectAttrs != 0 {
		attrs, _ := LenEncBytes(p)
		c.Attrs = bytes.Clone(attrs)
	}
	return c, nil
}

// AppendAuthSwitch appends the payload that asks for another sign-in method.
func AppendAuthSwitch(b []byte, plugin string, nonce []byte) []byte {
	b = append(append(append(b, 0xfe), plugin...), 0)
	return append(append(b, nonce...), 0)
}

// ParseAuthSwitch reads a request for another sign-in method.
func ParseAuthSwitch(p []byte) (plugin string, nonce []byte, err error) {
	if len(p) < 1 || p[0] != 0xfe {
		return "", nil, ErrMalformed
	}
	name, rest, ok := bytes.Cut(p[1:], []byte{0})
	if !ok {
		return "", nil, ErrMalformed
	}
	return string(name), bytes.Clone(bytes.TrimSuffix(rest, []byte{0})), nil
}
