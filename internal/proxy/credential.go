package proxy

import (
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/internal/mysql/wire"
)

// credential is one user's password, held in memory only. Servers verify it;
// we remember that they did.
type credential struct {
	user     string
	password []byte
	digest   [32]byte // what the short proof is checked against
	secret   [32]byte // part of the pool key
	checked  atomic.Int64
	used     atomic.Int64
	trust    int64
}

// trusted tells whether a server accepted it lately.
func (c *credential) trusted() bool {
	at := c.checked.Load()
	return at != 0 && clock()-at < c.trust
}

func (c *credential) verified() { c.checked.Store(clock()) }

// credentials are those seen lately. A user may have two at a time, while a
// password is being rotated.
type credentials struct {
	salt  [32]byte
	trust time.Duration
	mu    sync.Mutex
	known map[string][]*credential
}

func newCredentials(trust time.Duration) *credentials {
	c := &credentials{known: map[string][]*credential{}, trust: trust}
	_, _ = rand.Read(c.salt[:])
	return c
}

// of returns the credential for a user and password, the known one if there is.
func (c *credentials) of(user string, password []byte) *credential {
	h := sha256.New()
	h.Write(c.salt[:])
	h.Write([]byte(user))
	h.Write([]byte{0})
	h.Write(password)
	n := &credential{user: user, password: append([]byte(nil), password...), digest: wire.DigestSHA2(password), trust: int64(c.trust)}
	h.Sum(n.secret[:0])
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.known[user] {
		if k.secret == n.secret {
			return k
		}
	}
	return n
}

// keep remembers a credential a server has accepted.
func (c *credentials) keep(n *credential) {
	n.used.Store(clock())
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.known[n.user]
	if slices.Contains(list, n) {
		return
	}
	if len(list) >= 2 {
		list = list[1:]
	}
	c.known[n.user] = append(append([]*credential(nil), list...), n)
}

// match finds the credential a short proof was made with.
func (c *credentials) match(user string, proof, nonce []byte) *credential {
	c.mu.Lock()
	list := c.known[user]
	c.mu.Unlock()
	for _, k := range list {
		if len(k.password) > 0 && wire.CheckSHA2(proof, nonce, k.digest) {
			return k
		}
	}
	return nil
}

// forget drops what is known of a user: a server refused it.
func (c *credentials) forget(user string) {
	c.mu.Lock()
	for _, k := range c.known[user] {
		k.checked.Store(0)
	}
	delete(c.known, user)
	c.mu.Unlock()
}

// prune drops what nobody has signed in with for a while.
func (c *credentials) prune(idle time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for user, list := range c.known {
		var kept []*credential
		for _, k := range list {
			if clock()-k.used.Load() < int64(idle) {
				kept = append(kept, k)
			}
		}
		if len(kept) == 0 {
			delete(c.known, user)
		} else {
			c.known[user] = kept
		}
	}
}
