package wire

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

func packets(payloads ...string) []byte {
	var b []byte
	for i, p := range payloads {
		b = AppendPacket(b, byte(i+1), p)
	}
	return b
}

// A result of two columns and two rows, in both endings.
var (
	classic = packets("\x02", "\x03defa", "\x03defb", "\xfe\x00\x00\x02\x00", "\x011\x012", "\xfb\x012", "\xfe\x00\x00\x02\x00")
	modern  = packets("\x02", "\x03defa", "\x03defb", "\x011\x012", "\xfb\x012", "\xfe\x00\x00\x02\x00\x00\x00")
)

func TestTrackerFollowsAnAnswerHoweverItIsCut(t *testing.T) {
	t.Parallel()
	large := AppendPacket(nil, 4, "\xfe"+string(make([]byte, maxPayload+10)))
	withLarge := append(append(packets("\x01", "\x03def"), large...), AppendPacket(nil, 6, "\xfe\x00\x00\x02\x00\x00\x00")...)
	for name, c := range map[string]struct {
		shape Shape
		caps  uint32
		bytes []byte
	}{
		"classic":                  {ShapeQuery, 0, classic},
		"modern":                   {ShapeQuery, ClientDeprecateEOF, modern},
		"ok":                       {ShapeQuery, 0, packets("\x00\x00\x00\x02\x00\x00\x00")},
		"err":                      {ShapeExecute, 0, packets("\xff\x28\x04#42000no")},
		"two results":              {ShapeQuery, ClientDeprecateEOF, append(packets("\x00\x01\x00\x0a\x00\x00\x00"), modern...)},
		"cursor":                   {ShapeExecute, 0, packets("\x01", "\x03def", "\xfe\x00\x00\x42\x00")},
		"prepare, classic":         {ShapePrepare, 0, packets("\x00\x01\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00", "\x03def", "\xfe\x00\x00\x02\x00", "\x03def", "\xfe\x00\x00\x02\x00")},
		"prepare, modern":          {ShapePrepare, ClientDeprecateEOF, packets("\x00\x01\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00", "\x03def", "\x03def")},
		"prepare of nothing":       {ShapePrepare, 0, packets("\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")},
		"statistics":               {ShapeString, 0, packets("Uptime: 5")},
		"row larger than a packet": {ShapeQuery, ClientDeprecateEOF, withLarge},
	} {
		steps := []int{1, 2, 3, 5, 1000, 1 << 26}
		if len(c.bytes) > 1<<20 {
			steps = steps[4:]
		}
		for _, step := range steps {
			var tr Tracker
			tr.Begin(c.shape, c.caps)
			seen, at := 0, 0
			for !tr.Done() {
				n, ev, size := tr.Scan(c.bytes[at:seen])
				if ev == Bad {
					t.Fatalf("%s in steps of %d: bad at %d", name, step, at+n)
				}
				at += n + size
				if ev == More && !tr.Done() {
					if seen == len(c.bytes) {
						t.Fatalf("%s in steps of %d: wants more at %d of %d", name, step, at, seen)
					}
					seen = min(seen+step, len(c.bytes))
				}
			}
			if at != len(c.bytes) {
				t.Errorf("%s in steps of %d: done after %d of %d", name, step, at, len(c.bytes))
			}
		}
	}
}

func TestTracksAreTakenOutInPlace(t *testing.T) {
	t.Parallel()
	item := func(kind byte, s string) []byte { return AppendLenEncBytes([]byte{kind}, s) }
	tracks := bytes.Join([][]byte{item(TrackState, "\x011"), item(TrackSchema, "\x04test"), item(TrackGTID, "\x00\x03a:1")}, nil)
	for _, info := range []string{"", "Rows matched: 1"} {
		p := AppendOK(nil, 1, OK{Affected: 3, InsertID: 900, Status: StatusAutocommit | StatusStateChanged, Info: []byte(info), Tracks: tracks})[4:]
		for _, keep := range []func(byte, []byte) bool{
			func(byte, []byte) bool { return true }, func(byte, []byte) bool { return false }, func(k byte, _ []byte) bool { return k == TrackSchema },
		} {
			q := bytes.Clone(p)
			ok, err := ParseOK(q, ClientSessionTrack)
			if err != nil {
				t.Fatal(err)
			}
			q = q[:KeepTracks(q, &ok, keep)]
			got, err := ParseOK(q, ClientSessionTrack)
			if err != nil {
				t.Fatal(err)
			}
			if got.Affected != 3 || got.InsertID != 900 || string(got.Info) != info {
				t.Errorf("%+v", got)
			}
			for rest := got.Tracks; len(rest) > 0; {
				kind, item, next, err := NextTrack(rest)
				if err != nil || !keep(kind, item) {
					t.Error(kind, item, err)
				}
				rest = next
			}
		}
	}
}

func TestPasswordsAreProvenAndSealed(t *testing.T) {
	t.Parallel()
	nonce := NewNonce()
	if !CheckSHA2(ScrambleSHA2([]byte("secret"), nonce), nonce, DigestSHA2([]byte("secret"))) {
		t.Error("the right password was refused")
	}
	if CheckSHA2(ScrambleSHA2([]byte("other"), nonce), nonce, DigestSHA2([]byte("secret"))) {
		t.Error("a wrong password was accepted")
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := PublicKeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := SealPassword([]byte("secret"), nonce, pem)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenPassword(sealed, nonce, key); err != nil || string(got) != "secret" {
		t.Errorf("%q %v", got, err)
	}
}

// A stranger who announces much and sends nothing must not cost memory.
func TestALengthIsOnlyAClaim(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	sent := AppendPacket(nil, 0, make([]byte, 200_000))
	go func() { _, _ = far.Write(sent[:20_000]) }()
	c := NewConn(near)
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, _, err := c.ReadPacket(1 << 20); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if len(c.buf) > largeBuffer {
		t.Errorf("20 kB arrived and %d are held", len(c.buf))
	}
	c.SetReadDeadline(time.Time{})
	go func() { _, _ = far.Write(sent[20_000:]) }()
	if p, _, err := c.ReadPacket(1 << 20); err != nil || len(p) != 200_000 {
		t.Error(len(p), err)
	}
}

// said is a connection on which the other side has said all it will.
type said struct {
	net.Conn
	r *bytes.Reader
}

func (s *said) Read(p []byte) (int, error)       { return s.r.Read(p) }
func (s *said) Write(p []byte) (int, error)      { return len(p), nil }
func (s *said) Close() error                     { return nil }
func (s *said) SetReadDeadline(time.Time) error  { return nil }
func (s *said) SetWriteDeadline(time.Time) error { return nil }

func FuzzAnswer(f *testing.F) {
	f.Add(classic, uint32(0))
	f.Add(modern, ClientDeprecateEOF)
	f.Fuzz(func(t *testing.T, b []byte, caps uint32) {
		a, err := NewConn(&said{r: bytes.NewReader(b)}).ReadAnswer(caps, 1<<16)
		if err != nil {
			return
		}
		for _, row := range a.Rows {
			if len(row) != len(a.Columns) {
				t.Fatal("a row of another width")
			}
		}
	})
}

func FuzzOpen(f *testing.F) {
	g := AppendPacket(nil, 0, AppendGreeting(nil, &Greeting{Version: "9", Nonce: NewNonce(), Caps: ClientProtocol41 | ClientPluginAuth, Plugin: PluginCachingSHA2}))
	f.Add(AppendPacket(append(AppendPacket(g, 2, []byte{1, 3}), AppendOK(nil, 3, OK{})...), 0, "x"), "secret", false)
	f.Add(AppendPacket(g, 2, AppendAuthSwitch(nil, PluginNative, NewNonce())), "", true)
	f.Add(AppendPacket(g, 2, "\x01-----BEGIN PUBLIC KEY-----\n"), "secret", false)
	f.Fuzz(func(_ *testing.T, b []byte, password string, relayed bool) {
		in := &SignIn{User: "u", Password: []byte(password), Caps: ClientPluginAuth}
		if relayed {
			in.FirstPlugin = "ask"
			in.Relay = func(p []byte) ([]byte, error) { return p[:0], nil }
		}
		_, _, _ = Open(&said{r: bytes.NewReader(b)}, in)
	})
}

func FuzzTracker(f *testing.F) {
	f.Add(classic, byte(ShapeQuery), false, 3)
	f.Add(modern, byte(ShapeExecute), true, 1)
	f.Fuzz(func(t *testing.T, b []byte, shape byte, eof bool, step int) {
		var tr Tracker
		caps := uint32(0)
		if eof {
			caps = ClientDeprecateEOF
		}
		tr.Begin(Shape(shape%8), caps)
		step = max(1, step%100)
		at, seen := 0, 0
		for !tr.Done() {
			n, ev, size := tr.Scan(b[at:seen])
			if n < 0 || size < 0 || at+n+size > seen {
				t.Fatal("stepped out of what is there")
			}
			at += n + size
			if ev == Bad || ev == More && seen == len(b) {
				return
			}
			if ev == More {
				seen = min(seen+step, len(b))
			}
		}
	})
}

func FuzzPackets(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02\x00\x00\x00"), ClientSessionTrack)
	f.Add(AppendGreeting(nil, &Greeting{Version: "9", Nonce: NewNonce(), Plugin: PluginNative}), uint32(0))
	f.Add(AppendResponse(nil, &Response{Caps: ClientProtocol41 | ClientPluginAuthLenEnc, User: "u"}), uint32(1))
	f.Add([]byte{1, 1, 0, 1, 0xfe, 0, 1, 'a', 1, 'b', 'S'}, ClientQueryAttributes)
	f.Fuzz(func(t *testing.T, b []byte, caps uint32) {
		if ok, err := ParseOK(b, caps); err == nil {
			if n := KeepTracks(bytes.Clone(b), &ok, func(k byte, _ []byte) bool { return k == 1 }); n > len(b) {
				t.Fatal("grew")
			}
			q := bytes.Clone(b)
			if again, err := ParseOK(q, caps); err == nil {
				q = q[:KeepTracks(q, &again, func(k byte, _ []byte) bool { return k&1 == 0 })]
				_, _ = ParseOK(q, caps)
			}
		}
		_ = ParseErr(b)
		_, _ = ParseGreeting(b)
		_, _ = ParseResponse(b)
		_, _ = ParseChangeUser(b, caps)
		_, _, _ = ParseAuthSwitch(b)
		if attrs, _, ok := QueryText(b, caps); ok {
			_, _ = Attribute(attrs, "perdure.route")
		}
		for params := range 3 {
			if e, ok := ParseExecute(b, params, caps); ok && e.TypesAt > len(b) {
				t.Fatal("types lie outside")
			}
		}
		if c, err := ParseColumn(b); err == nil {
			_ = c
		}
		_, _ = ParseRow(b, 3)
	})
}

func BenchmarkScan(b *testing.B) {
	b.ReportAllocs()
	var tr Tracker
	for b.Loop() {
		tr.Begin(ShapeQuery, ClientDeprecateEOF)
		for at := 0; !tr.Done(); {
			n, _, size := tr.Scan(modern[at:])
			at += n + size
		}
	}
}
