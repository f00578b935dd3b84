// Package client hands writes to a Perdure write queue from an application.
//
// A write that Put returns without an error is on disk, on a majority where
// there are several nodes, and takes effect once. Put asks again by itself, with
// the same id, while nodes are away, full or busy, until its context ends. When
// it returns an error that is no *Problem the write is in doubt: calling Put
// with the same Write again, now or after a restart of the application, is safe
// and is how to find out. For that, set Write.ID (NewID) and keep the write
// before the first call; Put fills in the id where it is missing.
//
// Writes of one key take effect in the order in which they were accepted: wait
// for one Put to return before the next of that key, or put them in one PutBatch.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Write is one unit of work: a declared operation with its parameters, or, for
// tokens that may, statements of its own.
type Write struct {
	ID         string         `json:"id,omitempty"`  // a UUIDv7; see NewID
	Key        string         `json:"key,omitempty"` // writes of one key keep their order
	Operation  string         `json:"operation,omitempty"`
	Params     map[string]any `json:"params,omitempty"`
	Statements []Statement    `json:"statements,omitempty"`
}

// Statement is SQL with values for its question marks.
type Statement struct {
	SQL  string `json:"sql"`
	Args []any  `json:"args,omitempty"`
}

// Receipt says what is known about a write.
type Receipt struct {
	ID        string `json:"id"`
	Sequence  uint64 `json:"sequence"`
	State     string `json:"state"` // queued, applied, dead, discarded
	Attempts  int    `json:"attempts"`
	Affected  *int64 `json:"affected_rows"` // once applied
	GTID      string `json:"gtid"`          // for reading one's own write, after PutApplied
	Error     string `json:"error"`         // of a dead letter
	Duplicate bool   `json:"duplicate"`     // it had been accepted before
}

// Problem is a refusal: the write was not stored, and sending it again as it is
// would not help.
type Problem struct {
	Status int
	Kind   string // such as "unknown-operation"
	Detail string
	Hint   string
}

func (p *Problem) Error() string { return "the write queue refused: " + p.Detail }

// Config says where the queue is.
type Config struct {
	// Nodes are the URLs of all nodes, such as https://n1:7040. The one that
	// answered last is asked first.
	Nodes []string
	Token string
	CA    *x509.CertPool // the only authority to trust; nil: the system's
	// RetryFirst and RetryMost shape the pause between attempts, which doubles
	// and is cut at random. Default 50 ms and 5 s. A node that says when to come
	// back is obeyed.
	RetryFirst, RetryMost time.Duration
	// Attempt bounds one request, without the time it is asked to wait until
	// writes are applied. Default 15 s.
	Attempt time.Duration
}

// Client is safe for concurrent use.
type Client struct {
	cfg  Config
	http *http.Client
	at   atomic.Uint32
}

// New makes a client. It calls nobody.
func New(c Config) (*Client, error) {
	if len(c.Nodes) == 0 {
		return nil, errors.New("client: no node is named")
	}
	for _, n := range c.Nodes {
		if u, err := url.Parse(n); err != nil || u.Host == "" {
			return nil, fmt.Errorf("client: %q is not the URL of a node", n)
		}
	}
	if c.RetryFirst <= 0 {
		c.RetryFirst = 50 * time.Millisecond
	}
	if c.RetryMost <= 0 {
		c.RetryMost = 5 * time.Second
	}
	if c.Attempt <= 0 {
		c.Attempt = 15 * time.Second
	}
	return &Client{cfg: c, http: &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: c.CA, MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost: 128, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
	}}}, nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Put hands in one write and returns when it is on disk.
func (c *Client) Put(ctx context.Context, w *Write) (Receipt, error) {
	all, err := c.put(ctx, []*Write{w}, 0)
	if err != nil {
		return Receipt{ID: w.ID}, err
	}
	return all[0], nil
}

// PutApplied is Put, and then waits until the write is applied, for at most
// limit (a minute is the most). State says how far it came; queued is safe too.
func (c *Client) PutApplied(ctx context.Context, w *Write, limit time.Duration) (Receipt, error) {
	all, err := c.put(ctx, []*Write{w}, max(limit, time.Millisecond))
	if err != nil {
		return Receipt{ID: w.ID}, err
	}
	return all[0], nil
}

// PutBatch hands in up to 4096 writes, all or none, in their order.
func (c *Client) PutBatch(ctx context.Context, all []*Write) ([]Receipt, error) {
	return c.put(ctx, all, 0)
}

func (c *Client) put(ctx context.Context, all []*Write, wait time.Duration) ([]Receipt, error) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	for _, w := range all {
		if w.ID == "" {
			w.ID = NewID()
		}
		if err := enc.Encode(w); err != nil {
			return nil, fmt.Errorf("client: a write that JSON cannot say: %w", err)
		}
	}
	path := "/v1/writes"
	if wait > 0 {
		path += "?wait=applied&timeout=" + strconv.FormatFloat(wait.Seconds(), 'f', 3, 64)
	}
	var out []Receipt
	err := c.ask(ctx, http.MethodPost, path, body.Bytes(), wait, func(r io.Reader) error {
		out = out[:0]
		for d := json.NewDecoder(r); len(out) < len(all); {
			var one Receipt
			if err := d.Decode(&one); err != nil {
				return err
			}
			out = append(out, one)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Receipt says what became of a write. It asks again while nobody can say.
func (c *Client) Receipt(ctx context.Context, id string) (Receipt, error) {
	var out Receipt
	err := c.ask(ctx, http.MethodGet, "/v1/writes/"+url.PathEscape(id), nil, 0, func(r io.Reader) error { return json.NewDecoder(r).Decode(&out) })
	return out, err
}

// ask tries one node after the other, until one answers or ctx ends.
func (c *Client) ask(ctx context.Context, method, path string, body []byte, wait time.Duration, read func(io.Reader) error) error {
	pause := c.cfg.RetryFirst
	for {
		n := c.at.Load()
		later, err := c.once(ctx, c.cfg.Nodes[int(n)%len(c.cfg.Nodes)], method, path, body, wait, read)
		if err == nil {
			return nil
		}
		if _, final := errors.AsType[*Problem](err); final {
			return err
		}
		c.at.CompareAndSwap(n, n+1) // unless another caller has turned already
		pause = min(2*pause, c.cfg.RetryMost)
		select {
		case <-ctx.Done():
			return fmt.Errorf("no answer, the outcome is in doubt: %w: %w", context.Cause(ctx), err)
		case <-time.After(max(later, pause/2+rand.N(pause/2+1))): //nolint:gosec // spreads clients, hides nothing
		}
	}
}

func (c *Client) once(ctx context.Context, node, method, path string, body []byte, wait time.Duration, read func(io.Reader) error) (later time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Attempt+wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(node, "/")+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("Authorization", "Bearer "+c.cfg.Token)
	res, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode < 300 {
		if err := read(res.Body); err != nil {
			return 0, fmt.Errorf("%s: the answer cannot be read: %w", node, err)
		}
		return 0, nil
	}
	var m struct {
		Type, Detail string
		Errors       []struct{ Message, Location string }
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	_ = json.Unmarshal(text, &m)
	if m.Detail == "" {
		m.Detail = res.Status
	}
	if res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500 {
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return time.Duration(min(max(seconds, 0), 60)) * time.Second, fmt.Errorf("%s: %s (%d)", node, m.Detail, res.StatusCode)
	}
	p := &Problem{Status: res.StatusCode, Kind: strings.TrimPrefix(m.Type, "urn:perdure:write:"), Detail: m.Detail}
	for _, e := range m.Errors {
		if e.Location == "hint" {
			p.Hint = e.Message
		}
	}
	return 0, p
}
