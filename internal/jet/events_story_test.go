package jet_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/control"
	"github.com/perdure/perdure/internal/event"
	"github.com/perdure/perdure/internal/hook"
	"github.com/perdure/perdure/internal/jet"
	"github.com/perdure/perdure/internal/lease"
	"github.com/perdure/perdure/internal/notify"
	"github.com/perdure/perdure/internal/rule"
	"github.com/perdure/perdure/internal/state"
)

// TestEveryPromisedEventReachesItsReceiverThroughKill9 is the whole way: a node
// with its stores on disk publishes, is killed at any moment and started again;
// the receiver gets every event it was promised, in order for each subject, and
// knows those that come twice by their id.
func TestEveryPromisedEventReachesItsReceiverThroughKill9(t *testing.T) {
	if testing.Short() {
		t.Skip("it kills a node again and again")
	}
	t.Parallel()
	in := newInbox(t)
	dir := t.TempDir()
	rounds := 6
	if n, err := strconv.Atoi(os.Getenv("PERDURE_SOAK")); err == nil {
		rounds = n
	}
	promised := map[string]int{}
	begin := time.Now()
	for round := range rounds {
		n := round
		if round == rounds-1 {
			n = -1 // it publishes no more, and may finish
		}
		runNode(t, dir, in, n, promised, round)
	}
	total := 0
	for subject, n := range promised {
		total += n
		if in.last(subject) < n {
			t.Errorf("%s: %d events were promised, %d arrived", subject, n, in.last(subject))
		}
	}
	b, _ := os.ReadFile(filepath.Join(dir, "hooked"))
	hooked := strings.Fields(string(b))
	t.Logf("%d rounds in %s: %d events promised, %d arrived, %d of them twice; %d runs of the hook", rounds,
		time.Since(begin).Round(time.Second), total, in.count(), in.twice(), len(hooked))
	if total < 50 {
		t.Errorf("only %d events were promised", total)
	}
	if len(hooked) == 0 {
		t.Error("the hook never ran")
	}
	for _, text := range in.wrong() {
		t.Error(text)
	}
}

// inbox is a receiver of webhooks.
type inbox struct {
	*httptest.Server
	mu     sync.Mutex
	ids    map[string]int
	newest map[string]int
	bad    []string
}

const hookSecret = "shared"

func newInbox(t *testing.T) *inbox {
	in := &inbox{ids: map[string]int{}, newest: map[string]int{}}
	in.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var e event.Event
		err := json.Unmarshal(body, &e)
		if err == nil {
			err = notify.Verify(hookSecret, r.Header, body, time.Now())
		}
		in.mu.Lock()
		defer in.mu.Unlock()
		if err != nil {
			in.bad = append(in.bad, err.Error())
			return
		}
		if in.ids[r.Header.Get("webhook-id")]++; in.ids[r.Header.Get("webhook-id")] > 1 {
			return
		}
		n, _ := strconv.Atoi(e.Text)
		if n != in.newest[e.Subject]+1 {
			in.bad = append(in.bad, fmt.Sprintf("%s: %d came after %d", e.Subject, n, in.newest[e.Subject]))
		}
		in.newest[e.Subject] = n
	}))
	t.Cleanup(in.Close)
	return in
}

func (in *inbox) last(subject string) int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.newest[subject]
}
func (in *inbox) count() int      { in.mu.Lock(); defer in.mu.Unlock(); return len(in.ids) }
func (in *inbox) wrong() []string { in.mu.Lock(); defer in.mu.Unlock(); return in.bad }

func (in *inbox) twice() (n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, times := range in.ids {
		n += times - 1
	}
	return n
}

// runNode runs a node until it is killed, or, with publish < 0, until what was
// promised has arrived.
func runNode(t *testing.T, dir string, in *inbox, publish int, promised map[string]int, round int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestNodeProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "PERDURE_TEST_NODE="+dir, "PERDURE_TEST_TO="+in.URL, "PERDURE_TEST_PUBLISH="+strconv.Itoa(publish))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(60*time.Second, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	if publish < 0 {
		done := func() bool {
			for subject, n := range promised {
				if in.last(subject) < n {
					return false
				}
			}
			return true
		}
		for limit := time.Now().Add(50 * time.Second); !done() && time.Now().Before(limit); {
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Second) // nothing more must come
		_ = cmd.Process.Kill()
	}
	first := true
	for lines := bufio.NewScanner(out); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) == 3 && words[0] == "promised" {
			if first {
				kill.Reset(time.Duration(300+170*(round%6)) * time.Millisecond)
				first = false
			}
			promised[words[1]], _ = strconv.Atoi(words[2])
		}
	}
	_ = cmd.Wait()
}

// TestNodeProcess is the node that is killed.
func TestNodeProcess(t *testing.T) {
	dir := os.Getenv("PERDURE_TEST_NODE")
	if dir == "" {
		t.Skip("it is run by another test")
	}
	quiet := slog.New(slog.DiscardHandler)
	store, err := control.Open(t.Context(), control.Config{Dir: filepath.Join(dir, "control")}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := lease.New(store, lease.Config{Holder: "n1", Reclaim: true}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, jet.Config{Dir: filepath.Join(dir, "jet")})
	v, _ := events(t, s, jet.EventsConfig{})
	secret := func(string) (string, error) { return hookSecret, nil }
	to, err := notify.New(notify.Config{Name: "in", Webhook: &notify.Webhook{URL: os.Getenv("PERDURE_TEST_TO"), Secret: "env:X"}}, secret)
	if err != nil {
		t.Fatal(err)
	}
	hooked := filepath.Join(dir, "hooked")
	run, err := hook.New(hook.Config{Name: "note", Action: "note"}, hook.Needs{Secret: secret, Actions: map[string]hook.Action{
		"note": func(_ context.Context, id string, _ event.Event, _ map[string]string) (string, error) {
			f, err := os.OpenFile(hooked, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
			if err != nil {
				return "", err
			}
			_, err = fmt.Fprintln(f, id)
			return "noted", err
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := rule.New(rule.Needs{
		Rules: []rule.Rule{
			{Name: "all", Match: event.Matcher{Kinds: []string{"member.*"}}, Notify: []string{"in"}, Flap: rule.Flap{Limit: 10000}},
			{Name: "some", Match: event.Matcher{Members: []string{"m1"}, Kinds: []string{"member.*"}}, Hooks: []string{"note"}},
		},
		Channels: map[string]rule.Place{"in": {Target: to}}, Hooks: map[string]rule.Place{"note": {Target: run}},
		Node: "n1", Cluster: "shop", Store: store, Source: v, To: v, Log: quiet,
		Hold: func(ctx context.Context) (context.Context, state.Fence, error) {
			held, term, err := keeper.Hold(ctx)
			return held, term.Fence(), err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = keeper.Run(context.Background()) }()
	go func() { _ = r.Run(context.Background()) }()
	if os.Getenv("PERDURE_TEST_PUBLISH") == "-1" {
		select {} // until it is killed
	}
	next := map[string]int{}
	if found, err := v.List(t.Context(), jet.Query{Match: event.Matcher{Kinds: []string{"member.*"}}, Limit: 10000}); err == nil {
		for _, s := range found {
			next[s.Event.Subject], _ = strconv.Atoi(s.Event.Text)
		}
	}
	for {
		for i := range 24 { // some bursts are stored as a batch, some are not
			subject := []string{"member/m1", "member/m2"}[i%2]
			next[subject]++
			v.Publish(numbered(subject, next[subject]))
			if i > 3 && next[subject]%3 == 0 {
				break
			}
		}
		settle(t, v)
		for subject, n := range next {
			fmt.Printf("promised %s %d\n", subject, n)
		}
		time.Sleep(5 * time.Millisecond) // in bursts
	}
}

// box keeps what it is sent.
type box struct {
	*httptest.Server
	mu   sync.Mutex
	text []string
}

func newBox(t *testing.T) *box {
	b := &box{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.text = append(b.text, string(body))
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *box) has(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.text {
		if strings.Contains(s, text) {
			return true
		}
	}
	return false
}
