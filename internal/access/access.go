// Package access says who may do what: tokens with a role, hashed at rest,
// scoped and expiring.
//
// A token is shown once, when it is made. What is kept is its SHA-256: the
// secret has 256 random bits, so a slow hash would add nothing.
package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/perdure/perdure/internal/state"
)

// Role is what a token may do.
type Role string

// Roles, each with all that the ones before it may do, except Writer, which
// stands apart: it may hand in writes and ask about them, and nothing else.
const (
	Nobody   Role = "nobody"   // needs no token
	Writer   Role = "writer"   // the write queue's front door
	Viewer   Role = "viewer"   // read everything
	Operator Role = "operator" // change the cluster
	Admin    Role = "admin"    // tokens, the audit log
)

// Roles lists the roles a token can have.
var Roles = []Role{Writer, Viewer, Operator, Admin}

// Covers tells whether who has role r may do what needs the other.
func (r Role) Covers(needed Role) bool {
	switch needed {
	case Nobody:
		return true
	case Writer:
		return r == Writer || r == Operator || r == Admin
	}
	rank := []Role{Viewer, Operator, Admin}
	return slices.Contains(rank, r) && slices.Index(rank, r) >= slices.Index(rank, needed)
}

// Token is what is kept of a token.
type Token struct {
	Name       string    `json:"name"`
	Role       Role      `json:"role"`
	Operations []string  `json:"operations,omitempty"` // for Writer: names of write operations it may use; none means all
	SQL        bool      `json:"sql,omitempty"`        // for Writer: may hand in statements of its own
	Rate       int       `json:"rate,omitempty"`       // writes a second, 0 is no limit
	Only       []string  `json:"only,omitempty"`       // parts of the API it may use; none means all its role may
	Hash       string    `json:"hash"`
	Made       time.Time `json:"made"`
	By         string    `json:"by,omitempty"`
	Expires    time.Time `json:"expires,omitzero"`
}

// Part is the part of the API a path belongs to: the word after /v1/, or the
// first.
func Part(path string) string {
	path = strings.TrimPrefix(strings.TrimPrefix(path, "/"), "v1/")
	part, _, _ := strings.Cut(path, "/")
	return part
}

// Reaches tells whether the token is meant for a part of the API.
func (t Token) Reaches(part string) bool {
	return len(t.Only) == 0 || slices.Contains(t.Only, part)
}

// Tokens is the document of all tokens of a cluster.
type Tokens struct {
	Tokens  []Token `json:"tokens"`
	Changes uint64  `json:"changes"` // how often it was changed
}

// List knows the tokens. It is safe for concurrent use.
type List struct {
	doc    state.Doc[Tokens]
	root   string // hash of the node's own admin token
	newest atomic.Pointer[Tokens]
}

// New returns the list kept in store. root is the node's own token, which is
// always an administrator's: it lies in a file only the node's owner can read.
func New(store state.Store, root string) *List {
	l := &List{doc: state.NewDoc[Tokens](store, "tokens"), root: hash(root)}
	l.newest.Store(&Tokens{})
	return l
}

// Run follows changes that other nodes make until ctx ends.
func (l *List) Run(ctx context.Context) error {
	for t := range l.doc.Watch(ctx) {
		l.learn(t)
	}
	return context.Cause(ctx)
}

// learn takes what is newer than what is known. News of a change may come after
// a later change was made here, and a token works from the moment it was made.
func (l *List) learn(t Tokens) {
	for {
		known := l.newest.Load()
		if t.Changes < known.Changes || l.newest.CompareAndSwap(known, &t) {
			return
		}
	}
}

// Refusals of a token.
var (
	ErrUnknown = errors.New("the token is not known")
	ErrExpired = errors.New("the token has expired")
)

// Who tells whose token a secret is. It reads memory only: tokens go on
// working while the control store does not answer.
func (l *List) Who(secret string, now time.Time) (Token, error) {
	h := hash(secret)
	if h == l.root {
		return Token{Name: "admin", Role: Admin, SQL: true}, nil
	}
	for _, t := range l.newest.Load().Tokens {
		if t.Hash != h {
			continue
		}
		if !t.Expires.IsZero() && now.After(t.Expires) {
			return Token{}, ErrExpired
		}
		return t, nil
	}
	return Token{}, ErrUnknown
}

// Comparing hashes of high-entropy secrets needs no constant time: what leaks
// is a prefix of a hash.
func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

var tokenName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// Make adds a token and returns its secret, which is not kept.
func (l *List) Make(ctx context.Context, t Token) (secret string, err error) {
	switch {
	case !tokenName.MatchString(t.Name) || t.Name == "admin":
		return "", fmt.Errorf("a token's name is 1 to 64 lower-case letters, digits, dots, dashes and underscores, and not \"admin\"; %q is not", t.Name)
	case !slices.Contains(Roles, t.Role):
		return "", fmt.Errorf("%q is no role; there are %s", t.Role, join(Roles))
	case t.Role != Writer && (len(t.Operations) > 0 || t.SQL || t.Rate != 0):
		return "", errors.New("operations, SQL and a rate belong to the role writer")
	case !t.Expires.IsZero() && t.Expires.Before(time.Now()):
		return "", errors.New("the token would have expired already")
	}
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails: see crypto/rand
	secret = "pdt_" + hex.EncodeToString(raw)
	t.Hash, t.Made = hash(secret), time.Now().UTC().Truncate(time.Second)
	all, err := l.doc.Change(ctx, state.Fence{}, func(all *Tokens) error {
		if slices.ContainsFunc(all.Tokens, func(o Token) bool { return o.Name == t.Name }) {
			return fmt.Errorf("there is a token called %s already", t.Name)
		}
		all.Tokens = append(all.Tokens, t)
		all.Changes++
		return nil
	})
	if err != nil {
		return "", err
	}
	l.learn(all) // it works here at once
	return secret, nil
}

// Revoke removes a token.
func (l *List) Revoke(ctx context.Context, name string) error {
	all, err := l.doc.Change(ctx, state.Fence{}, func(all *Tokens) error {
		n := len(all.Tokens)
		all.Tokens = slices.DeleteFunc(all.Tokens, func(t Token) bool { return t.Name == name })
		if len(all.Tokens) == n {
			return fmt.Errorf("there is no token called %s", name)
		}
		all.Changes++
		return nil
	})
	if err == nil {
		l.learn(all)
	}
	return err
}

// All lists the tokens, without their hashes.
func (l *List) All(ctx context.Context) ([]Token, error) {
	all, _, err := l.doc.Get(ctx)
	for i := range all.Tokens {
		all.Tokens[i].Hash = ""
	}
	return all.Tokens, err
}

func join(rs []Role) string {
	var out []string
	for _, r := range rs {
		out = append(out, string(r))
	}
	return strings.Join(out, ", ")
}
