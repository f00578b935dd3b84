package proxy

import (
	"bytes"
	"testing"
)

func TestThePreambleNamesTheClient(t *testing.T) {
	t.Parallel()
	v2 := append(bytes.Clone(v2Signature), 0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0x1f, 0x90, 0x0c, 0xea)
	for in, want := range map[string]string{
		"PROXY TCP4 10.0.0.1 10.0.0.2 8080 3306\r\n": "10.0.0.1:8080",
		"PROXY TCP6 fe80::1 fe80::2 1 2\r\n":         "[fe80::1]:1",
		"PROXY UNKNOWN\r\n":                          "",
		string(v2):                                   "10.0.0.1:8080",
	} {
		r := bytes.NewReader(append([]byte(in), "rest"...))
		if got, err := readPreamble(r); err != nil || got != want || r.Len() != 4 {
			t.Errorf("%q: %q, %v, %d left", in, got, err, r.Len())
		}
	}
}

func FuzzPreamble(f *testing.F) {
	f.Add([]byte("PROXY TCP4 10.0.0.1 10.0.0.2 8080 3306\r\n"))
	f.Add(append(bytes.Clone(v2Signature), 0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0x1f, 0x90, 0x0c, 0xea))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = readPreamble(bytes.NewReader(b)) })
}
