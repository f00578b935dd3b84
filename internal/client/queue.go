package client

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/perdure/perdure/internal/api"
)

// Put hands in one write and returns its receipt.
func (c *Client) Put(ctx context.Context, w api.Write) (api.Receipt, error) {
	var r api.Receipt
	_, err := c.call(ctx, http.MethodPost, "/v1/writes", w, &r)
	return r, err
}

// Receipt says what became of a write.
func (c *Client) Receipt(ctx context.Context, id string) (api.Receipt, error) {
	var r api.Receipt
	_, err := c.call(ctx, http.MethodGet, "/v1/writes/"+url.PathEscape(id), nil, &r)
	return r, err
}

// Queue reads the state of the write queue.
func (c *Client) Queue(ctx context.Context) (api.QueueStatus, error) {
	var s api.QueueStatus
	_, err := c.call(ctx, http.MethodGet, "/v1/queue", nil, &s)
	return s, err
}

// SteerQueue pauses or resumes applying.
func (c *Client) SteerQueue(ctx context.Context, verb string) error {
	_, err := c.call(ctx, http.MethodPost, "/v1/queue/"+verb, nil, nil)
	return err
}

// AcceptLoss gives up the log of that generation, which is gone.
func (c *Client) AcceptLoss(ctx context.Context, generation string) error {
	_, err := c.call(ctx, http.MethodPost, "/v1/queue/accept-loss", api.AcceptLoss{Generation: generation}, nil)
	return err
}

// TailQueue calls each with every write as it is accepted, until ctx ends.
func (c *Client) TailQueue(ctx context.Context, from uint64, each func(api.TailedWrite) error) error {
	resp, err := c.send(ctx, http.MethodGet, "/v1/queue/tail?from="+strconv.FormatUint(from, 10), nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var t api.TailedWrite
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			return err
		}
		if err := each(t); err != nil {
			return err
		}
	}
	return lines.Err()
}

// DeadLetters lists the newest dead letters.
func (c *Client) DeadLetters(ctx context.Context, limit int) ([]api.DeadLetter, error) {
	var out []api.DeadLetter
	_, err := c.call(ctx, http.MethodGet, "/v1/dead-letters?limit="+strconv.Itoa(limit), nil, &out)
	return out, err
}

// DeadLetter reads one dead letter with its statements.
func (c *Client) DeadLetter(ctx context.Context, id string) (api.DeadLetter, error) {
	var d api.DeadLetter
	_, err := c.call(ctx, http.MethodGet, "/v1/dead-letters/"+url.PathEscape(id), nil, &d)
	return d, err
}

// RetryDeadLetter takes a dead letter up again, with other statements if there
// are any.
func (c *Client) RetryDeadLetter(ctx context.Context, id string, edited []api.Statement) (api.Receipt, error) {
	var r api.Receipt
	_, err := c.call(ctx, http.MethodPost, "/v1/dead-letters/"+url.PathEscape(id)+"/retry", api.RetryDeadLetter{Statements: edited}, &r)
	return r, err
}

// DiscardDeadLetter gives a dead letter up for good.
func (c *Client) DiscardDeadLetter(ctx context.Context, id string) (api.Receipt, error) {
	var r api.Receipt
	_, err := c.call(ctx, http.MethodPost, "/v1/dead-letters/"+url.PathEscape(id)+"/discard", nil, &r)
	return r, err
}
