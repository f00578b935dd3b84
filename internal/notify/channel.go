package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/perdure/perdure/internal/event"
)

// Channel brings events to one place. It keeps nothing between attempts and
// may be used by several goroutines.
type Channel struct {
	cfg    Config
	secret Secret
}

// Secret reads what a reference leads to.
type Secret func(reference string) (string, error)

// New returns the channel of a configuration that Check accepts.
func New(cfg Config, secret Secret) (*Channel, error) {
	if err := Check([]Config{cfg}); err != nil {
		return nil, err
	}
	return &Channel{cfg: cfg, secret: secret}, nil
}

// Timeout is how long one attempt may take.
func (c *Channel) Timeout() time.Duration { return c.cfg.Timeout.Or(10 * time.Second) }

// GiveUp is how long a message is tried.
func (c *Channel) GiveUp() time.Duration { return c.cfg.GiveUp.Or(24 * time.Hour) }

// Kind says what the channel is: webhook, email, slack, pagerduty, service.
func (c *Channel) Kind() string {
	switch {
	case c.cfg.Webhook != nil:
		return "webhook"
	case c.cfg.Email != nil:
		return "email"
	case c.cfg.Slack != nil:
		return "slack"
	case c.cfg.PagerDuty != nil:
		return "pagerduty"
	}
	return "service"
}

// Attempt brings an event there once. The receipt is what the other side said.
// An error with a method Final says that trying again is of no use.
func (c *Channel) Attempt(ctx context.Context, id string, _ int, e event.Event) (receipt string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout(), fmt.Errorf("no answer within %s", c.Timeout()))
	defer cancel()
	switch {
	case c.cfg.Webhook != nil:
		return c.webhook(ctx, id, e)
	case c.cfg.Email != nil:
		return c.email(ctx, id, e)
	case c.cfg.Slack != nil:
		return c.slack(ctx, e)
	case c.cfg.PagerDuty != nil:
		return c.pager(ctx, e)
	}
	return c.service(e)
}

// refusedError is the other side's word that it never will take this message.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

// Final is the state the task ends in.
func (e *refusedError) Final() string { return "dead" }

// read resolves a value that may be a reference.
func (c *Channel) read(value string) (string, error) {
	if !isReference(value) {
		return value, nil
	}
	return c.secret(value)
}
