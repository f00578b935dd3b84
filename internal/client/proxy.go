package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/perdure/perdure/internal/api"
)

// Proxy reads the state of a node's proxy.
func (c *Client) Proxy(ctx context.Context) (api.Proxy, error) {
	var p api.Proxy
	_, err := c.call(ctx, http.MethodGet, "/v1/proxy", nil, &p)
	return p, err
}

// Sessions lists a proxy's sessions, all or only those that cannot move.
func (c *Client) Sessions(ctx context.Context, pinned bool, limit int) ([]api.Session, error) {
	var out []api.Session
	_, err := c.call(ctx, http.MethodGet, fmt.Sprintf("/v1/proxy/sessions?pinned=%t&limit=%d", pinned, limit), nil, &out)
	return out, err
}

// SetWriters changes the writer policy on every node.
func (c *Client) SetWriters(ctx context.Context, policy string) (api.Proxy, error) {
	var p api.Proxy
	_, err := c.call(ctx, http.MethodPut, "/v1/proxy/writers", api.SetWriters{Writers: policy}, &p)
	return p, err
}

// Drain takes a member out of use and waits up to wait seconds for its sessions
// on this node to leave; it returns how many are left.
func (c *Client) Drain(ctx context.Context, member string, wait int) (left int, err error) {
	var d api.Drained
	_, err = c.call(ctx, http.MethodPost, "/v1/proxy/drain/"+url.PathEscape(member), api.Drain{Wait: wait}, &d)
	return d.Left, err
}

// Undrain puts a drained member back.
func (c *Client) Undrain(ctx context.Context, member string) error {
	_, err := c.call(ctx, http.MethodPost, "/v1/proxy/undrain/"+url.PathEscape(member), nil, nil)
	return err
}
