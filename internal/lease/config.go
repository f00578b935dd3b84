package lease

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Config says which lease a Keeper keeps, and for whom.
type Config struct {
	// Name of the lease. Default "control".
	Name string
	// Holder is the name of this node. No other node may use it.
	Holder string
	// TTL is how long the others wait for a silent holder. Default 3 s: with an
	// election of the control store, which takes up to two, another node acts
	// within five.
	TTL time.Duration
	// Reclaim ends a term that this Holder left behind at once. It is safe only
	// if no older process of this node can still live, as the lock on the
	// directory of an embedded control store makes sure.
	Reclaim bool
}

func (c Config) withDefaults() Config {
	c.Name = cmp.Or(c.Name, "control")
	c.TTL = cmp.Or(c.TTL, 3*time.Second)
	return c
}

func (c Config) check() error {
	switch {
	case c.Holder == "":
		return errors.New("the holder of a lease needs a name")
	case c.TTL < 500*time.Millisecond:
		return fmt.Errorf("a TTL of %s is too short to be renewed in time", c.TTL)
	}
	return nil
}

// margin is by how much the holder stops earlier than others may begin. It
// covers clocks of different speeds and a step that was just begun.
func (c Config) margin() time.Duration { return c.TTL / 8 }

// every is how often the holder renews: three renewals fit into the window.
func (c Config) every() time.Duration { return c.TTL / 4 }

// patience is how long one call may take. A call that waits for a store's
// dead leader must not use up the whole window.
func (c Config) patience() time.Duration { return c.TTL / 4 }

// pause is how long to wait after a call that got no answer.
func (c Config) pause() time.Duration { return c.TTL / 32 }
