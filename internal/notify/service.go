package notify

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/nicholas-fedor/shoutrrr"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"github.com/perdure/perdure/internal/event"
)

// service hands an event to the library for the other services. It has limits
// of its own for how long that takes, ten seconds a service.
func (c *Channel) service(e event.Event) (string, error) {
	to, err := c.secret(c.cfg.Service.URL)
	if err != nil {
		return "", err
	}
	sender, err := shoutrrr.CreateSender(to)
	if err != nil {
		return "", scrub(err, to)
	}
	sender.Timeout = c.Timeout()
	params := types.Params{"title": headline(e)}
	for _, err := range sender.Send(story(e), &params) {
		if err != nil {
			return "", scrub(err, to)
		}
	}
	scheme, _, _ := strings.Cut(to, ":")
	return scheme + " took it", nil
}

// scrub takes the parts of a URL, each of which may be a secret, out of an
// error's text.
func scrub(err error, secret string) error {
	text := err.Error()
	parts := []string{secret}
	if u, bad := url.Parse(secret); bad == nil {
		password, _ := u.User.Password()
		parts = append(parts, u.User.Username(), password, u.RawQuery, u.Host, u.Hostname())
		parts = append(parts, strings.Split(u.Path, "/")...)
		for _, values := range u.Query() {
			parts = append(parts, values...)
		}
	}
	slices.SortFunc(parts, func(a, b string) int { return len(b) - len(a) })
	for _, p := range parts {
		if len(p) >= 4 {
			text = strings.ReplaceAll(text, p, "***")
		}
	}
	return errors.New(text)
}
