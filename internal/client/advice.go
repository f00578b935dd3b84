package client

import (
	"context"
	"net/http"
	"strconv"

	"github.com/perdure/perdure/internal/api"
)

// Advice has the members watched for so many seconds and returns what to do.
func (c *Client) Advice(ctx context.Context, seconds int) (api.Advice, error) {
	var out api.Advice
	_, err := c.call(ctx, http.MethodGet, "/v1/advice?seconds="+strconv.Itoa(seconds), nil, &out)
	return out, err
}
