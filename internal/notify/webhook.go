package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/event"
)

func (c *Channel) webhook(ctx context.Context, id string, e event.Event) (string, error) {
	w := c.cfg.Webhook
	to, err := c.read(w.URL)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(e)
	if err != nil {
		return "", &refusedError{err}
	}
	headers := map[string]string{}
	for name, value := range w.Headers {
		if headers[name], err = c.read(value); err != nil {
			return "", err
		}
	}
	now := time.Now()
	headers["webhook-id"], headers["webhook-timestamp"] = id, strconv.FormatInt(now.Unix(), 10)
	if w.Secret != "" {
		secret, err := c.secret(w.Secret)
		if err != nil {
			return "", err
		}
		headers["webhook-signature"] = Sign(secret, id, now, body)
	}
	return post(ctx, to, w.CA, event.ContentType, headers, body)
}

// Sign returns the signature of a webhook. A secret may be written as
// "whsec_" and its base64.
func Sign(secret, id string, at time.Time, body []byte) string {
	key := []byte(secret)
	if encoded, ok := strings.CutPrefix(secret, "whsec_"); ok {
		if decoded, err := base64.StdEncoding.DecodeString(encoded); err == nil {
			key = decoded
		}
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
	h.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// tolerance is how far a webhook's timestamp may be from the receiver's clock.
const tolerance = 5 * time.Minute

// Refusals of Verify.
var (
	ErrSignature = errors.New("the signature is missing or wrong")
	ErrTimestamp = errors.New("the timestamp is missing or too far off")
)

// Verify is what a receiver does with a webhook's headers and body.
func Verify(secret string, h http.Header, body []byte, now time.Time) error {
	seconds, err := strconv.ParseInt(h.Get("webhook-timestamp"), 10, 64)
	at := time.Unix(seconds, 0)
	if err != nil || now.Sub(at).Abs() > tolerance {
		return ErrTimestamp
	}
	want := Sign(secret, h.Get("webhook-id"), at, body)
	for got := range strings.FieldsSeq(h.Get("webhook-signature")) {
		if hmac.Equal([]byte(got), []byte(want)) {
			return nil
		}
	}
	return ErrSignature
}
