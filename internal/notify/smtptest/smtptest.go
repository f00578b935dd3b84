// Package smtptest is a mail server for tests: it speaks as much SMTP as a
// client needs and keeps what it is sent.
package smtptest

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
)

// Server is one mail server.
type Server struct {
	Addr     string
	Cert     tls.Certificate
	Implicit bool              // TLS from the start
	StartTLS bool              // it offers it
	Password string            // for the user "perdure"; "" asks nobody
	Refuse   map[string]string // command or address: the answer

	mu    sync.Mutex
	mails []Mail
	clear []string
}

// Mail is one it took.
type Mail struct {
	From   string
	To     []string
	Header mail.Header
	Body   string
	TLS    bool
	User   string
}

// Start runs a server, set up by edit, until the test ends.
func Start(t testing.TB, edit func(*Server)) *Server {
	t.Helper()
	s := &Server{Refuse: map[string]string{}}
	edit(s)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Addr = l.Addr().String()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer func() { _ = c.Close() }(); s.talk(c) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return s
}

func (s *Server) talk(c net.Conn) {
	config := &tls.Config{Certificates: []tls.Certificate{s.Cert}, MinVersion: tls.VersionTLS12}
	secure := s.Implicit
	if s.Implicit {
		c = tls.Server(c, config)
	}
	r := bufio.NewReader(c)
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(c, format+"\r\n", args...) }
	say("220 test ESMTP")
	var m Mail
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		if !secure {
			s.mu.Lock()
			s.clear = append(s.clear, line)
			s.mu.Unlock()
		}
		verb := strings.ToUpper(strings.SplitN(line, " ", 2)[0])
		if answer := s.Refuse[verb]; answer != "" {
			say("%s", answer)
			continue
		}
		switch verb {
		case "EHLO":
			say("250-test")
			if s.StartTLS && !secure {
				say("250-STARTTLS")
			}
			if s.Password != "" {
				say("250-AUTH PLAIN")
			}
			say("250 8BITMIME")
		case "STARTTLS":
			say("220 go ahead")
			tc := tls.Server(c, config)
			if tc.HandshakeContext(context.Background()) != nil {
				return
			}
			c, r, secure = tc, bufio.NewReader(tc), true
		case "AUTH":
			parts := strings.Fields(line)
			b, _ := base64.StdEncoding.DecodeString(parts[len(parts)-1])
			if string(b) != "\x00perdure\x00"+s.Password {
				say("535 5.7.8 wrong")
				continue
			}
			m.User = "perdure"
			say("235 welcome")
		case "MAIL":
			if s.Password != "" && m.User == "" {
				say("530 5.7.0 who are you")
				continue
			}
			m.From = between(line)
			say("250 ok")
		case "RCPT":
			if answer := s.Refuse[between(line)]; answer != "" {
				say("%s", answer)
				continue
			}
			m.To = append(m.To, between(line))
			say("250 ok")
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for {
				l, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if strings.TrimRight(l, "\r\n") == "." {
					break
				}
				text.WriteString(strings.TrimPrefix(l, "."))
			}
			parsed, err := mail.ReadMessage(strings.NewReader(text.String()))
			if err != nil {
				say("554 not a mail: %v", err)
				continue
			}
			body, _ := io.ReadAll(quotedprintable.NewReader(parsed.Body))
			m.Header, m.Body, m.TLS = parsed.Header, string(body), secure
			s.mu.Lock()
			s.mails = append(s.mails, m)
			s.mu.Unlock()
			m = Mail{User: m.User}
			say("250 2.0.0 queued as 4711")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func between(line string) string {
	_, rest, _ := strings.Cut(line, "<")
	inside, _, _ := strings.Cut(rest, ">")
	return inside
}

// Got is every mail it took.
func (s *Server) Got() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Mail(nil), s.mails...)
}

// Subject is the mail's, decoded.
func (m Mail) Subject() string {
	text, _ := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	return text
}

// Clear is every command that came without TLS.
func (s *Server) Clear() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.clear...)
}
