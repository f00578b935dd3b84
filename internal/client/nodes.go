package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/perdure/perdure/internal/api"
)

// Nodes lists the nodes as the node that answers sees them.
func (c *Client) Nodes(ctx context.Context) (api.Nodes, error) {
	var out api.Nodes
	_, err := c.call(ctx, http.MethodGet, "/v1/nodes", nil, &out)
	return out, err
}

// InviteNode makes a join token.
func (c *Client) InviteNode(ctx context.Context, in api.Invite) (api.Invitation, error) {
	var out api.Invitation
	_, err := c.call(ctx, http.MethodPost, "/v1/nodes/invitations", in, &out)
	return out, err
}

// JoinNode asks to be let in. It needs no token of the API.
func (c *Client) JoinNode(ctx context.Context, in api.Join) (api.Joined, error) {
	var out api.Joined
	_, err := c.call(ctx, http.MethodPost, "/v1/nodes", in, &out)
	return out, err
}

// RemoveNode asks to take a node out.
func (c *Client) RemoveNode(ctx context.Context, name string) (api.Nodes, error) {
	var out api.Nodes
	_, err := c.call(ctx, http.MethodPost, "/v1/nodes/"+url.PathEscape(name)+"/remove", nil, &out)
	return out, err
}
