package client

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/perdure/perdure/internal/api"
)

// Events lists the newest events that fit, oldest first. Empty lists of kinds
// and members fit all.
func (c *Client) Events(ctx context.Context, kinds, members []string, limit int) ([]api.Event, error) {
	var out []api.Event
	_, err := c.call(ctx, http.MethodGet, "/v1/events?"+wanted(kinds, members)+"&limit="+strconv.Itoa(limit), nil, &out)
	return out, err
}

func wanted(kinds, members []string) string {
	return url.Values{"kinds": {strings.Join(kinds, ",")}, "members": {strings.Join(members, ",")}}.Encode()
}

// FollowEvents calls each with every event after that sequence, 0 for from now
// on, until ctx ends.
func (c *Client) FollowEvents(ctx context.Context, kinds, members []string, after uint64, each func(api.Event) error) error {
	query := wanted(kinds, members)
	if after > 0 {
		query += "&after=" + strconv.FormatUint(after, 10)
	}
	resp, err := c.send(ctx, http.MethodGet, "/v1/events/follow?"+query, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	var e api.Event
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			e.Sequence, _ = strconv.ParseUint(id, 10, 64)
			continue
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if err := json.Unmarshal([]byte(data), &e.Event); err != nil {
			return err
		}
		if err := each(e); err != nil {
			return err
		}
		e = api.Event{}
	}
	return lines.Err()
}

// Alarms lists where all alarms stand.
func (c *Client) Alarms(ctx context.Context) ([]api.Alarm, error) {
	var out []api.Alarm
	_, err := c.call(ctx, http.MethodGet, "/v1/alarms", nil, &out)
	return out, err
}

// Acknowledge says that somebody takes care of an alarm.
func (c *Client) Acknowledge(ctx context.Context, a api.Acknowledge) error {
	_, err := c.call(ctx, http.MethodPost, "/v1/alarms/acknowledge", a, nil)
	return err
}

// TestRules says what every rule would do with an event.
func (c *Client) TestRules(ctx context.Context, t api.TestRules) ([]api.Hit, error) {
	var out []api.Hit
	_, err := c.call(ctx, http.MethodPost, "/v1/rules/test", t, &out)
	return out, err
}

// TestNotify brings a test message to a channel and returns what came of it.
func (c *Client) TestNotify(ctx context.Context, channel string) (map[string]any, error) {
	var out map[string]any
	_, err := c.call(ctx, http.MethodPost, "/v1/notify/"+url.PathEscape(channel)+"/test", nil, &out)
	return out, err
}

// RehearseHook says what a hook would do with an event.
func (c *Client) RehearseHook(ctx context.Context, hook string, t api.TestRules) (map[string]any, error) {
	var out map[string]any
	_, err := c.call(ctx, http.MethodPost, "/v1/hooks/"+url.PathEscape(hook)+"/rehearse", t, &out)
	return out, err
}

// Deliveries lists messages and hook runs with their attempts.
func (c *Client) Deliveries(ctx context.Context, target, state string, limit int) ([]map[string]any, error) {
	var out []map[string]any
	q := url.Values{"target": {target}, "state": {state}, "limit": {strconv.Itoa(limit)}}
	_, err := c.call(ctx, http.MethodGet, "/v1/deliveries?"+q.Encode(), nil, &out)
	return out, err
}

// SteerDelivery redrives or discards a delivery.
func (c *Client) SteerDelivery(ctx context.Context, id, verb string) error {
	_, err := c.call(ctx, http.MethodPost, "/v1/deliveries/"+url.PathEscape(id)+"/"+verb, nil, nil)
	return err
}

// Silence keeps messages about some events back.
func (c *Client) Silence(ctx context.Context, s api.Silence) (map[string]any, error) {
	var out map[string]any
	_, err := c.call(ctx, http.MethodPost, "/v1/silences", s, &out)
	return out, err
}

// Silences lists those in force.
func (c *Client) Silences(ctx context.Context) ([]map[string]any, error) {
	var out []map[string]any
	_, err := c.call(ctx, http.MethodGet, "/v1/silences", nil, &out)
	return out, err
}

// Unsilence ends a silence.
func (c *Client) Unsilence(ctx context.Context, id string) error {
	_, err := c.call(ctx, http.MethodDelete, "/v1/silences/"+url.PathEscape(id), nil, nil)
	return err
}
