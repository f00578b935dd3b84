package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/perdure/perdure/internal/mysql/wire"
	"github.com/perdure/perdure/internal/route"
	"github.com/perdure/perdure/internal/topology"
)

func TestLargeRowsPassUnchanged(t *testing.T) {
	t.Parallel()
	r := alone(t)
	exec(t, r.members[0].Root(t), "SET GLOBAL max_allowed_packet=1073741824", "CREATE TABLE test.big (id INT PRIMARY KEY, v LONGBLOB)")
	for _, mode := range []Mode{ReadWrite, Split} {
		c := r.conn(t, mode, func(c *driver.Config) { c.MaxAllowedPacket = 1 << 30; c.InterpolateParams = mode == Split })
		for i, size := range []int{1 << 24, 16_700_000, 1<<24 - 5, 1<<24 - 1, 64 << 20} {
			v := bytes.Repeat([]byte("perdure!"), size/8+1)[:size]
			if _, err := c.ExecContext(context.Background(), "REPLACE INTO big VALUES (?, ?)", i, v); err != nil {
				t.Fatal(size, err)
			}
			var got []byte
			if err := c.QueryRowContext(context.Background(), "SELECT v FROM big WHERE id = ?", i).Scan(&got); err != nil || !bytes.Equal(got, v) {
				t.Errorf("%s: %d bytes came back as %d: %v", mode, size, len(got), err)
			}
		}
	}
	if left := r.proxy.memory.Load(); left != 0 {
		t.Error("memory still counted:", left)
	}
}

func TestTheClientsOfMySQLWork(t *testing.T) {
	t.Parallel()
	r := alone(t)
	exec(t, r.members[0].Root(t), "CREATE TABLE test.t (id INT PRIMARY KEY AUTO_INCREMENT, v TEXT)",
		"INSERT INTO test.t (v) SELECT REPEAT('x', 1000) FROM information_schema.columns LIMIT 2000")
	bin := ""
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", r.members[0].PID())); err == nil {
		bin = filepath.Dir(exe)
	}
	run := func(in io.Reader, name string, addr string, args ...string) []byte {
		t.Helper()
		path := filepath.Join(bin, name)
		if _, err := os.Stat(path); err != nil {
			t.Skip("no", name)
		}
		host, port, _ := net.SplitHostPort(addr)
		cmd := osexec.Command(path, append([]string{"--no-defaults", "-h" + host, "-P" + port, "-u" + testUser}, args...)...)
		cmd.Env = append(os.Environ(), "MYSQL_PWD="+testPassword)
		cmd.Stdin = in
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, errs.String())
		}
		return out
	}
	dump := []string{"--skip-comments", "--set-gtid-purged=OFF", "--no-tablespaces", "--single-transaction", "test"}
	through := run(nil, "mysqldump", r.proxy.Addr(ReadWrite).String(), dump...)
	if direct := run(nil, "mysqldump", r.members[0].Address(), dump...); !bytes.Equal(through, direct) {
		t.Error("mysqldump says something else through the proxy")
	}
	run(bytes.NewReader(through), "mysql", r.proxy.Addr(ReadWrite).String(), "-e", "CREATE DATABASE copy")
	run(bytes.NewReader(through), "mysql", r.proxy.Addr(ReadWrite).String(), "copy")
	again := run(nil, "mysqldump", r.proxy.Addr(Split).String(), append(dump[:len(dump)-1:len(dump)-1], "copy")...)
	if !bytes.Equal(through, again) {
		t.Error("what was restored through the proxy is not what was dumped")
	}
}

func TestStrangersCannotHurt(t *testing.T) {
	t.Parallel()
	r := alone(t, func(c *Config) {
		c.LoginTimeout = time.Second
	})
	addr := r.proxy.Addr(ReadWrite).String()
	closes := func(name string, nc net.Conn, within time.Duration) {
		t.Helper()
		_ = nc.SetReadDeadline(time.Now().Add(within))
		if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(name, "is still connected")
		}
	}
	stranger := func() net.Conn {
		t.Helper()
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		if _, _, err := wire.NewConn(nc).ReadPacket(1 << 16); err != nil {
			t.Error(err)
		}
		return nc
	}
	askTLS := append([]byte{32, 0, 0, 1}, binary.LittleEndian.AppendUint32(nil, wire.ClientProtocol41|wire.ClientSSL)...)
	askTLS = append(askTLS, make([]byte, 28)...)
	for name, bytes := range map[string][]byte{
		"silence": nil, "half a header": {1, 0}, "huge packet": {0xff, 0xff, 0xff, 1}, "nothing": {0, 0, 0, 1},
		"short response": {4, 0, 0, 1, 1, 2, 3, 4}, "text": []byte("GET / HTTP/1.1\r\n\r\n"),
		"more than a sign-in takes": {1, 0, 4, 1}, "a large packet that does not come": {0xff, 0xff, 3, 1},
		"TLS that does not begin": askTLS, "TLS that is none": append(bytes.Clone(askTLS), "\x16\x03\x01garbage"...),
	} {
		nc := stranger()
		_, _ = nc.Write(bytes)
		closes(name, nc, 5*time.Second)
	}
	// A byte now and then keeps nobody longer than silence.
	slow, began := stranger(), time.Now()
	for _, b := range append([]byte{200, 0, 0, 1}, make([]byte, 200)...) {
		if _, err := slow.Write([]byte{b}); err != nil || time.Since(began) > 9*time.Second {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if took := time.Since(began); took > 8*time.Second { // all of them take ten
		t.Error("a byte at a time kept the connection for", took)
	}
	// Who is known has a proxy of its own: on a busy machine a sign-in that is well
	// takes longer than the limit for strangers.
	well := &rig{members: r.members, table: r.table}
	well.start(t)
	for name, bytes := range map[string][]byte{
		"wrong number": {1, 0, 0, 5, wire.ComPing}, "empty request": {0, 0, 0, 0}, "cut off": {9, 0, 0, 0, wire.ComQuery, 'S'},
	} {
		rc := mustRaw(t, well.proxy.Addr(ReadWrite).String(), 0)
		_ = rc.c.Write(bytes)
		if name == "cut off" {
			rc.c.Release()
			continue
		}
		closes(name, rc.c.Net(), 5*time.Second)
	}
	until(t, 5*time.Second, "all sessions have ended", func() bool { return len(r.proxy.Sessions())+len(well.proxy.Sessions()) == 0 })
	if got := ask(t, well.conn(t, ReadWrite), "SELECT 1"); got != "1" {
		t.Error(got)
	}
	until(t, 30*time.Second, "the one with the short limit lets clients in", func() bool { _, err := login(t, r.dsn(ReadWrite)); return err == nil })
}

func TestAMemberThatAnswersGarbageHurtsOneSession(t *testing.T) {
	t.Parallel()
	var said syncBuffer
	r := alone(t, func(c *Config) {
		c.MemberTLS, c.HoldLimit = nil, time.Second
		c.Log = slog.New(slog.NewTextHandler(&said, nil))
	})
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	real := r.members[0].Address()
	// It passes everything on until it sees a word, then it says something else.
	go func() {
		for {
			nc, err := front.Accept()
			if err != nil {
				return
			}
			go garble(nc, real)
		}
	}()
	v := topology.View{Number: 2, Members: []topology.Member{{
		Instance: topology.Instance{Name: "m1", Address: front.Addr().String()}, State: topology.Online, Writable: true, Readable: true,
		Report: &topology.Report{Version: "9.7.4"},
	}}}
	r.table.SetView(v)
	other := r.conn(t, ReadWrite, inTLS)
	for word := range nonsense {
		c := r.conn(t, ReadWrite, inTLS)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_, err = c.ExecContext(ctx, "SELECT '"+word+"'")
		cancel()
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Error(word, err)
		}
		if got := ask(t, other, "SELECT 1"); got != "1" {
			t.Error(word, got)
		}
	}
	if n := strings.Count(said.String(), "did not speak the protocol"); n < 4 {
		t.Errorf("%d lines in the log say so:\n%s", n, said.String())
	}
	// Garbage in answer to what the proxy itself asks is the member's fault, too.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err = other.ExecContext(ctx, "SET @a = 'garble-set'"); err != nil {
		t.Log(err)
	}
	if got := ask(t, r.conn(t, ReadWrite, inTLS), "SELECT 1"); got != "1" {
		t.Error(got)
	}
}

// nonsense is what a broken member says when it hears a word.
var nonsense = map[string][]byte{
	"garble-count":    {3, 0, 0, 1, 0xfd, 0xff, 0xff},
	"garble-empty":    {0, 0, 0, 1},
	"garble-short-ok": {2, 0, 0, 1, 0, 1},
	"garble-many":     {5, 0, 0, 1, 0xfc, 0xff, 0xff, 0, 0},
	"garble-long-ok":  {0xff, 0xff, 0xff, 1, 0, 0, 0, 2, 0, 0, 0},
	"garble-text":     []byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
	"garble-nothing":  nil, // it hangs up
}

func garble(nc net.Conn, real string) {
	defer nc.Close()
	up, err := net.Dial("tcp", real)
	if err != nil {
		return
	}
	defer up.Close()
	go func() { _, _ = io.Copy(nc, up) }()
	buf := make([]byte, 4096)
	for {
		n, err := nc.Read(buf)
		if err != nil {
			return
		}
		word, found := "", false
		for w := range nonsense {
			if bytes.Contains(buf[:n], []byte(w+"'")) {
				word, found = w, true
			}
		}
		if found {
			_, _ = nc.Write(nonsense[word])
			if nonsense[word] == nil || word == "garble-text" || word == "garble-long-ok" {
				return
			}
			continue
		}
		_, _ = up.Write(buf[:n])
	}
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestKillReachesTheSessionItNames(t *testing.T) {
	t.Parallel()
	r := alone(t)
	victim, killer := mustRaw(t, r.proxy.Addr(ReadWrite).String(), wire.ClientDeprecateEOF), r.conn(t, ReadWrite)
	done := make(chan []byte)
	go func() { a, _ := victim.query("SELECT SLEEP(20)"); done <- a }()
	until(t, 5*time.Second, "the victim sleeps", func() bool {
		for _, s := range r.proxy.Sessions() {
			if s.ID == victim.id && s.State == "busy" {
				return true
			}
		}
		return false
	})
	// It is busy before the server has heard of it, and a KILL that overtakes the
	// statement is lost.
	root := r.members[0].Root(t)
	until(t, 30*time.Second, "the server runs it", func() bool {
		return ask(t, root, "SELECT COUNT(*) FROM performance_schema.threads WHERE PROCESSLIST_INFO = 'SELECT SLEEP(20)'") == "1"
	})
	exec(t, killer, fmt.Sprintf("KILL QUERY %d", victim.id))
	select {
	case a := <-done:
		if !bytes.Contains(a, []byte{1}) {
			t.Errorf("%q", a)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the statement was not stopped")
	}
	if _, err := victim.query("SELECT 1"); err != nil {
		t.Error("KILL QUERY ended the session:", err)
	}
	exec(t, killer, fmt.Sprintf("KILL %d", victim.id))
	until(t, 5*time.Second, "the victim is gone", func() bool { return r.proxy.session(victim.id) == nil })
	_, err := killer.ExecContext(context.Background(), fmt.Sprintf("KILL %d", victim.id))
	var e *driver.MySQLError
	if !errors.As(err, &e) || e.Number != 1094 {
		t.Error(err)
	}
}

func TestAQueryThatTakesTooLongIsStopped(t *testing.T) {
	t.Parallel()
	r := alone(t, func(c *Config) { c.QueryTimeout = 2 * time.Second }) // it holds for what follows, too
	c := r.conn(t, ReadWrite)
	for range 2 { // the second as well
		began := time.Now()
		_, err := c.ExecContext(context.Background(), "SELECT COUNT(*) FROM information_schema.columns a, information_schema.columns b, information_schema.columns c")
		if err == nil || time.Since(began) > 30*time.Second {
			t.Error(time.Since(began), err)
		}
		if got := ask(t, c, "SELECT 1"); got != "1" {
			t.Error(got)
		}
	}
}

func TestAHoldKeepsRequestsWaitingAndReleasesThem(t *testing.T) {
	t.Parallel()
	r := alone(t)
	c := r.conn(t, ReadWrite)
	exec(t, c, "DO 1")
	release := r.table.Hold()
	done := make(chan error, 1)
	go func() { _, err := c.ExecContext(context.Background(), "DO 2"); done <- err }()
	select {
	case err := <-done:
		t.Fatal("the hold did not hold:", err)
	case <-time.After(300 * time.Millisecond):
	}
	if r.proxy.Health(route.Write) == nil {
		t.Error("healthy while on hold")
	}
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := r.proxy.Health(route.Write); err != nil {
		t.Error(err)
	}
}

func TestMoreClientsThanConnectionsTakeTurns(t *testing.T) {
	t.Parallel()
	r := alone(t, transaction, func(c *Config) { c.MaxPerMember = 4 })
	errs := make(chan error, 32)
	for range 32 {
		c := r.conn(t, ReadWrite)
		go func() {
			var err error
			for range 20 {
				if _, err = c.ExecContext(context.Background(), "SELECT SLEEP(0.002)"); err != nil {
					break
				}
			}
			errs <- err
		}()
	}
	for range 32 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	st := r.proxy.seat("m1")
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.open > 4 {
		t.Error(st.open, "connections are open")
	}
}
