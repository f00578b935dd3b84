package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"time"

	"github.com/perdure/perdure/internal/mysql/wire"
)

// maxLogin is the largest packet we read from somebody who has not signed in:
// several times the 64 KiB that connection attributes can take.
const maxLogin = 256 << 10

// login brings a new client through greeting, TLS and password to its first
// server connection. An error has been told to the client if that was possible.
func (s *session) login() error {
	s.client.SetDeadline(time.Now().Add(s.p.cfg.LoginTimeout))
	nonce := wire.NewNonce()
	offer := wire.Offered
	if s.p.cfg.TLS != nil {
		offer |= wire.ClientSSL
	}
	g := &wire.Greeting{
		Version: s.p.version(), ThreadID: s.id, Nonce: nonce, Caps: offer,
		Collation: 255, Status: wire.StatusAutocommit, Plugin: wire.PluginCachingSHA2,
	}
	if err := s.client.Write(wire.AppendPacket(nil, 0, wire.AppendGreeting(nil, g))); err != nil {
		return err
	}
	p, seq, err := s.client.ReadPacket(maxLogin)
	if err != nil {
		return err
	}
	if wire.SSLRequest(p) {
		if s.p.cfg.TLS == nil {
			return s.deny(seq, &wire.ServerError{Code: 1045, State: "28000", Message: "perdure: TLS is not offered"})
		}
		if err := s.client.StartTLS(func(nc net.Conn) *tls.Conn { return tls.Server(nc, s.p.cfg.TLS) }); err != nil {
			return fmt.Errorf("TLS: %w", err)
		}
		if p, seq, err = s.client.ReadPacket(maxLogin); err != nil {
			return err
		}
	}
	r, err := wire.ParseResponse(p)
	if err != nil {
		return s.deny(seq, &wire.ServerError{Code: 1043, State: "08S01", Message: "Bad handshake"})
	}
	if s.p.cfg.RequireTLS && !s.client.Secure() {
		return s.deny(seq, &wire.ServerError{Code: 3159, State: "HY000", Message: "Connections using insecure transport are prohibited while --require_secure_transport=ON."})
	}
	s.caps = r.Caps & offer
	s.user, s.collation = r.User, r.Collation
	s.who.Store(&r.User)
	s.named(r.Attrs)
	if r.Caps&wire.ClientConnectWithDB != 0 {
		s.st.schema = r.Schema
	}
	s.st.multi = -1
	s.status = wire.StatusAutocommit
	return s.admit(r.Plugin, r.Auth, nonce, seq)
}

// admit proves who the client is and gives it its first connection.
func (s *session) admit(plugin string, auth, nonce []byte, seq byte) error {
	if s.caps&wire.ClientPluginAuth == 0 {
		return s.deny(seq, &wire.ServerError{Code: 1251, State: "08004", Message: "Client does not support authentication protocol requested by server; consider upgrading MySQL client"})
	}
	var err error
	if plugin == wire.PluginCachingSHA2 {
		seq, err = s.password(auth, nonce, seq)
		if err != nil {
			return err
		}
	}
	return s.enter(seq)
}

// enter opens the first connection and tells the client how it went.
func (s *session) enter(seq byte) error {
	s.client.SetDeadline(time.Now().Add(s.p.cfg.LoginTimeout + s.p.cfg.HoldLimit))
	var err error
	relayed := seq
	if s.cred == nil {
		err = s.passThrough(&relayed)
	} else {
		s.key = s.makeKey()
		err = s.firstConnection(&relayed)
	}
	if err != nil {
		var e *wire.ServerError
		if !errors.As(err, &e) {
			e = &wire.ServerError{Code: 1105, State: "HY000", Message: "perdure: " + err.Error()}
		}
		return s.deny(relayed, e)
	}
	s.door.Store(nil)
	if s.cred != nil {
		s.p.creds.keep(s.cred)
		s.door.Store(&door{s.key, s.cred, s.caps, s.attrs})
	}
	s.client.SetDeadline(time.Time{})
	s.out = wire.AppendOK(append(s.out[:0], s.early...), relayed+1, wire.OK{Status: s.status})
	s.early = nil
	if err := s.client.Write(s.out); err != nil {
		return err
	}
	if s.l.Pooling == PerTransaction && s.pins.load() == 0 {
		s.b.rested.Store(clock())
		s.lend()
	}
	return nil
}

// firstConnection attaches a session whose password we hold. An account that
// needs more than its password is relayed.
func (s *session) firstConnection(seq *byte) error {
	err := s.ensure(s.plainService())
	var e *wire.ServerError
	if err != nil && !errors.As(err, &e) && errors.Is(err, wire.ErrForeign) {
		s.cred = nil
		if s.early != nil {
			s.early = nil // it was not said
			*seq--
		}
		return s.passThrough(seq)
	}
	return err
}

func (s *session) makeKey() key {
	return key{user: s.user, secret: s.cred.secret, caps: s.caps & wire.Shaping, collation: s.collation, attrs: s.attrSum}
}

func (s *session) deny(seq byte, e *wire.ServerError) error {
	_ = s.client.Write(wire.AppendErr(s.early, seq+1, e))
	s.early = nil
	return e
}

// password gets the client's password: from memory if its short proof fits one
// we know, else by asking for it, inside TLS or under our own key.
func (s *session) password(auth, nonce []byte, seq byte) (byte, error) {
	if len(auth) == 0 {
		s.cred = s.p.creds.of(s.user, nil)
		return seq, nil
	}
	if c := s.p.creds.match(s.user, auth, nonce); c != nil {
		s.cred = c
		s.early = wire.AppendPacket(nil, seq+1, []byte{1, 3}) // goes with what follows it
		return seq + 1, nil
	}
	if err := s.client.Write(wire.AppendPacket(nil, seq+1, []byte{1, 4})); err != nil {
		return seq, err
	}
	p, seq, err := s.client.ReadPacket(maxLogin)
	if err != nil {
		return seq, err
	}
	if s.client.Secure() {
		return seq, s.take(p, seq)
	}
	key := s.p.rsaKey()
	if len(p) == 1 && p[0] == 2 {
		pem, err := wire.PublicKeyPEM(key)
		if err != nil {
			return seq, err
		}
		if err := s.client.Write(wire.AppendPacket(nil, seq+1, append([]byte{1}, pem...))); err != nil {
			return seq, err
		}
		if p, seq, err = s.client.ReadPacket(maxLogin); err != nil {
			return seq, err
		}
	}
	plain, err := wire.OpenPassword(p, nonce, key)
	if err != nil {
		return seq, s.deny(seq, s.accessDenied())
	}
	s.cred = s.p.creds.of(s.user, plain)
	clear(plain)
	return seq, nil
}

func (s *session) take(p []byte, seq byte) error {
	if len(p) == 0 || p[len(p)-1] != 0 {
		return s.deny(seq, s.accessDenied())
	}
	s.cred = s.p.creds.of(s.user, p[:len(p)-1])
	clear(p)
	return nil
}

func (s *session) accessDenied() *wire.ServerError {
	host, _, err := net.SplitHostPort(s.addr)
	if err != nil {
		host = s.addr
	}
	return &wire.ServerError{Code: 1045, State: "28000", Message: "Access denied for user '" + s.user + "'@'" + host + "' (using password: YES)"}
}

// named takes the client's connection attributes. Those an application chose are
// part of the pool key, so that the next client does not appear under its name;
// what a driver says of itself and its process (names that begin with _) is not.
func (s *session) named(attrs []byte) {
	h := fnv.New64a()
	for rest := attrs; len(rest) > 0; {
		name, n := wire.LenEncBytes(rest)
		if n == 0 {
			break
		}
		value, m := wire.LenEncBytes(rest[n:])
		if m == 0 {
			break
		}
		rest = rest[n+m:]
		if len(name) > 0 && name[0] != '_' {
			h.Write(name)
			h.Write([]byte{0})
			h.Write(value)
			h.Write([]byte{0})
		}
	}
	s.attrSum = h.Sum64()
	s.attrs = s.withClient(attrs)
}

// withClient adds to a client's connection attributes where it comes from,
// since the server sees only us.
func (s *session) withClient(attrs []byte) []byte {
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		host = s.addr
	}
	out := append([]byte(nil), attrs...)
	for _, a := range [][2]string{{"_client_ip", host}, {"_client_port", port}, {"_proxy", "perdure"}} {
		if a[1] != "" && len(out) < 60<<10 {
			out = wire.AppendLenEncBytes(wire.AppendLenEncBytes(out, a[0]), a[1])
		}
	}
	return out
}

// passThrough lets client and server settle the sign-in between themselves. We
// never see a password, so the session can use this one connection only.
func (s *session) passThrough(seq *byte) error {
	s.pin(pinCredential, nil)
	plan := s.p.route.Plan()
	svc := s.plainService()
	m := plan.Pick(svc, time.Now(), "")
	if m == nil {
		return noMember(svc, 0, "no member serves it")
	}
	in := &wire.SignIn{
		User: s.user, Schema: s.st.schema, Caps: s.caps, Collation: s.collation, Attrs: s.attrs,
		// No server knows a method of this name, so it names the right one.
		FirstPlugin: "perdure_ask_client",
		Relay: func(p []byte) ([]byte, error) {
			if err := s.client.Write(wire.AppendPacket(nil, *seq+1, p)); err != nil {
				return nil, err
			}
			reply, n, err := s.client.ReadPacket(maxLogin)
			*seq = n
			return append([]byte(nil), reply...), err
		},
		Pass: func(p []byte) error {
			*seq++
			return s.client.Write(wire.AppendPacket(nil, *seq, p))
		},
	}
	st := s.p.seat(m.Name)
	b, err := st.dial(s.quit, m, in, key{user: s.user, caps: s.caps & wire.Shaping, collation: s.collation})
	if err != nil {
		return err
	}
	if err := s.restore(b); err != nil {
		st.discard(b)
		return err
	}
	s.sit(b, plan, m, svc)
	return nil
}

// changeUser signs in anew on the connection the client has.
func (s *session) changeUser(r *request) error {
	c, err := wire.ParseChangeUser(r.bytes[5:], s.caps)
	if err != nil {
		_ = s.refuse(&wire.ServerError{Code: 1047, State: "08S01", Message: "Unknown command"})
		return err
	}
	s.client.Advance(len(r.bytes))
	r.bytes = nil
	s.client.SetDeadline(time.Now().Add(s.p.cfg.LoginTimeout))
	s.dropAll()
	s.user, s.st.schema = c.User, c.Schema
	s.who.Store(&c.User)
	if c.Collation != 0 && c.Collation < 256 {
		s.collation = byte(c.Collation)
	}
	if len(c.Attrs) > 0 {
		s.named(c.Attrs)
	}
	nonce := wire.NewNonce()
	if err := s.client.Write(wire.AppendPacket(nil, 1, wire.AppendAuthSwitch(nil, wire.PluginCachingSHA2, nonce))); err != nil {
		return err
	}
	p, seq, err := s.client.ReadPacket(maxLogin)
	if err != nil {
		return err
	}
	return s.admit(wire.PluginCachingSHA2, append([]byte(nil), p...), nonce, seq)
}

// dropAll returns the session to the moment before it signed in.
func (s *session) dropAll() {
	b := s.b
	s.use(nil)
	if b != nil {
		s.giveUp(b)
	}
	for i, b := range s.parked {
		if b != nil {
			s.parked[i] = nil
			s.giveUp(b)
		}
	}
	s.lent = [2]*backend{}
	// Signing in anew does not undo COM_SET_OPTION.
	s.st = state{multi: s.st.multi, version: s.st.version + 1}
	s.pins.store(0)
	clear(s.stmts)
	s.cursors, s.nextStmt = 0, 0
	s.pending = s.pending[:0]
	s.status = wire.StatusAutocommit
	s.cred = nil
}
