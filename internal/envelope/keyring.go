package envelope

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/durable"
)

const keySize = 32

// Errors a caller may want to tell apart.
var (
	ErrNoKey   = errors.New("no master key of that name")
	ErrDamaged = errors.New("sealed data is damaged or was sealed for another purpose")
)

// Keyring holds master keys by name. The newest seals; all of them open.
type Keyring struct {
	mu      sync.RWMutex
	keys    map[string]cipher.AEAD
	current string
	data    *dataKey            // the one Seal uses now
	opened  map[string]*dataKey // by their wrapped form
	limits  struct{ age time.Duration }
}

// maxOpened bounds the memory of unwrapped data keys; the map is emptied when full.
const maxOpened = 4096

// DataKeyAge is how long one data key seals before the next is made.
const DataKeyAge = time.Hour

func newKeyring() *Keyring {
	k := &Keyring{keys: map[string]cipher.AEAD{}, opened: map[string]*dataKey{}}
	k.limits.age = DataKeyAge
	return k
}

// Parse reads a key file: one "name base64" a line, oldest first; the last line
// is the key that seals. Empty lines and lines starting with # are skipped.
func Parse(text []byte) (*Keyring, error) {
	k := newKeyring()
	sc := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		// Never quote the line: it is the secret.
		name, secret, ok := strings.Cut(line, " ")
		if !ok || name == "" || len(name) > 64 {
			return nil, fmt.Errorf("line %d: expected a name of up to 64 characters and a key", n)
		}
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(secret))
		if err != nil || len(raw) != keySize {
			return nil, fmt.Errorf("line %d: key %s is not %d bytes in base64", n, name, keySize)
		}
		if _, twice := k.keys[name]; twice {
			return nil, fmt.Errorf("line %d: a second key named %s", n, name)
		}
		aead, err := newAEAD(raw)
		if err != nil {
			return nil, err
		}
		k.keys[name], k.current = aead, name
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if k.current == "" {
		return nil, errors.New("no key in it")
	}
	return k, nil
}

// Load reads a key file, which nobody but its owner may read.
func Load(path string) (*Keyring, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("master keys: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("master keys: %s is open to others (mode %04o); chmod 600 it", path, st.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("master keys: %w", err)
	}
	k, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("master keys: %s: %w", path, err)
	}
	return k, nil
}

// LoadOrCreate is Load, after making a file with one new key where there is none.
func LoadOrCreate(path string) (*Keyring, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := AddKey(path); err != nil {
			return nil, err
		}
	}
	return Load(path)
}

// AddKey appends a new master key to the file at path, making the file if
// need be. Whoever loads the file afterwards seals with the new key and still
// opens what older ones sealed. The file is replaced, never half written.
func AddKey(path string) error {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("master keys: %w", err)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	raw := make([]byte, keySize+4)
	_, _ = rand.Read(raw)
	now := time.Now().UTC()
	text = fmt.Appendf(text, "%s-%x %s\n", now.Format("20060102"), raw[keySize:], base64.StdEncoding.EncodeToString(raw[:keySize]))
	if _, err := Parse(text); err != nil {
		return fmt.Errorf("master keys: %s: %w", path, err)
	}
	if err := durable.Replace(path, text); err != nil {
		return fmt.Errorf("master keys: %w", err)
	}
	return nil
}

// Current is the name of the key that seals.
func (k *Keyring) Current() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.current
}

// Replace takes over the keys of next, as after a rotation on disk. What is
// sealed from now on has a data key under its newest master key.
func (k *Keyring) Replace(next *Keyring) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys, k.current = next.keys, next.current
	k.data = nil
	clear(k.opened)
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
