package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/perdure/perdure/internal/api"
)

// RunConsistency asks for a comparison of what the members hold.
func (c *Client) RunConsistency(ctx context.Context, scope api.ConsistencyScope) (api.ConsistencyAudit, error) {
	var a api.ConsistencyAudit
	_, err := c.call(ctx, http.MethodPost, "/v1/consistency", scope, &a)
	return a, err
}

// Consistency reads one audit with its report; "newest" stands for the newest.
func (c *Client) Consistency(ctx context.Context, id string) (api.ConsistencyAudit, error) {
	var a api.ConsistencyAudit
	_, err := c.call(ctx, http.MethodGet, "/v1/consistency/"+url.PathEscape(id), nil, &a)
	return a, err
}

// StopConsistency ends an audit.
func (c *Client) StopConsistency(ctx context.Context, id string) (api.ConsistencyAudit, error) {
	var a api.ConsistencyAudit
	_, err := c.call(ctx, http.MethodPost, "/v1/consistency/"+url.PathEscape(id)+"/stop", nil, &a)
	return a, err
}

// Consistencies lists the audits that are kept, newest first.
func (c *Client) Consistencies(ctx context.Context) ([]api.ConsistencyAudit, error) {
	var out []api.ConsistencyAudit
	_, err := c.call(ctx, http.MethodGet, "/v1/consistency", nil, &out)
	return out, err
}

// WaitConsistency follows an audit until it ended or ctx ends, and calls show
// about once a second. A node that goes away meanwhile is asked again.
func (c *Client) WaitConsistency(ctx context.Context, id string, show func(api.ConsistencyAudit)) (api.ConsistencyAudit, error) {
	var last api.ConsistencyAudit
	for {
		a, err := c.Consistency(ctx, id)
		if err == nil {
			last = a
			show(a)
		}
		if err == nil && a.Over() || err != nil && !mayPass(ctx, err) {
			return last, err
		}
		select {
		case <-ctx.Done():
			return last, context.Cause(ctx)
		case <-time.After(time.Second):
		}
	}
}

// Schedules lists what begins at times.
func (c *Client) Schedules(ctx context.Context) ([]api.Schedule, error) {
	var out []api.Schedule
	_, err := c.call(ctx, http.MethodGet, "/v1/schedules", nil, &out)
	return out, err
}

// mayPass tells whether it is worth to ask again after an error.
func mayPass(ctx context.Context, err error) bool {
	p, isProblem := errors.AsType[*Problem](err)
	return ctx.Err() == nil && (!isProblem || p.Status == http.StatusServiceUnavailable)
}
