package notify_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/notify"
	"github.com/perdure/perdure/internal/notify/smtptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topSecret = "s3cret-t0ken"

func secret(ref string) (string, error) {
	if ref == "env:TOKEN" {
		return topSecret, nil
	}
	return "", errors.New("the environment has no " + ref)
}

func crash() event.Event {
	e := event.New(event.MemberCrashed, "member/m3", "m3 went away: nothing listens at m3:3306\r\nBcc: evil@example.com").With("why", "ümläut")
	e.Cluster, e.Node = "shop", "n1"
	return e
}

func channel(t *testing.T, c notify.Config) *notify.Channel {
	t.Helper()
	c.Name = "test"
	ch, err := notify.New(c, secret)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// listener keeps what it is sent and answers as it is told.
type listener struct {
	*httptest.Server
	mu      sync.Mutex
	status  int
	answer  string
	headers []http.Header
	bodies  [][]byte
}

func listen(t *testing.T) *listener {
	t.Helper()
	l := &listener{status: 202, answer: "thanks"}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.headers, l.bodies = append(l.headers, r.Header), append(l.bodies, b)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(l.status)
		_, _ = io.WriteString(w, l.answer)
	}))
	t.Cleanup(l.Close)
	return l
}

func isFinal(err error) bool {
	var f interface{ Final() string }
	return errors.As(err, &f)
}

func TestAWebhookIsASignedCloudEvent(t *testing.T) {
	t.Parallel()
	l := listen(t)
	c := channel(t, notify.Config{Webhook: &notify.Webhook{URL: l.URL, Secret: "env:TOKEN", Headers: map[string]string{"Authorization": "env:TOKEN", "X-Plain": "yes"}}})
	e := crash()
	receipt, err := c.Attempt(t.Context(), "task-1", 1, e)
	if err != nil || receipt != "HTTP 202 Accepted thanks" {
		t.Fatalf("%q, %v", receipt, err)
	}
	h, body := l.headers[0], l.bodies[0]
	if h.Get("Content-Type") != event.ContentType || h.Get("webhook-id") != "task-1" || h.Get("Authorization") != topSecret || h.Get("X-Plain") != "yes" {
		t.Errorf("headers %v", h)
	}
	var back event.Event
	if err := json.Unmarshal(body, &back); err != nil || back.ID != e.ID || back.Facts["why"] != "ümläut" {
		t.Errorf("body %s, %v", body, err)
	}
	now := time.Now()
	if err := notify.Verify(topSecret, h, body, now); err != nil {
		t.Errorf("its own signature: %v", err)
	}
	if err := notify.Verify("other", h, body, now); !errors.Is(err, notify.ErrSignature) {
		t.Errorf("with another secret: %v", err)
	}
	if err := notify.Verify(topSecret, h, append(body, ' '), now); !errors.Is(err, notify.ErrSignature) {
		t.Errorf("with another body: %v", err)
	}
	if err := notify.Verify(topSecret, h, body, now.Add(6*time.Minute)); !errors.Is(err, notify.ErrTimestamp) {
		t.Errorf("replayed after six minutes: %v", err)
	}
}

// TestTheSignatureIsTheSpecificationsExample compares with the test vector of
// the Standard Webhooks specification.
func TestTheSignatureIsTheSpecificationsExample(t *testing.T) {
	t.Parallel()
	got := notify.Sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("signature %s", got)
	}
}

func TestWhatAReceiverAnswersCounts(t *testing.T) {
	t.Parallel()
	l := listen(t)
	c := channel(t, notify.Config{Webhook: &notify.Webhook{URL: l.URL + "/" + topSecret}})
	for _, x := range []struct {
		status int
		ok     bool
		final  bool
	}{{200, true, false}, {204, true, false}, {302, false, false}, {400, false, true}, {404, false, false}, {410, false, true}, {429, false, false}, {500, false, false}, {503, false, false}} {
		l.status, l.answer = x.status, strings.Repeat("z", 4000)
		if x.status == 204 {
			l.answer = ""
		}
		receipt, err := c.Attempt(t.Context(), "t", 1, crash())
		if (err == nil) != x.ok || isFinal(err) != x.final || len(receipt) > 700 {
			t.Errorf("%d: receipt of %d bytes, %v, final %v", x.status, len(receipt), err, isFinal(err))
		}
		if err != nil && strings.Contains(err.Error(), topSecret) {
			t.Errorf("the error shows the URL: %v", err)
		}
	}
	if n := len(l.bodies); n != 9 {
		t.Errorf("%d requests for nine attempts: a redirect was followed", n)
	}
	l.Close()
	if _, err := c.Attempt(t.Context(), "t", 1, crash()); err == nil || isFinal(err) || strings.Contains(err.Error(), topSecret) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestAReceiverThatHangsIsLeft(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, cfg := range []notify.Config{
		{Webhook: &notify.Webhook{URL: "http://" + l.Addr().String()}},
		{Email: &notify.Email{Server: l.Addr().String(), From: "a@b.c", To: []string{"d@e.f"}}},
		{Email: &notify.Email{Server: l.Addr().String(), TLS: "tls", From: "a@b.c", To: []string{"d@e.f"}}},
	} {
		cfg.Timeout = event.Duration(200 * time.Millisecond)
		c := channel(t, cfg)
		begin := time.Now()
		if _, err := c.Attempt(t.Context(), "t", 1, crash()); err == nil || time.Since(begin) > 5*time.Second {
			t.Errorf("%s: %v after %s", c.Kind(), err, time.Since(begin))
		}
	}
}

// certificate makes one for 127.0.0.1, and the file of its authority.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestMailGoesOverTLS(t *testing.T) {
	t.Parallel()
	cert, ca := certificate(t)
	for _, mode := range []string{"", "tls"} {
		s := smtptest.Start(t, func(s *smtptest.Server) {
			s.Cert, s.StartTLS, s.Implicit, s.Password = cert, mode == "", mode == "tls", topSecret
		})
		c := channel(t, notify.Config{Email: &notify.Email{
			Server: s.Addr, TLS: mode, CA: ca, User: "perdure", Password: "env:TOKEN", From: "Perdure <perdure@example.com>", To: []string{"ops@example.com", "Anna <anna@example.com>"},
		}})
		e := crash()
		receipt, err := c.Attempt(t.Context(), "task-1", 1, e)
		if err != nil || receipt != "250 2.0.0 queued as 4711" {
			t.Fatalf("mode %q: %q, %v", mode, receipt, err)
		}
		m := s.Got()[0]
		if !m.TLS || m.User != "perdure" || m.From != "perdure@example.com" || fmt.Sprint(m.To) != "[ops@example.com anna@example.com]" {
			t.Errorf("mode %q: %+v", mode, m)
		}
		if m.Header.Get("Message-Id") != "<task-1@example.com>" || m.Header.Get("Bcc") != "" || !strings.HasPrefix(m.Subject(), "[shop] CRITICAL member.crashed: m3 went away") {
			t.Errorf("mode %q: headers %v", mode, m.Header)
		}
		if !strings.Contains(m.Body, "ümläut") || !strings.Contains(m.Body, e.ID) {
			t.Errorf("mode %q: body %s", mode, m.Body)
		}
		for _, line := range s.Clear() {
			if strings.Contains(line, "AUTH") || strings.Contains(line, "MAIL") {
				t.Errorf("mode %q: in clear: %s", mode, line)
			}
		}
	}
}

func TestMailIsNotSentInClearUnlessThatIsAskedFor(t *testing.T) {
	t.Parallel()
	s := smtptest.Start(t, func(*smtptest.Server) {})
	cfg := notify.Email{Server: s.Addr, From: "a@example.com", To: []string{"b@example.com"}}
	if _, err := channel(t, notify.Config{Email: &cfg}).Attempt(t.Context(), "t", 1, crash()); err == nil || !strings.Contains(err.Error(), "STARTTLS") || len(s.Got()) != 0 {
		t.Errorf("without STARTTLS: %v, %d mails", err, len(s.Got()))
	}
	cfg.TLS = "none"
	if _, err := channel(t, notify.Config{Email: &cfg}).Attempt(t.Context(), "t", 1, crash()); err != nil || len(s.Got()) != 1 {
		t.Errorf("asked for: %v, %d mails", err, len(s.Got()))
	}
	cert, _ := certificate(t)
	s = smtptest.Start(t, func(s *smtptest.Server) { s.Cert, s.StartTLS = cert, true })
	cfg = notify.Email{Server: s.Addr, From: "a@example.com", To: []string{"b@example.com"}} // an authority nobody knows
	if _, err := channel(t, notify.Config{Email: &cfg}).Attempt(t.Context(), "t", 1, crash()); err == nil || len(s.Got()) != 0 {
		t.Errorf("with a certificate nobody knows: %v, %d mails", err, len(s.Got()))
	}
}

func TestWhatAMailServerAnswersCounts(t *testing.T) {
	t.Parallel()
	for _, x := range []struct {
		name, key, answer string
		final, delivered  bool
	}{
		{"a receiver it does not know", "b@example.com", "550 5.1.1 no such user", false, true},
		{"a sender it does not want", "MAIL", "550 5.7.1 go away", true, false},
		{"it is busy", "MAIL", "451 4.3.0 later", false, false},
		{"it does not take the text", "DATA", "554 5.6.0 no", true, false},
	} {
		s := smtptest.Start(t, func(s *smtptest.Server) { s.Refuse[x.key] = x.answer })
		c := channel(t, notify.Config{Email: &notify.Email{Server: s.Addr, TLS: "none", From: "a@example.com", To: []string{"b@example.com", "c@example.com"}}})
		receipt, err := c.Attempt(t.Context(), "t", 1, crash())
		if isFinal(err) != x.final || (err == nil) != x.delivered {
			t.Errorf("%s: %q, %v", x.name, receipt, err)
		}
		if x.delivered && !strings.Contains(receipt, "not to b@example.com") {
			t.Errorf("%s: the receipt hides who did not get it: %q", x.name, receipt)
		}
	}
}

func TestSlackAndPagerDuty(t *testing.T) {
	t.Parallel()
	l := listen(t)
	url := l.URL + "/services/" + topSecret
	read := func(string) (string, error) { return url, nil }
	slack, err := notify.New(notify.Config{Name: "s", Slack: &notify.Slack{URL: "env:TOKEN"}}, read)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slack.Attempt(t.Context(), "t", 1, crash()); err != nil {
		t.Fatal(err)
	}
	var text struct{ Text string }
	if err := json.Unmarshal(l.bodies[0], &text); err != nil || !strings.HasPrefix(text.Text, ":red_circle: [shop] CRITICAL") {
		t.Errorf("slack got %s, %v", l.bodies[0], err)
	}
	pager := channel(t, notify.Config{PagerDuty: &notify.PagerDuty{Key: "env:TOKEN", URL: l.URL}})
	alarm := func(kind event.Kind) event.Event {
		e := event.New(kind, "alarm/lag/m3", "m3 is behind")
		e.Cluster, e.Member, e.Severity = "shop", "m3", event.Warning
		return e
	}
	for i, x := range []struct {
		e      event.Event
		action string
	}{{alarm(event.AlarmFiring), "trigger"}, {alarm(event.AlarmAcked), "acknowledge"}, {alarm(event.AlarmResolved), "resolve"}, {event.New(event.MemberRejoined, "member/m3", ""), "resolve"}} {
		if _, err := pager.Attempt(t.Context(), "t", 1, x.e); err != nil {
			t.Fatal(err)
		}
		var p struct {
			Key     string `json:"routing_key"`
			Action  string `json:"event_action"`
			Dedup   string `json:"dedup_key"`
			Payload *struct{ Summary, Source, Severity string }
		}
		if err := json.Unmarshal(l.bodies[i+1], &p); err != nil || p.Key != topSecret || p.Action != x.action || p.Dedup != "perdure/"+x.e.Cluster+"/"+x.e.Subject {
			t.Errorf("pagerduty got %s, %v", l.bodies[i+1], err)
		}
		if x.action == "trigger" && (p.Payload == nil || p.Payload.Source != "shop/m3" || p.Payload.Severity != "warning") {
			t.Errorf("pagerduty got %s", l.bodies[i+1])
		}
	}
}

func TestTheOtherServicesAreReachedWithoutShowingTheirSecrets(t *testing.T) {
	t.Parallel()
	l := listen(t)
	l.status = 200
	host := strings.TrimPrefix(l.URL, "http://")
	for _, x := range []struct {
		url string
		ok  bool
	}{
		{"generic://" + host + "/hook?disabletls=yes&template=json&@Authorization=" + topSecret, true},
		{"generic://127.0.0.1:1/" + topSecret + "?disabletls=yes", false},
		{"discord://" + topSecret, false},
		{"nosuch://" + topSecret, false},
	} {
		c, err := notify.New(notify.Config{Name: "x", Service: &notify.Service{URL: "env:TOKEN"}}, func(string) (string, error) { return x.url, nil })
		if err != nil {
			t.Fatal(err)
		}
		receipt, err := c.Attempt(t.Context(), "t", 1, crash())
		if (err == nil) != x.ok || (err != nil && strings.Contains(err.Error(), topSecret)) {
			t.Errorf("%s: %q, %v", x.url, receipt, err)
		}
	}
	if len(l.bodies) != 1 || !strings.Contains(string(l.bodies[0]), "m3 went away") {
		t.Errorf("the service got %q", l.bodies)
	}
}

func TestMistakesInChannelsAreNamed(t *testing.T) {
	t.Parallel()
	err := notify.Check([]notify.Config{
		{Name: "A"},
		{Name: "b", Webhook: &notify.Webhook{URL: "http://example.com", Secret: "plain"}},
		{Name: "b", Email: &notify.Email{Server: "x", From: "y", TLS: "z", User: "u", Password: "plain"}},
		{Name: "c", Slack: &notify.Slack{URL: "https://hooks.slack.com/x"}, PagerDuty: &notify.PagerDuty{Key: "k"}},
	})
	for _, want := range []string{"notify[0].name", "notify[0].A: a channel is of exactly one kind", "notify[1].webhook.url", "without TLS", "notify[1].webhook.secret", "two channels are called b", "email.server", "email.tls", "email.password", "email.to", "slack.url", "pagerduty.key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("lacks %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hooks.slack.com") {
		t.Error("the message shows a secret")
	}
}

func TestASecretThatIsMissingIsAnAttemptThatFailed(t *testing.T) {
	t.Parallel()
	l := listen(t)
	c := channel(t, notify.Config{Webhook: &notify.Webhook{URL: l.URL, Secret: "env:NOTHING"}})
	if _, err := c.Attempt(context.Background(), "t", 1, crash()); err == nil || isFinal(err) || len(l.bodies) != 0 {
		t.Errorf("%v, %d requests", err, len(l.bodies))
	}
}
