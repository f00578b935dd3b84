package wire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// maxSignIn is more than any packet of a sign-in needs: user, schema, proof and
// 64 KiB of connection attributes.
const maxSignIn = 1 << 20

// SignIn is what a server is told when a connection to it opens.
type SignIn struct {
	User      string
	Password  []byte
	Schema    string
	Caps      uint32
	Collation byte
	Attrs     []byte
	// TLS, if set, is demanded before anything secret is sent.
	TLS *tls.Config
	// Relay, if set, answers what a password cannot: it gets the server's packet
	// and returns the reply of whoever knows. FirstPlugin is then announced
	// instead of a method of ours, with FirstAuth as proof.
	Relay       func(payload []byte) ([]byte, error)
	FirstPlugin string
	// Pass gets what the server says during a relayed sign-in that needs no
	// reply.
	Pass func(payload []byte) error
}

// ErrForeign means the account signs in by a method that needs its client.
var ErrForeign = errors.New("the account signs in by a method that needs its client")

// Server is what is known of the other side after signing in.
type Server struct {
	Greeting
	// Caps are the flags both sides agreed on.
	Caps uint32
	// OK is the payload that closed the sign-in.
	OK []byte
	// Relayed tells that Relay was asked: the password alone would not do.
	Relayed bool
}

// Open signs in on nc. A refusal of the server is a *ServerError. The caller
// sets deadlines, and closes nc if Open fails.
func Open(nc net.Conn, s *SignIn) (*Conn, *Server, error) {
	c := NewConn(nc)
	p, seq, err := c.ReadPacket(maxSignIn)
	if err != nil {
		return nil, nil, fmt.Errorf("read greeting: %w", err)
	}
	g, err := ParseGreeting(p)
	if err != nil {
		return nil, nil, err
	}
	srv := &Server{Greeting: *g}
	caps := s.Caps | ClientProtocol41 | ClientSecureConnection | ClientPluginAuth |
		ClientPluginAuthLenEnc | ClientLongPassword | ClientLongFlag | ClientTransactions |
		ClientSessionTrack | ClientConnectAttrs
	caps &^= ClientSSL | ClientConnectWithDB | ClientCompress | ClientZstd | ClientOptionalMetadata
	if s.Schema != "" {
		caps |= ClientConnectWithDB
	}
	if s.TLS != nil {
		if g.Caps&ClientSSL == 0 {
			return nil, nil, errors.New("the server does not offer TLS")
		}
		caps |= ClientSSL
	}
	caps &= g.Caps
	srv.Caps = caps
	r := &Response{
		Caps: caps, MaxPacket: 1 << 30, Collation: s.Collation,
		User: s.User, Schema: s.Schema, Plugin: g.Plugin, Attrs: s.Attrs,
	}
	if s.TLS != nil {
		if err := c.Write(AppendPacket(nil, seq+1, appendResponseHead(nil, r))); err != nil {
			return nil, nil, err
		}
		seq++
		if err := c.StartTLS(func(nc net.Conn) *tls.Conn { return tls.Client(nc, s.TLS) }); err != nil {
			return nil, nil, fmt.Errorf("TLS: %w", err)
		}
	}
	nonce := g.Nonce
	if s.FirstPlugin != "" {
		r.Plugin = s.FirstPlugin
	} else {
		var known bool
		if r.Auth, known = proof(r.Plugin, s.Password, nonce, c.Secure()); !known {
			r.Plugin = PluginCachingSHA2
			r.Auth = ScrambleSHA2(s.Password, nonce)
		}
	}
	if err := c.Write(AppendPacket(nil, seq+1, AppendResponse(nil, r))); err != nil {
		return nil, nil, err
	}
	plugin := r.Plugin
	for {
		p, seq, err = c.ReadPacket(maxSignIn)
		if err != nil {
			return nil, nil, fmt.Errorf("sign in: %w", err)
		}
		if len(p) == 0 {
			return nil, nil, ErrMalformed
		}
		var reply []byte
		answer := true
		switch {
		case p[0] == 0x00:
			srv.OK = append([]byte(nil), p...)
			c.Shrink()
			return c, srv, nil
		case p[0] == 0xff:
			return nil, nil, ParseErr(p)
		case srv.Relayed:
			reply, answer, err = relay(s, p)
		case p[0] == 0xfe:
			if plugin, nonce, err = ParseAuthSwitch(p); err != nil {
				return nil, nil, err
			}
			var known bool
			reply, known = proof(plugin, s.Password, nonce, c.Secure())
			if s.FirstPlugin != "" || !known {
				srv.Relayed = true
				reply, answer, err = relay(s, p)
			}
		case p[0] == 0x01:
			reply, answer, err = more(p[1:], plugin, s.Password, nonce, c.Secure())
		default:
			return nil, nil, ErrMalformed
		}
		if err != nil {
			return nil, nil, err
		}
		if answer {
			if err := c.Write(AppendPacket(nil, seq+1, reply)); err != nil {
				return nil, nil, err
			}
		}
	}
}

func relay(s *SignIn, p []byte) (reply []byte, answer bool, err error) {
	if s.Relay == nil {
		return nil, false, ErrForeign
	}
	// Fast authentication succeeded: an OK follows, no reply is due.
	if len(p) == 2 && p[0] == 0x01 && p[1] == 0x03 {
		if s.Pass == nil {
			return nil, false, nil
		}
		return nil, false, s.Pass(p)
	}
	reply, err = s.Relay(p)
	return reply, true, err
}

// proof is what a password makes of a method's nonce.
func proof(plugin string, password, nonce []byte, secure bool) (p []byte, known bool) {
	switch plugin {
	case PluginCachingSHA2:
		return ScrambleSHA2(password, nonce), true
	case PluginNative:
		return ScrambleNative(password, nonce), true
	case PluginSHA256:
		if len(password) == 0 {
			return []byte{0}, true
		}
		if secure {
			return append(append([]byte(nil), password...), 0), true
		}
		return []byte{1}, true // asks for the key
	case PluginClear:
		if secure {
			return append(append([]byte(nil), password...), 0), true
		}
	}
	return nil, false
}

// more answers the packets of a sign-in that takes more than one step.
func more(p []byte, plugin string, password, nonce []byte, secure bool) (reply []byte, answer bool, err error) {
	switch {
	case plugin == PluginCachingSHA2 && len(p) == 1 && p[0] == 3:
		return nil, false, nil
	case plugin == PluginCachingSHA2 && len(p) == 1 && p[0] == 4:
		if secure {
			return append(append([]byte(nil), password...), 0), true, nil
		}
		return []byte{2}, true, nil
	case plugin == PluginCachingSHA2 || plugin == PluginSHA256:
		reply, err = SealPassword(password, nonce, p)
		return reply, true, err
	}
	return nil, false, fmt.Errorf("%w: unexpected step of %s", ErrMalformed, plugin)
}
