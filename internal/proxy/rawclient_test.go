package proxy

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/mysql/wire"
)

// rawClient speaks the protocol and keeps every byte of every answer.
type rawClient struct {
	c    *wire.Conn
	caps uint32
	id   uint32
	// file is what it sends when asked for one.
	file []byte
}

func rawLogin(addr string, caps uint32, user, password string) (*rawClient, error) {
	return rawLoginBy(wire.PluginCachingSHA2, addr, caps, user, password)
}

// rawLoginBy begins with another method than the server's.
func rawLoginBy(plugin, addr string, caps uint32, user, password string) (*rawClient, error) {
	nc, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(10 * time.Minute)) // for all it will ask, so that a test that hangs ends
	c := wire.NewConn(nc)
	p, seq, err := c.ReadPacket(1 << 20)
	if err != nil {
		return nil, err
	}
	g, err := wire.ParseGreeting(p)
	if err != nil {
		return nil, err
	}
	caps |= wire.ClientProtocol41 | wire.ClientSecureConnection | wire.ClientPluginAuth | wire.ClientPluginAuthLenEnc |
		wire.ClientConnectWithDB | wire.ClientTransactions | wire.ClientLongFlag | wire.ClientLongPassword
	if caps&plaintext != 0 {
		caps &^= plaintext
		seq--
	} else if err := rawTLS(c, caps|wire.ClientSSL, seq); err != nil {
		return nil, err
	}
	r := &wire.Response{Caps: caps, MaxPacket: 1 << 30, Collation: 45, User: user, Schema: "test", Plugin: plugin, Auth: wire.ScrambleSHA2([]byte(password), g.Nonce)}
	if err := c.Write(wire.AppendPacket(nil, seq+2, wire.AppendResponse(nil, r))); err != nil {
		return nil, err
	}
	rc := &rawClient{c: c, caps: caps, id: g.ThreadID}
	return rc, rc.finishAuth(password)
}

// plaintext asks rawLogin to do without TLS. The server has to know the password
// already.
const plaintext uint32 = 1 << 31

func rawTLS(c *wire.Conn, caps uint32, seq byte) error {
	head := binary.LittleEndian.AppendUint32(nil, caps)
	head = binary.LittleEndian.AppendUint32(head, 1<<30)
	head = append(append(head, 45), make([]byte, 23)...)
	if err := c.Write(wire.AppendPacket(nil, seq+1, head)); err != nil {
		return err
	}
	return c.StartTLS(func(nc net.Conn) *tls.Conn { return tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) })
}

func (rc *rawClient) finishAuth(password string) error {
	for {
		p, seq, err := rc.c.ReadPacket(1 << 20)
		if err != nil {
			return err
		}
		switch {
		case p[0] == 0:
			return nil
		case p[0] == 0xff:
			return wire.ParseErr(p)
		case p[0] == 1 && p[1] == 4:
			err = rc.c.Write(wire.AppendPacket(nil, seq+1, append([]byte(password), 0)))
		case p[0] == 0xfe:
			_, nonce, e := wire.ParseAuthSwitch(p)
			if e != nil {
				return e
			}
			err = rc.c.Write(wire.AppendPacket(nil, seq+1, wire.ScrambleSHA2([]byte(password), nonce)))
		}
		if err != nil {
			return err
		}
	}
}

// do sends a request and returns all bytes of the answer.
func (rc *rawClient) do(request []byte, shape wire.Shape) ([]byte, error) {
	if err := rc.c.Write(request); err != nil {
		return nil, err
	}
	var t wire.Tracker
	t.Begin(shape, rc.caps)
	var all []byte
	for !t.Done() {
		b := rc.c.Buffered()
		n, ev, size := t.Scan(b)
		all = append(all, b[:n+size]...)
		rc.c.Advance(n + size)
		switch ev {
		case wire.Bad:
			return all, fmt.Errorf("not the protocol at %d of %d (caps %x): % x", n, len(b), rc.caps, b)
		case wire.Infile:
			out := wire.AppendPacket(nil, t.Seq+1, rc.file)
			if len(rc.file) > 0 {
				out = wire.AppendPacket(out, t.Seq+2, "")
			}
			if err := rc.c.Write(out); err != nil {
				return all, err
			}
		case wire.More:
			if !t.Done() {
				if err := rc.c.Fill(); err != nil {
					return all, err
				}
			}
		}
	}
	return all, nil
}

func (rc *rawClient) query(sql string) ([]byte, error) {
	return rc.do(wire.AppendQuery(nil, rc.caps, sql), wire.ShapeQuery)
}

func (rc *rawClient) close() { rc.c.Release() }

func mustRaw(t testing.TB, addr string, caps uint32) *rawClient {
	t.Helper()
	rc, err := rawLogin(addr, caps, testUser, testPassword)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(rc.close)
	return rc
}
