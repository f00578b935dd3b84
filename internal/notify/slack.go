package notify

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/perdure/perdure/internal/event"
)

func (c *Channel) slack(ctx context.Context, e event.Event) (string, error) {
	to, err := c.secret(c.cfg.Slack.URL)
	if err != nil {
		return "", err
	}
	mark := map[event.Severity]string{event.Critical: ":red_circle: ", event.Warning: ":large_yellow_circle: "}[e.Severity]
	if e.Kind == event.AlarmResolved || e.Kind.Meaning().Ends != "" {
		mark = ":large_green_circle: "
	}
	// Slack's own marks: three characters mean something in a text.
	plain := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
	body, err := json.Marshal(map[string]string{"text": mark + plain.Replace(headline(e)) + "\n```" + plain.Replace(story(e)) + "```"})
	if err != nil {
		return "", &refusedError{err}
	}
	return post(ctx, to, "", "application/json", nil, body)
}
