package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// post sends a request of ours and returns what the receiver said. Redirects
// are not followed: they would carry the signature, or a secret in the URL, to
// somebody else.
func post(ctx context.Context, to, ca, contentType string, headers map[string]string, body []byte) (receipt string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return "", errors.New("the URL is not usable") // the error would show it
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "perdure")
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	roots, err := authority(ca)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true, // seldom enough, and nothing is left behind
		ForceAttemptHTTP2: true,
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok { // its text has the whole URL in it
			err = u.Err
		}
		return "", fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	defer func() { _ = res.Body.Close() }()
	said, _ := io.ReadAll(io.LimitReader(res.Body, 512))
	receipt = strings.TrimSpace("HTTP " + res.Status + " " + strings.ToValidUTF8(strings.TrimSpace(string(said)), "?"))
	switch code := res.StatusCode; {
	case code/100 == 2:
		return receipt, nil
	case code == http.StatusBadRequest, code == http.StatusGone, code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		return receipt, &refusedError{fmt.Errorf("%s refused it: %s", req.URL.Host, receipt)}
	}
	return receipt, fmt.Errorf("%s did not take it: %s", req.URL.Host, receipt)
}

// authority reads a file of certificates; without one the system's count.
func authority(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // that is how crypto/tls says "the system's"
	}
	pem, err := os.ReadFile(file) //nolint:gosec // the configuration names it
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}
