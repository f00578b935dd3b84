package envelope

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func ring(t *testing.T) (*Keyring, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	k, err := LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	return k, path
}

func TestWhatWasSealedOpensAgain(t *testing.T) {
	t.Parallel()
	k, path := ring(t)
	for _, plain := range []string{"", "x", strings.Repeat("long ", 10000)} {
		b, err := k.Seal([]byte(plain), "queue")
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > len(plain)+Overhead {
			t.Errorf("%d bytes more than promised", len(b)-len(plain)-Overhead)
		}
		again, err := Load(path) // another process
		if err != nil {
			t.Fatal(err)
		}
		got, err := again.Open(b, "queue")
		if err != nil || string(got) != plain {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
	}
}

func TestSealedForOnePurposeDoesNotOpenForAnother(t *testing.T) {
	t.Parallel()
	k, _ := ring(t)
	b, _ := k.Seal([]byte("secret"), "queue")
	if _, err := k.Open(b, "backup"); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
}

func TestEveryFlippedByteIsNoticed(t *testing.T) {
	t.Parallel()
	k, _ := ring(t)
	b, _ := k.Seal([]byte("secret"), "q")
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		if got, err := k.Open(c, "q"); err == nil {
			t.Fatalf("byte %d: opened as %q", i, got)
		}
		if _, err := k.Open(b[:i], "q"); err == nil {
			t.Fatalf("cut at %d: opened", i)
		}
	}
}

func TestOldKeysOpenAfterRotationAndNewOnesSeal(t *testing.T) {
	t.Parallel()
	k, path := ring(t)
	old, _ := k.Seal([]byte("before"), "q")
	if err := AddKey(path); err != nil {
		t.Fatal(err)
	}
	next, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	k.Replace(next)
	fresh, _ := k.Seal([]byte("after"), "q")
	a, _ := KeyName(old)
	b, _ := KeyName(fresh)
	if a == b {
		t.Fatal("the old key still seals")
	}
	for want, sealed := range map[string][]byte{"before": old, "after": fresh} {
		if got, err := k.Open(sealed, "q"); err != nil || string(got) != want {
			t.Fatalf("%q %v", got, err)
		}
	}
	n, _ := HeadSize(old)
	head, err := k.Rewrap(old[:n], k)
	if err != nil {
		t.Fatal(err)
	}
	moved := append(head, old[n:]...)
	if name, _ := KeyName(moved); name != b {
		t.Fatal("rewrapped under", name)
	}
	if got, err := k.Open(moved, "q"); err != nil || string(got) != "before" {
		t.Fatalf("%q %v", got, err)
	}
}

func TestAStrangersKeyOpensNothingAndIsNamed(t *testing.T) {
	t.Parallel()
	a, _ := ring(t)
	b, _ := ring(t)
	s, _ := a.Seal([]byte("x"), "q")
	if _, err := b.Open(s, "q"); !errors.Is(err, ErrNoKey) || !strings.Contains(err.Error(), a.Current()) {
		t.Fatal(err)
	}
}

func TestKeyFilesOpenToOthersAreRefusedAndNeverQuoted(t *testing.T) {
	t.Parallel()
	_, path := ring(t)
	st, _ := os.Stat(path)
	if st.Mode().Perm() != 0o600 {
		t.Fatalf("made with mode %04o", st.Mode().Perm())
	}
	_ = os.Chmod(path, 0o640)
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatal(err)
	}
	if _, err := Parse([]byte("a hunter2\n")); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Fatal(err)
	}
}

func TestStreamsComeBackAndAnyDamageIsNoticed(t *testing.T) {
	t.Parallel()
	k, _ := ring(t)
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize + 7} {
		plain := make([]byte, size)
		rand.Read(plain)
		var buf bytes.Buffer
		w, err := k.NewWriter(&buf, "backup")
		if err != nil {
			t.Fatal(err)
		}
		for rest := plain; len(rest) > 0; {
			n := min(len(rest), 50_000)
			w.Write(rest[:n])
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		read := func(b []byte) ([]byte, error) {
			r, err := k.NewReader(bytes.NewReader(b), "backup")
			if err != nil {
				return nil, err
			}
			return io.ReadAll(r)
		}
		if got, err := read(buf.Bytes()); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes: %v", size, err)
		}
		for _, cut := range []int{1, tagSize, chunkSize + tagSize, buf.Len() / 2} {
			if cut < buf.Len() {
				if _, err := read(buf.Bytes()[:buf.Len()-cut]); err == nil {
					t.Fatalf("%d bytes cut by %d: no error", size, cut)
				}
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	k, err := Parse([]byte("a AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"))
	if err != nil {
		f.Fatal(err)
	}
	s, _ := k.Seal([]byte("x"), "q")
	f.Add(s)
	f.Add([]byte("PEK1\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = k.Open(b, "q")
		_, _ = KeyName(b)
		_, _ = k.Rewrap(b, k)
		if r, err := k.NewReader(bytes.NewReader(b), "q"); err == nil {
			_, _ = io.ReadAll(r)
		}
	})
}
