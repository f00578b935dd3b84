package notify

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/event"
)

const pagerURL = "https://events.pagerduty.com/v2/enqueue"

type pagerEvent struct {
	Key     string        `json:"routing_key"`
	Action  string        `json:"event_action"`
	Dedup   string        `json:"dedup_key"`
	Client  string        `json:"client,omitempty"`
	Payload *pagerPayload `json:"payload,omitempty"`
}

type pagerPayload struct {
	Summary   string            `json:"summary"`
	Source    string            `json:"source"`
	Severity  string            `json:"severity"`
	Timestamp string            `json:"timestamp"`
	Component string            `json:"component,omitempty"`
	Group     string            `json:"group,omitempty"`
	Class     string            `json:"class,omitempty"`
	Details   map[string]string `json:"custom_details,omitempty"`
}

func (c *Channel) pager(ctx context.Context, e event.Event) (string, error) {
	key, err := c.secret(c.cfg.PagerDuty.Key)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(pagerOf(e, key))
	if err != nil {
		return "", &refusedError{err}
	}
	return post(ctx, cmp.Or(c.cfg.PagerDuty.URL, pagerURL), "", "application/json", nil, body)
}

// pagerOf says what an event is to PagerDuty: what begins something triggers,
// what ends it resolves, by the subject.
func pagerOf(e event.Event, key string) pagerEvent {
	p := pagerEvent{Key: key, Action: "trigger", Dedup: "perdure/" + e.Cluster + "/" + e.Subject, Client: "perdure"}
	switch {
	case e.Kind == event.AlarmAcked:
		p.Action = "acknowledge"
		return p
	case e.Kind == event.AlarmResolved, e.Kind.Meaning().Ends != "" && e.Kind != event.NotifyCalm:
		p.Action = "resolve"
		return p
	}
	details := maps.Clone(e.Facts)
	if details == nil {
		details = map[string]string{}
	}
	details["event"] = e.ID
	p.Payload = &pagerPayload{
		Summary: headline(e), Source: strings.Trim(e.Cluster+"/"+cmp.Or(e.Member, e.Node), "/"), Severity: string(e.Severity),
		Timestamp: e.Time.UTC().Format(time.RFC3339), Component: cmp.Or(e.Member, e.Subject), Group: e.Cluster, Class: string(e.Kind), Details: details,
	}
	return p
}
