package notify_test

import (
	"bufio"
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

// mailServer speaks as much SMTP as it takes.
type mailServer struct {
	addr     string
	cert     tls.Certificate
	implicit bool // TLS from the start
	startTLS bool
	password string            // for the user "perdure"; "" asks nobody
	refuse   map[string]string // command or address: the answer

	mu    sync.Mutex
	mails []received
	clear []string // commands that came without TLS
}

type received struct {
	from   string
	to     []string
	header mail.Header
	body   string
	tls    bool
	user   string
}

func newMailServer(t *testing.T, edit func(*mailServer)) *mailServer {
	t.Helper()
	s := &mailServer{refuse: map[string]string{}}
	edit(s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
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

func (s *mailServer) talk(c net.Conn) {
	config := &tls.Config{Certificates: []tls.Certificate{s.cert}, MinVersion: tls.VersionTLS12}
	secure := s.implicit
	if s.implicit {
		c = tls.Server(c, config)
	}
	r := bufio.NewReader(c)
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(c, format+"\r\n", args...) }
	say("220 test ESMTP")
	var m received
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
		if answer := s.refuse[verb]; answer != "" {
			say("%s", answer)
			continue
		}
		switch verb {
		case "EHLO":
			say("250-test")
			if s.startTLS && !secure {
				say("250-STARTTLS")
			}
			if s.password != "" {
				say("250-AUTH PLAIN")
			}
			say("250 8BITMIME")
		case "STARTTLS":
			say("220 go ahead")
			tc := tls.Server(c, config)
			if tc.Handshake() != nil {
				return
			}
			c, r, secure = tc, bufio.NewReader(tc), true
		case "AUTH":
			parts := strings.Fields(line)
			b, _ := base64.StdEncoding.DecodeString(parts[len(parts)-1])
			if string(b) != "\x00perdure\x00"+s.password {
				say("535 5.7.8 wrong")
				continue
			}
			m.user = "perdure"
			say("235 welcome")
		case "MAIL":
			if s.password != "" && m.user == "" {
				say("530 5.7.0 who are you")
				continue
			}
			m.from = between(line)
			say("250 ok")
		case "RCPT":
			if answer := s.refuse[between(line)]; answer != "" {
				say("%s", answer)
				continue
			}
			m.to = append(m.to, between(line))
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
			m.header, m.body, m.tls = parsed.Header, string(body), secure
			s.mu.Lock()
			s.mails = append(s.mails, m)
			s.mu.Unlock()
			m = received{user: m.user}
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

func (s *mailServer) got() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.mails...)
}

func subjectOf(m received) string {
	text, _ := new(mime.WordDecoder).DecodeHeader(m.header.Get("Subject"))
	return text
}
