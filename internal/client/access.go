package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/perdure/perdure/internal/api"
)

// Tokens lists the tokens.
func (c *Client) Tokens(ctx context.Context) ([]api.Token, error) {
	var out []api.Token
	_, err := c.call(ctx, http.MethodGet, "/v1/tokens", nil, &out)
	return out, err
}

// MakeToken makes a token; the answer has its secret.
func (c *Client) MakeToken(ctx context.Context, t api.Token) (api.Token, error) {
	var out api.Token
	_, err := c.call(ctx, http.MethodPost, "/v1/tokens", t, &out)
	return out, err
}

// RevokeToken removes a token.
func (c *Client) RevokeToken(ctx context.Context, name string) error {
	_, err := c.call(ctx, http.MethodDelete, "/v1/tokens/"+url.PathEscape(name), nil, nil)
	return err
}

// Audit lists the newest entries of the audit log, newest last.
func (c *Client) Audit(ctx context.Context, limit int) ([]api.AuditEntry, error) {
	var out []api.AuditEntry
	_, err := c.call(ctx, http.MethodGet, "/v1/audit?limit="+strconv.Itoa(limit), nil, &out)
	return out, err
}

// VerifyAudit checks the chain of the audit log.
func (c *Client) VerifyAudit(ctx context.Context) (api.AuditVerified, error) {
	var out api.AuditVerified
	_, err := c.call(ctx, http.MethodGet, "/v1/audit/verify", nil, &out)
	return out, err
}
