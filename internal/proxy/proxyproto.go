package proxy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

var errPreamble = errors.New("not a PROXY protocol header")

var v2Signature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// realClient finds out who is behind a connection. From the listed networks a
// PROXY protocol header must come first; from elsewhere none is believed.
func (p *Proxy) realClient(nc net.Conn) (net.Conn, string, error) {
	addr := nc.RemoteAddr().String()
	if !within(nc.RemoteAddr(), p.cfg.ProxyNetworks) {
		return nc, addr, nil
	}
	_ = nc.SetReadDeadline(time.Now().Add(p.cfg.LoginTimeout))
	real, err := readPreamble(nc)
	if err != nil {
		return nc, addr, err
	}
	_ = nc.SetReadDeadline(time.Time{})
	if real != "" {
		addr = real
	}
	return nc, addr, nil
}

// readPreamble reads a header of version 1 or 2 and not a byte more. The address
// is empty if the header says that there is none.
func readPreamble(r io.Reader) (string, error) {
	head := make([]byte, 12)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", err
	}
	if bytes.Equal(head, v2Signature) {
		return readV2(r)
	}
	if !bytes.HasPrefix(head, []byte("PROXY ")) {
		return "", errPreamble
	}
	// A line of at most 107 bytes; one byte at a time, for what follows it is
	// the client's.
	line := head
	for len(line) < 107 && !bytes.HasSuffix(line, []byte("\r\n")) {
		var b [1]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return "", err
		}
		line = append(line, b[0])
	}
	f := strings.Fields(string(line))
	if !bytes.HasSuffix(line, []byte("\r\n")) || len(f) < 2 {
		return "", errPreamble
	}
	if f[1] == "UNKNOWN" {
		return "", nil
	}
	if len(f) != 6 || f[1] != "TCP4" && f[1] != "TCP6" {
		return "", errPreamble
	}
	a, err := netip.ParseAddr(f[2])
	if err != nil {
		return "", fmt.Errorf("%w: %w", errPreamble, err)
	}
	ap, err := netip.ParseAddrPort(net.JoinHostPort(a.String(), f[4]))
	if err != nil {
		return "", fmt.Errorf("%w: %w", errPreamble, err)
	}
	return ap.String(), nil
}

func readV2(r io.Reader) (string, error) {
	var h [4]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return "", err
	}
	size := binary.BigEndian.Uint16(h[2:])
	if h[0]>>4 != 2 || size > 4096 {
		return "", errPreamble
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return "", err
	}
	if h[0]&0xf == 0 { // LOCAL: a health check of the balancer itself
		return "", nil
	}
	n := 0
	switch h[1] >> 4 {
	case 1:
		n = 4
	case 2:
		n = 16
	default:
		return "", nil
	}
	if len(body) < 2*n+4 {
		return "", errPreamble
	}
	a, _ := netip.AddrFromSlice(body[:n])
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(body[2*n:])).String(), nil
}
