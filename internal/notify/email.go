package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"

	"github.com/perdure/perdure/internal/event"
)

func (c *Channel) email(ctx context.Context, id string, e event.Event) (receipt string, err error) {
	m := c.cfg.Email
	host, _, _ := net.SplitHostPort(m.Server)
	roots, err := authority(m.CA)
	if err != nil {
		return "", err
	}
	secure := &tls.Config{ServerName: host, RootCAs: roots, MinVersion: tls.VersionTLS12}
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.Server)
	if err != nil {
		return "", err
	}
	defer func() { _ = raw.Close() }()
	// The protocol's client knows no context: its connection ends with ours.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn := raw
	if m.TLS == "tls" {
		conn = tls.Client(raw, secure)
	}
	s, err := smtp.NewClient(conn, host)
	if err != nil {
		return "", fmt.Errorf("%s: %w", m.Server, err)
	}
	if m.Hello != "" {
		if err := s.Hello(m.Hello); err != nil {
			return "", fmt.Errorf("%s: %w", m.Server, err)
		}
	}
	if m.TLS == "" || m.TLS == "starttls" {
		if offered, _ := s.Extension("STARTTLS"); !offered {
			return "", fmt.Errorf("%s offers no STARTTLS, and nothing is sent in clear", m.Server)
		}
		if err := s.StartTLS(secure); err != nil {
			return "", fmt.Errorf("%s: TLS: %w", m.Server, err)
		}
	}
	if m.User != "" {
		password, err := c.secret(m.Password)
		if err != nil {
			return "", err
		}
		if err := s.Auth(smtp.PlainAuth("", m.User, password, host)); err != nil {
			return "", fmt.Errorf("%s does not let %s in: %w", m.Server, m.User, err)
		}
	}
	receipt, err = c.deliver(s, message(m, id, e, time.Now()))
	if err != nil {
		return receipt, fmt.Errorf("%s: %w", m.Server, err)
	}
	_ = s.Quit()
	return receipt, nil
}

// deliver hands the mail over and returns the server's word for it. Receivers
// the server does not know do not keep it from the others.
func (c *Channel) deliver(s *smtp.Client, text []byte) (string, error) {
	m := c.cfg.Email
	if err := s.Mail(address(m.From)); err != nil {
		return "", final(err)
	}
	var refused []error
	for _, to := range m.To {
		if err := s.Rcpt(address(to)); err != nil {
			refused = append(refused, fmt.Errorf("%s: %w", to, err))
		}
	}
	if len(refused) == len(m.To) {
		return "", final(errors.Join(refused...))
	}
	if err := s.Text.PrintfLine("DATA"); err != nil {
		return "", err
	}
	if _, _, err := s.Text.ReadResponse(354); err != nil {
		return "", final(err)
	}
	w := s.Text.DotWriter()
	if _, err := w.Write(text); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	code, said, err := s.Text.ReadResponse(250)
	if err != nil {
		return "", final(err)
	}
	receipt := fmt.Sprintf("%d %s", code, said)
	for _, err := range refused {
		receipt += "; not to " + err.Error()
	}
	return receipt, nil
}

// final marks what the server will never take: 5yz means "do not repeat this".
func final(err error) error {
	var said *textproto.Error
	if errors.As(err, &said) && said.Code >= 550 && said.Code <= 559 {
		return &refusedError{err}
	}
	return err
}

func address(s string) string {
	a, err := mail.ParseAddress(s)
	if err != nil {
		return s
	}
	return a.Address
}

// message is the mail as it travels. Mails about one subject are one thread.
func message(m *Email, id string, e event.Event, now time.Time) []byte {
	var b bytes.Buffer
	domain := "perdure"
	if _, d, ok := strings.Cut(address(m.From), "@"); ok {
		domain = d
	}
	thread := "<" + event.IDOf("thread", e.Cluster, e.Subject) + "@" + domain + ">"
	for _, h := range [][2]string{
		{"From", m.From},
		{"To", strings.Join(m.To, ", ")},
		{"Subject", mime.QEncoding.Encode("utf-8", headline(e))},
		{"Date", now.Format(time.RFC1123Z)},
		{"Message-ID", "<" + id + "@" + domain + ">"},
		{"In-Reply-To", thread},
		{"References", thread},
		{"Auto-Submitted", "auto-generated"},
		{"X-Perdure-Event", e.ID},
		{"X-Perdure-Kind", string(e.Kind)},
		{"X-Perdure-Severity", string(e.Severity)},
		{"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"},
		{"Content-Transfer-Encoding", "quoted-printable"},
	} {
		// A line break in a value would begin a header of somebody else's.
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], strings.NewReplacer("\r", " ", "\n", " ").Replace(h[1]))
	}
	b.WriteString("\r\n")
	q := quotedprintable.NewWriter(&b)
	_, _ = q.Write([]byte(strings.ReplaceAll(story(e), "\n", "\r\n")))
	_ = q.Close()
	return b.Bytes()
}
