package control

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// dial prepares to reach an external etcd; the first call connects.
func (c *Control) dial() (*engine, error) {
	tlsConfig, err := c.cfg.TLS.client()
	if err != nil {
		return nil, err
	}
	r := newEngine()
	r.client, err = clientv3.New(clientv3.Config{
		Endpoints: c.cfg.Endpoints,
		TLS:       tlsConfig,
		Username:  c.cfg.Username,
		Password:  c.cfg.Password,
		Logger:    newZap(r.ending, c.log),
		// A server that is gone without a word is noticed within four seconds,
		// and the next call goes to another.
		DialTimeout:          2 * time.Second,
		DialKeepAliveTime:    2 * time.Second,
		DialKeepAliveTimeout: 2 * time.Second,
		PermitWithoutStream:  true,
	})
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.who(), err)
	}
	return r, nil
}

// client returns nil if no file is named: a connection without TLS.
func (t TLS) client() (*tls.Config, error) {
	if t == (TLS{}) {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("read the authority of the control store's certificate: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("read the certificate for the control store: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
