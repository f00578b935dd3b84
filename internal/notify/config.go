package notify

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"regexp"
	"strings"

	"github.com/perdure/perdure/internal/event"
)

// Config is one entry of the section `notify` of perdure.yaml: a channel of
// exactly one kind.
type Config struct {
	Name      string         `json:"name" yaml:"name" doc:"Short name, unique: lower-case letters, digits, dashes. Rules notify it by this name."`
	Webhook   *Webhook       `json:"webhook,omitempty" yaml:"webhook,omitempty" doc:"An HTTP request, signed."`
	Email     *Email         `json:"email,omitempty" yaml:"email,omitempty" doc:"An e-mail over SMTP."`
	Slack     *Slack         `json:"slack,omitempty" yaml:"slack,omitempty" doc:"An incoming webhook of Slack."`
	PagerDuty *PagerDuty     `json:"pagerduty,omitempty" yaml:"pagerduty,omitempty" doc:"PagerDuty, Events API v2."`
	Service   *Service       `json:"service,omitempty" yaml:"service,omitempty" doc:"One of the services that the shoutrrr library knows: Discord, Teams, Telegram, Matrix, ntfy, Gotify, Opsgenie and more."`
	Timeout   event.Duration `json:"timeout,omitempty" yaml:"timeout,omitempty" doc:"How long one attempt may take. Default 10s."`
	GiveUp    event.Duration `json:"give_up,omitempty" yaml:"give_up,omitempty" doc:"How long a message is tried. Default 1d."`
}

// Webhook is an HTTP receiver.
type Webhook struct {
	URL     string            `json:"url" yaml:"url" doc:"Where to POST. https, unless the host is this one; a reference (file:PATH, env:NAME) if it is a secret."`
	Secret  string            `json:"secret,omitempty" yaml:"secret,omitempty" doc:"Reference to the secret for the signature. Default: no signature."`
	Headers map[string]string `json:"headers,omitempty" yaml:"headers,omitempty" doc:"Further headers. A value may be a reference (file:PATH, env:NAME)."`
	CA      string            `json:"ca,omitempty" yaml:"ca,omitempty" doc:"File with the authority of the receiver's certificate. Default: the system's."`
}

// Email is a mail server and who gets the mail.
type Email struct {
	Server   string   `json:"server" yaml:"server" doc:"host:port of the mail server."`
	TLS      string   `json:"tls,omitempty" yaml:"tls,omitempty" enum:"starttls,tls,none" doc:"starttls: begin in clear and refuse to go on without TLS. tls: TLS from the start. none: in clear. Default starttls."`
	User     string   `json:"user,omitempty" yaml:"user,omitempty" doc:"Account on the mail server. Default: none."`
	Password string   `json:"password,omitempty" yaml:"password,omitempty" doc:"Reference to its password."`
	From     string   `json:"from" yaml:"from" doc:"Sender's address."`
	To       []string `json:"to" yaml:"to" doc:"Receivers' addresses."`
	Hello    string   `json:"hello,omitempty" yaml:"hello,omitempty" doc:"Name with which to greet the server. Default localhost."`
	CA       string   `json:"ca,omitempty" yaml:"ca,omitempty" doc:"File with the authority of the server's certificate. Default: the system's."`
}

// Slack is an incoming webhook.
type Slack struct {
	URL string `json:"url" yaml:"url" doc:"Reference to the webhook's URL, which is a secret."`
}

// PagerDuty is a service there.
type PagerDuty struct {
	Key string `json:"key" yaml:"key" doc:"Reference to the integration's routing key."`
	URL string `json:"url,omitempty" yaml:"url,omitempty" doc:"Default https://events.pagerduty.com/v2/enqueue."`
}

// Service is a URL of the shoutrrr library.
type Service struct {
	URL string `json:"url" yaml:"url" doc:"Reference to the URL, such as discord://token@id: it holds the secret."`
}

var channelName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)

// Check reports every mistake at once, each with the path of what it is about,
// such as "notify[1].email.from".
func Check(all []Config) error {
	var errs []error
	seen := map[string]bool{}
	for i, c := range all {
		at := fmt.Sprintf("notify[%d]", i)
		if !channelName.MatchString(c.Name) {
			errs = append(errs, fmt.Errorf("%s.name: a channel's name is lower-case letters, digits and dashes, not %q", at, c.Name))
		}
		if seen[c.Name] {
			errs = append(errs, fmt.Errorf("%s.name: two channels are called %s", at, c.Name))
		}
		seen[c.Name] = true
		for _, err := range c.check() {
			errs = append(errs, fmt.Errorf("%s.%w", at, err))
		}
	}
	return errors.Join(errs...)
}

func (c Config) check() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	kinds := 0
	if w := c.Webhook; w != nil {
		kinds++
		if !isReference(w.URL) {
			if err := checkURL(w.URL); err != nil {
				bad("webhook.url: %w", err)
			}
		}
		if w.Secret != "" && !isReference(w.Secret) {
			bad("webhook.secret: %w", errReference)
		}
	}
	if m := c.Email; m != nil {
		kinds++
		if _, _, err := net.SplitHostPort(m.Server); err != nil {
			bad("email.server: %q is not host:port", m.Server)
		}
		if m.TLS != "" && m.TLS != "starttls" && m.TLS != "tls" && m.TLS != "none" {
			bad("email.tls: %q is none of starttls, tls, none", m.TLS)
		}
		if m.User != "" && !isReference(m.Password) {
			bad("email.password: %w", errReference)
		}
		if m.User != "" && m.TLS == "none" {
			bad("email.tls: a password is not sent in clear")
		}
		for _, a := range append([]string{m.From}, m.To...) {
			if _, err := mail.ParseAddress(a); err != nil {
				bad("email: %q is not an address", a)
			}
		}
		if len(m.To) == 0 {
			bad("email.to: nobody gets it")
		}
	}
	if c.Slack != nil {
		kinds++
		if !isReference(c.Slack.URL) {
			bad("slack.url: %w", errReference)
		}
	}
	if p := c.PagerDuty; p != nil {
		kinds++
		if !isReference(p.Key) {
			bad("pagerduty.key: %w", errReference)
		}
		if p.URL != "" {
			if err := checkURL(p.URL); err != nil {
				bad("pagerduty.url: %w", err)
			}
		}
	}
	if c.Service != nil {
		kinds++
		if !isReference(c.Service.URL) {
			bad("service.url: %w", errReference)
		}
	}
	if kinds != 1 {
		bad("%s: a channel is of exactly one kind: webhook, email, slack, pagerduty or service", c.Name)
	}
	return errs
}

var errReference = errors.New("a secret is named by file:PATH or env:NAME")

func isReference(s string) bool { return strings.HasPrefix(s, "file:") || strings.HasPrefix(s, "env:") }

// checkURL refuses what would send events in clear over a network.
func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("%q is not an http or https URL", s)
	}
	if ip := net.ParseIP(u.Hostname()); u.Scheme == "http" && u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s: only a receiver on this host may be reached without TLS", u.Redacted())
	}
	return nil
}
