package client

import (
	"context"
	"net/http"

	"github.com/perdure/perdure/internal/api"
)

// Drills lists the reports of former drills, newest first.
func (c *Client) Drills(ctx context.Context) ([]api.DrillReport, error) {
	var out []api.DrillReport
	_, err := c.call(ctx, http.MethodGet, "/v1/drills", nil, &out)
	return out, err
}

// Drill makes a fault on purpose and returns when the cluster got over it.
func (c *Client) Drill(ctx context.Context, d api.Drill) (api.DrillReport, error) {
	var r api.DrillReport
	_, err := c.call(ctx, http.MethodPost, "/v1/drills", d, &r)
	return r, err
}
