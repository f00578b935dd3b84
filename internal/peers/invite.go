package peers

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/plan"
	"github.com/perdure/perdure/internal/state"
)

// Lasts is how long an invitation works unless somebody says otherwise.
const Lasts = time.Hour

// invitation is what is kept of one. Its secret is not: only a hash of it.
type invitation struct {
	ID      string    `json:"id"`
	Hash    string    `json:"hash"`
	By      string    `json:"by"`
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires"`
	Instead string    `json:"instead,omitempty"` // whom the guest replaces
	UsedBy  string    `json:"used_by,omitempty"` // name of the node that came with it
}

type invitations struct {
	All []invitation `json:"all"`
}

// Token is what an invitation looks like outside: where to go, whom to find
// there, and the secret.
type Token struct {
	Cluster string   `json:"cluster"`
	APIs    []string `json:"apis"` // host:port of nodes
	CA      string   `json:"ca"`   // SHA-256 of the authority's certificate, in hex
	Secret  string   `json:"secret"`
}

const tokenPrefix = "pdj_"

// String is the token as one word.
func (t Token) String() string {
	b, _ := json.Marshal(t) // strings: cannot fail
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseToken reads what String wrote. Its error does not repeat the text.
func ParseToken(text string) (Token, error) {
	var t Token
	text, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil && ok {
		err = json.Unmarshal(b, &t)
	}
	if err != nil || !ok || len(t.CA) != 64 || t.Secret == "" || len(t.APIs) == 0 {
		return Token{}, errors.New("this is no join token: it is one word that begins with " + tokenPrefix + ", as `perdure node invite` prints it")
	}
	return t, nil
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Invite makes an invitation and returns its secret, which is not kept. instead,
// if not empty, is the node whose place the guest takes; it must not answer any
// more.
func (b *Book) Invite(ctx context.Context, by, instead string, lasts time.Duration, alive func(string) bool) (secret string, expires time.Time, err error) {
	l, err := b.List(ctx)
	if err != nil {
		return "", time.Time{}, err
	}
	if instead != "" {
		if err := mayBeReplaced(l, instead, alive); err != nil {
			return "", time.Time{}, err
		}
	}
	secret = rand.Text() + rand.Text()
	now := time.Now().UTC().Truncate(time.Second)
	expires = now.Add(lasts)
	_, err = b.invited.Change(ctx, state.Fence{}, func(all *invitations) error {
		all.All = slices.DeleteFunc(all.All, func(i invitation) bool { return now.Sub(i.Expires) > 24*time.Hour })
		all.All = append(all.All, invitation{ID: hash(secret)[:8], Hash: hash(secret), By: by, Made: now, Expires: expires, Instead: instead})
		return nil
	})
	return secret, expires, err
}

func mayBeReplaced(l List, name string, alive func(string) bool) error {
	if _, ok := l.Node(name); !ok {
		return plan.Refuse("`perdure node list` lists them", "there is no node %s; the nodes are %s. Nothing was changed.", name, strings.Join(l.Names(), ", "))
	}
	if alive(name) {
		return plan.Refuse("stop it first, or let another node in and remove it: `perdure node invite`, `perdure node remove "+name+"`",
			"%s answers: only a node that is gone is replaced. Nothing was changed.", name)
	}
	return mayLeave(l, name, alive)
}

// use marks an invitation as used by a node. The same node may use it again;
// fresh is false then.
func (b *Book) use(ctx context.Context, secret, node string, now time.Time) (out invitation, fresh bool, err error) {
	_, err = b.invited.Change(ctx, state.Fence{}, func(all *invitations) error {
		h := hash(secret)
		i := slices.IndexFunc(all.All, func(i invitation) bool { return i.Hash == h })
		if i < 0 {
			return wrongInvitation("the join token is not known: it was made for another cluster, or expired more than a day ago.")
		}
		inv := &all.All[i]
		out = *inv
		switch {
		case inv.UsedBy == node:
			return errSame // his first answer may have been lost
		case inv.UsedBy != "":
			return wrongInvitation("the join token was used already, by the node %s.", inv.UsedBy)
		case now.After(inv.Expires):
			return wrongInvitation("the join token expired at %s.", inv.Expires.Format("2006-01-02 15:04:05Z"))
		}
		inv.UsedBy = node
		return nil
	})
	if errors.Is(err, errSame) {
		return out, false, nil
	}
	return out, err == nil, err
}

// giveBack makes an invitation fresh again: who came with it was not let in.
func (b *Book) giveBack(ctx context.Context, id string) error {
	_, err := b.invited.Change(ctx, state.Fence{}, func(all *invitations) error {
		for i := range all.All {
			if all.All[i].ID == id {
				all.All[i].UsedBy = ""
			}
		}
		return nil
	})
	return err
}
