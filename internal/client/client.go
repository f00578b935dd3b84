// Package client calls the HTTP API of a node from Go. The command line uses
// it for everything.
package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/api"
)

// Client calls one node. It is safe for concurrent use.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// New returns a client for the API at base, such as https://127.0.0.1:7040.
// ca, if not nil, is the only authority it trusts.
func New(base, token string, ca *x509.CertPool) *Client {
	return &Client{base: strings.TrimRight(base, "/"), token: token, http: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
	}}}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Problem is an answer of the API that says no.
type Problem struct {
	Status  int
	Detail  string // one sentence
	Hint    string // what to do next
	Refused bool   // a safety rule said no; nothing was changed
	// NoQuorum says that the nodes have no majority, or too few answer to tell.
	NoQuorum bool
}

func (p *Problem) Error() string { return p.Detail }

// UnreachableError says that no node answered.
type UnreachableError struct {
	Base string
	Err  error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no node answers at %s: %v", e.Base, e.Err)
}
func (e *UnreachableError) Unwrap() error { return e.Err }

func (c *Client) call(ctx context.Context, method, path string, in, out any) (http.Header, error) {
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if out == nil {
		return resp.Header, nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return nil, fmt.Errorf("%s %s: the answer cannot be read: %w", method, path, err)
	}
	return resp.Header, nil
}

// send returns a response that is not a problem.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return nil, &UnreachableError{c.base, err}
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, readProblem(resp)
}

func readProblem(resp *http.Response) error {
	p := &Problem{Status: resp.StatusCode}
	var m struct {
		Type, Detail string
		Errors       []struct{ Message, Location string }
	}
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if json.Unmarshal(b, &m) != nil || m.Detail == "" {
		m.Detail = fmt.Sprintf("the API answered %s: %s", resp.Status, strings.TrimSpace(string(b)))
	}
	p.Detail, p.Refused = m.Detail, m.Type == "urn:perdure:refused"
	p.NoQuorum = m.Type == "urn:perdure:no-quorum"
	for _, e := range m.Errors {
		if e.Location == "hint" {
			p.Hint = e.Message
			continue
		}
		p.Detail += "; " + strings.TrimPrefix(e.Location, "body.") + ": " + e.Message
	}
	return p
}

// Status reads the cluster's state.
func (c *Client) Status(ctx context.Context) (api.Status, error) {
	var s api.Status
	_, err := c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
	return s, err
}

// Apply asks for the cluster that a describes.
func (c *Client) Apply(ctx context.Context, a api.Apply) (api.Operation, error) {
	return c.begin(ctx, http.MethodPost, "/v1/apply", a)
}

// AddMember asks for one more member.
func (c *Client) AddMember(ctx context.Context, a api.AddMember) (api.Operation, error) {
	return c.begin(ctx, http.MethodPost, "/v1/members", a)
}

// Member asks for a change of one member: remove, stop, start or rejoin.
func (c *Client) Member(ctx context.Context, verb, name string, a api.Ask) (api.Operation, error) {
	return c.begin(ctx, http.MethodPost, "/v1/members/"+url.PathEscape(name)+"/"+verb, a)
}

// Group asks to start or stop the whole cluster.
func (c *Client) Group(ctx context.Context, verb string, a api.Ask) (api.Operation, error) {
	return c.begin(ctx, http.MethodPost, "/v1/group/"+verb, a)
}

// Upgrade asks for a rolling upgrade.
func (c *Client) Upgrade(ctx context.Context, u api.Upgrade) (api.Operation, error) {
	return c.begin(ctx, http.MethodPost, "/v1/group/upgrade", u)
}

// Pause lets healing do nothing until Resume.
func (c *Client) Pause(ctx context.Context, why string) error {
	_, err := c.call(ctx, http.MethodPost, "/v1/pause", api.Pause{Why: why}, nil)
	return err
}

// Resume lets healing go on.
func (c *Client) Resume(ctx context.Context) error {
	_, err := c.call(ctx, http.MethodPost, "/v1/resume", nil, nil)
	return err
}

// SetGroup asks to change the mode or settings of the group.
func (c *Client) SetGroup(ctx context.Context, s api.SetGroup) (api.Operation, error) {
	return c.begin(ctx, http.MethodPatch, "/v1/group", s)
}

func (c *Client) begin(ctx context.Context, method, path string, in any) (api.Operation, error) {
	var o api.Operation
	_, err := c.call(ctx, method, path, in, &o)
	return o, err
}

// Operations lists the newest operations.
func (c *Client) Operations(ctx context.Context, limit int) ([]api.Operation, error) {
	var out []api.Operation
	_, err := c.call(ctx, http.MethodGet, "/v1/operations?limit="+strconv.Itoa(limit), nil, &out)
	return out, err
}

// Operation reads one operation.
func (c *Client) Operation(ctx context.Context, id string) (api.Operation, error) {
	var o api.Operation
	_, err := c.call(ctx, http.MethodGet, "/v1/operations/"+url.PathEscape(id), nil, &o)
	return o, err
}

// Abort asks for a running operation to be taken back.
func (c *Client) Abort(ctx context.Context, id string) (api.Operation, error) {
	return c.begin(ctx, http.MethodPost, "/v1/operations/"+url.PathEscape(id)+"/abort", struct{}{})
}

// Wait follows an operation until it ended or ctx ends, and calls show with
// every state of it. A node that goes away meanwhile is asked again.
func (c *Client) Wait(ctx context.Context, o api.Operation, show func(api.Operation)) (api.Operation, error) {
	seen := ""
	for {
		show(o)
		if o.ID == "" || o.Over() {
			return o, nil
		}
		var next api.Operation
		h, err := c.call(ctx, http.MethodGet, "/v1/operations/"+url.PathEscape(o.ID)+"?wait=10&seen="+url.QueryEscape(seen), nil, &next)
		if err == nil {
			o, seen = next, h.Get("Perdure-Seen")
			continue
		}
		p, isProblem := errors.AsType[*Problem](err)
		if ctx.Err() != nil || (isProblem && p.Status != http.StatusServiceUnavailable) {
			return o, err
		}
		select {
		case <-ctx.Done():
			return o, context.Cause(ctx)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// CheckServers looks at servers; none means all members.
func (c *Client) CheckServers(ctx context.Context, members []api.Member) (api.Checked, error) {
	var out api.Checked
	_, err := c.call(ctx, http.MethodPost, "/v1/check/servers", api.CheckServers{Members: members}, &out)
	return out, err
}

// CheckSchema calls found with every table of a member that the group will
// refuse, and returns how many tables there are. Without a member's name any
// member is asked.
func (c *Client) CheckSchema(ctx context.Context, member api.Member, mode string, found func(api.Finding) error) (tables int, err error) {
	q := url.Values{"member": {member.Name}, "address": {member.Address}, "mode": {mode}}
	resp, err := c.send(ctx, http.MethodGet, "/v1/check/schema?"+q.Encode(), nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			api.Finding
			Tables *int   `json:"tables"`
			Error  string `json:"error"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			return tables, err
		}
		switch {
		case line.Error != "":
			return tables, errors.New(line.Error)
		case line.Tables != nil:
			return *line.Tables, nil
		}
		if err := found(line.Finding); err != nil {
			return tables, err
		}
	}
	if err := lines.Err(); err != nil {
		return tables, err
	}
	return tables, errors.New("the answer ended before the end of the tables")
}
