package proxy

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/perdure/perdure/internal/route"
)

// Mode is what the sessions of a listener are for.
type Mode string

// The modes of a listener.
const (
	ReadWrite Mode = "rw"    // every session sits on a writer
	ReadOnly  Mode = "ro"    // every session sits on a reader
	Split     Mode = "split" // reads go to readers, the rest to a writer
)

// Pooling is when a server connection may serve the next client.
type Pooling string

// The ways of pooling.
const (
	// PerConnection gives it back, reset, when its client leaves.
	PerConnection Pooling = "connection"
	// PerTransaction gives it back after every transaction.
	PerTransaction Pooling = "transaction"
)

// Listener is one address clients connect to.
type Listener struct {
	Mode    Mode
	Pooling Pooling // default PerConnection
	// Address is host:port, or a path for a Unix socket. Listening, if set, is
	// used instead.
	Address   string
	Listening net.Listener
}

// Doubter is told when a member gave cause for concern, so that it looks again
// at once. It must not block.
type Doubter interface{ Doubt(member string) }

// Config says how a proxy works. A zero field means its default.
type Config struct {
	Listeners []Listener
	Route     *route.Table
	Log       *slog.Logger // default: discards
	Doubt     Doubter      // optional
	// Others is asked before a change of schema. Without it, nothing is known of
	// writes that do not pass through this proxy.
	Others Others

	// Outcomes finds out what became of commits that were never answered. Without
	// it, nobody knows.
	Outcomes Outcomes

	// Slot, 0 to 63, sets the ids of this proxy's sessions apart from those of
	// other proxies.
	Slot uint8

	// TLS is offered to clients; nil offers none. RequireTLS refuses the others.
	TLS        *tls.Config
	RequireTLS bool
	// MemberTLS is demanded of members; ServerName is filled in per member. Nil
	// speaks plaintext to them, passwords sealed with the member's key.
	MemberTLS *tls.Config

	// ProxyNetworks may announce their client with the PROXY protocol, and must.
	ProxyNetworks []netip.Prefix

	MaxClients    int           // default 10000
	MaxPerMember  int           // server connections to one member; default 1000
	MaxWaiting    int           // sessions waiting for one of those; default 1000
	BorrowTimeout time.Duration // how long they wait; default 10 s
	MaxStatements int           // prepared statements of one session; default 16382
	MaxState      int           // bytes of variables carried for one session; default 64 KiB
	MaxReplay     int           // bytes of an open transaction's requests kept to run it again elsewhere; default 64 KiB, -1 is none
	Memory        int64         // bytes of requests held whole at once; default 256 MiB
	ConnRate      int           // new connections per second and address; 0 is no limit

	LoginTimeout   time.Duration // default 10 s
	ConnectTimeout time.Duration // to a member, signed in; default 2 s
	HoldLimit      time.Duration // how long a request waits for a member; default 10 s
	OutcomeLimit   time.Duration // how long a COMMIT waits to hear what became of it; default 30 s
	DrainLimit     time.Duration // how long a transaction may keep a drained member; default 10 s
	IdleTimeout    time.Duration // of clients; 0 is none
	PoolIdle       time.Duration // of server connections; default 60 s
	TrustPassword  time.Duration // how long a password counts as verified; default 60 s
	QueryTimeout   time.Duration // 0 is none
	SlowQuery      time.Duration // log statements slower than this; 0 is off
	LeaveDelay     time.Duration // between "not ready" and closing the listeners; default 0

	// Retries is how often an autocommit statement that lost certification is
	// tried again; default 10, -1 is never.
	Retries int
	// Opening is how many server connections are opened at once; default 64.
	Opening int
}

func (c Config) withDefaults() (Config, error) {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.MaxClients = cmp.Or(c.MaxClients, 10000)
	c.MaxPerMember = cmp.Or(c.MaxPerMember, 1000)
	c.MaxWaiting = cmp.Or(c.MaxWaiting, 1000)
	c.BorrowTimeout = cmp.Or(c.BorrowTimeout, 10*time.Second)
	c.MaxStatements = cmp.Or(c.MaxStatements, 16382)
	c.MaxState = cmp.Or(c.MaxState, 64<<10)
	c.MaxReplay = cmp.Or(c.MaxReplay, 64<<10)
	c.Memory = cmp.Or(c.Memory, 256<<20)
	c.LoginTimeout = cmp.Or(c.LoginTimeout, 10*time.Second)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 2*time.Second)
	c.HoldLimit = cmp.Or(c.HoldLimit, 10*time.Second)
	c.OutcomeLimit = cmp.Or(c.OutcomeLimit, 30*time.Second)
	c.DrainLimit = cmp.Or(c.DrainLimit, 10*time.Second)
	c.PoolIdle = cmp.Or(c.PoolIdle, 60*time.Second)
	c.TrustPassword = cmp.Or(c.TrustPassword, 60*time.Second)
	c.Retries = cmp.Or(c.Retries, 10)
	c.Opening = cmp.Or(c.Opening, 64)
	var errs []error
	if c.Route == nil {
		errs = append(errs, errors.New("proxy needs a route table"))
	}
	if len(c.Listeners) == 0 {
		errs = append(errs, errors.New("proxy needs a listener"))
	}
	if c.RequireTLS && c.TLS == nil {
		errs = append(errs, errors.New("proxy requires TLS of clients and has no certificate"))
	}
	c.Listeners = append([]Listener(nil), c.Listeners...)
	for i := range c.Listeners {
		l := &c.Listeners[i]
		l.Pooling = cmp.Or(l.Pooling, PerConnection)
		switch l.Mode {
		case ReadWrite, ReadOnly, Split:
		default:
			errs = append(errs, fmt.Errorf("listener %s: mode %q is none of rw, ro, split", l.Address, l.Mode))
		}
		if l.Pooling != PerConnection && l.Pooling != PerTransaction {
			errs = append(errs, fmt.Errorf("listener %s: pooling %q is neither connection nor transaction", l.Address, l.Pooling))
		}
	}
	return c, errors.Join(errs...)
}
