package envelope

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"
	"time"
)

// The head of everything sealed:
//
//	"PEK1" | length of the master key's name | name | nonce, wrapped data key (12+32+16)
var magic = []byte("PEK1")

const (
	nonceSize   = 12
	tagSize     = 16
	wrappedSize = nonceSize + keySize + tagSize
)

// dataKey seals many things for a while. Its head says under which master key
// it is wrapped, so every sealed thing carries all it takes to open it but the
// master key itself.
type dataKey struct {
	aead cipher.AEAD
	head []byte
	born time.Time
	used int64
}

// maxUses keeps the chance that two random nonces of one key meet below 2^-32.
const maxUses = 1 << 31

func (k *Keyring) newDataKey() (*dataKey, error) {
	raw := make([]byte, keySize)
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(raw)
	_, _ = rand.Read(nonce)
	aead, err := newAEAD(raw)
	if err != nil {
		return nil, err
	}
	head := append(bytes.Clone(magic), byte(len(k.current)))
	head = append(head, k.current...)
	wrapped := k.keys[k.current].Seal(nonce, nonce, raw, head)
	return &dataKey{aead: aead, head: append(head, wrapped...), born: time.Now()}, nil
}

// sealing gives the data key to seal with now.
func (k *Keyring) sealing() (*dataKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d := k.data; d == nil || time.Since(d.born) > k.limits.age || d.used >= maxUses {
		fresh, err := k.newDataKey()
		if err != nil {
			return nil, err
		}
		k.data = fresh
	}
	k.data.used++
	return k.data, nil
}

// split takes the head from b and gives its data key.
func (k *Keyring) split(b []byte) (*dataKey, []byte, error) {
	if len(b) < len(magic)+1 || !bytes.Equal(b[:len(magic)], magic) {
		return nil, nil, fmt.Errorf("%w: no head", ErrDamaged)
	}
	names := len(magic) + 1
	keys := names + int(b[len(magic)])
	end := keys + wrappedSize
	if len(b) < end {
		return nil, nil, fmt.Errorf("%w: too short", ErrDamaged)
	}
	head := b[:end]
	k.mu.RLock()
	d := k.opened[string(head)]
	master := k.keys[string(b[names:keys])]
	k.mu.RUnlock()
	if d != nil {
		return d, b[end:], nil
	}
	if master == nil {
		return nil, nil, fmt.Errorf("%w: %q", ErrNoKey, b[names:keys])
	}
	raw, err := master.Open(nil, b[keys:keys+nonceSize], b[keys+nonceSize:end], b[:keys])
	if err != nil {
		return nil, nil, fmt.Errorf("%w: its data key does not open", ErrDamaged)
	}
	aead, err := newAEAD(raw)
	if err != nil {
		return nil, nil, err
	}
	d = &dataKey{aead: aead, head: bytes.Clone(head)}
	k.mu.Lock()
	if len(k.opened) >= maxOpened {
		clear(k.opened)
	}
	k.opened[string(head)] = d
	k.mu.Unlock()
	return d, b[end:], nil
}

// Overhead is how many bytes Seal adds at most.
const Overhead = 4 + 1 + 64 + wrappedSize + nonceSize + tagSize

// Seal encrypts plain for purpose. Only Open with the same purpose gives it
// back, so a sealed thing cannot be moved to where it means something else.
func (k *Keyring) Seal(plain []byte, purpose string) ([]byte, error) {
	d, err := k.sealing()
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(d.head)+nonceSize+len(plain)+tagSize)
	out = append(out, d.head...)
	out = out[:len(out)+nonceSize]
	nonce := out[len(out)-nonceSize:]
	_, _ = rand.Read(nonce)
	return d.aead.Seal(out, nonce, plain, []byte(purpose)), nil
}

// Open decrypts what Seal made, under whichever key of the ring it was sealed.
func (k *Keyring) Open(sealed []byte, purpose string) ([]byte, error) {
	d, rest, err := k.split(sealed)
	if err != nil {
		return nil, err
	}
	if len(rest) < nonceSize+tagSize {
		return nil, fmt.Errorf("%w: too short", ErrDamaged)
	}
	plain, err := d.aead.Open(nil, rest[:nonceSize], rest[nonceSize:], []byte(purpose))
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

// KeyName tells which master key opens sealed, without opening it.
func KeyName(sealed []byte) (string, error) {
	if len(sealed) < len(magic)+1 || !bytes.Equal(sealed[:len(magic)], magic) || len(sealed) < len(magic)+1+int(sealed[len(magic)]) {
		return "", fmt.Errorf("%w: no head", ErrDamaged)
	}
	return string(sealed[len(magic)+1 : len(magic)+1+int(sealed[len(magic)])]), nil
}

// HeadSize is how many bytes at the start of sealed belong to its head; Rewrap
// replaces exactly these.
func HeadSize(sealed []byte) (int, error) {
	name, err := KeyName(sealed)
	if err != nil {
		return 0, err
	}
	return len(magic) + 1 + len(name) + wrappedSize, nil
}

// Rewrap makes a head for the same data key under the newest master key of to.
// What follows the head stays as it is: a backup of terabytes moves to another
// key, or another vault, by changing about a hundred bytes.
func (k *Keyring) Rewrap(head []byte, to *Keyring) ([]byte, error) {
	names := len(magic) + 1
	if n, err := HeadSize(head); err != nil || len(head) < n {
		return nil, fmt.Errorf("%w: no head", ErrDamaged)
	}
	keys := names + int(head[len(magic)])
	k.mu.RLock()
	master := k.keys[string(head[names:keys])]
	k.mu.RUnlock()
	if master == nil {
		return nil, fmt.Errorf("%w: %q", ErrNoKey, head[names:keys])
	}
	raw, err := master.Open(nil, head[keys:keys+nonceSize], head[keys+nonceSize:keys+wrappedSize], head[:keys])
	if err != nil {
		return nil, fmt.Errorf("%w: its data key does not open", ErrDamaged)
	}
	to.mu.RLock()
	defer to.mu.RUnlock()
	out := append(bytes.Clone(magic), byte(len(to.current)))
	out = append(out, to.current...)
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce)
	return append(out, to.keys[to.current].Seal(nonce, nonce, raw, out)...), nil
}
