package pki

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestIssuedCertificatesServeTheNamesAskedFor(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	a, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := a.Issue("api", "localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	go func() {
		if c, err := ln.Accept(); err == nil {
			_ = c.(*tls.Conn).Handshake()
			_ = c.Close()
		}
	}()
	// Opened again, the authority is the same and keeps what it issued.
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	c, err := tls.Dial("tcp", "localhost:"+port, &tls.Config{RootCAs: b.Pool()})
	if err != nil {
		t.Fatalf("a client that trusts the authority: %v", err)
	}
	_ = c.Close()
	before, _ := os.ReadFile(cert)
	if _, _, err := b.Issue("api", "localhost"); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(cert); string(before) != string(after) {
		t.Error("a good certificate was replaced")
	}
	if _, _, err := b.Issue("api", "db.example"); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(cert); string(before) == string(after) {
		t.Error("a certificate without the name asked for was kept")
	}
	for _, f := range []string{"ca.key", "api.key"} {
		if st, err := os.Stat(filepath.Join(dir, f)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", f, st.Mode(), err)
		}
	}
}
