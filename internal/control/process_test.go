package control

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perdure/perdure/internal/lease"
	"github.com/perdure/perdure/internal/state"
)

// childEnv makes the test binary run a node instead of tests, so that nodes
// can be killed and frozen like real ones.
const childEnv = "PERDURE_TEST_CONTROL_NODE"

func TestMain(m *testing.M) {
	if cfg := os.Getenv(childEnv); cfg != "" {
		os.Exit(child(cfg))
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "8") // these tests wait, they do not work
	os.Exit(m.Run())
}

// child is a node that runs until its standard input ends. It tells each term
// it gets, counts under the fence of its term, and writes every moment at
// which it trusted itself, as "epoch nanoseconds" of the machine's clock.
func child(config string) int {
	var cfg Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); cancel() }()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", cfg.Name)
	c, err := Open(ctx, cfg, log)
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	defer c.Close()
	fmt.Println("open")
	k, err := lease.New(c, lease.Config{Holder: cfg.Name, Reclaim: true}, log)
	if err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { _ = c.Run(ctx) })
	wg.Go(func() { _ = k.Run(ctx) })
	wg.Go(func() { bearWitness(ctx, k) })
	for {
		held, term, err := k.Hold(ctx)
		if err != nil {
			return 0
		}
		fmt.Println("leads", term.Epoch)
		act(held, c, term)
		fmt.Println("over", context.Cause(held))
	}
}

// act counts in a document, again and again, until held ends.
func act(held context.Context, c *Control, term lease.Term) {
	doc := state.NewDoc[acts](c, "acts")
	for held.Err() == nil {
		done, err := doc.Change(held, term.Fence(), func(a *acts) error {
			if last := len(a.Epochs) - 1; last < 0 || a.Epochs[last] != term.Epoch {
				a.Epochs = append(a.Epochs, term.Epoch)
			}
			a.Count++
			return nil
		})
		if err == nil {
			fmt.Println("did", done.Count)
		}
		select {
		case <-held.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// acts is what all nodes together did, in order.
type acts struct {
	Count  int
	Epochs []int64
}

func bearWitness(ctx context.Context, k *lease.Keeper) {
	for ctx.Err() == nil {
		// The clock is read first: a freeze between the two lines must not make
		// an old trust look new.
		at := machineClock()
		if term, ok := k.Term(); ok {
			fmt.Println("trusts", term.Epoch, at)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// machineClock is monotonic and the same for all processes of the machine.
func machineClock() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return now.Nano()
}

// process is a child as its test sees it.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer

	mu    sync.Mutex
	lines []string // all but those of bearWitness
	trust []trusted
	more  chan struct{} // closed and replaced at every line
	ended chan struct{}
}

// trusted is a moment at which a node trusted its term.
type trusted struct {
	epoch, at int64
	node      string
}

func spawn(t testing.TB, cfg Config) *process {
	t.Helper()
	b, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{name: cfg.Name, more: make(chan struct{}), ended: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(b))
	p.cmd.Stderr = t.Output()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(out)
	t.Cleanup(p.kill)
	return p
}

func (p *process) read(out io.Reader) {
	defer close(p.ended)
	for s := bufio.NewScanner(out); s.Scan(); {
		p.mu.Lock()
		line := s.Text()
		m := trusted{node: p.name}
		if n, _ := fmt.Sscanf(line, "trusts %d %d", &m.epoch, &m.at); n == 2 {
			p.trust = append(p.trust, m)
		} else {
			p.lines = append(p.lines, line)
		}
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
}

// says waits for a line that begins so, from the given line on, and returns
// the rest of it and the number of the next line.
func (p *process) says(ctx context.Context, t testing.TB, begin string, from int) (rest string, next int) {
	t.Helper()
	for {
		p.mu.Lock()
		for i := from; i < len(p.lines); i++ {
			if rest, ok := strings.CutPrefix(p.lines[i], begin); ok {
				p.mu.Unlock()
				return strings.TrimSpace(rest), i + 1
			}
		}
		more := p.more
		p.mu.Unlock()
		select {
		case <-more:
		case <-p.ended:
			t.Fatalf("%s ended and never said %q, but %q", p.name, begin, p.lines)
		case <-ctx.Done():
			t.Fatalf("%s does not say %q: %v", p.name, begin, context.Cause(ctx))
		}
	}
}

// did is the count of its last acknowledged act.
func (p *process) did() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range slices.Backward(p.lines) {
		var n int
		if got, _ := fmt.Sscanf(l, "did %d", &n); got == 1 {
			return n
		}
	}
	return 0
}

// said is the number of lines until now.
func (p *process) said() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.lines)
}

func (p *process) kill()   { p.signal(syscall.SIGKILL); <-p.ended; _ = p.cmd.Wait() }
func (p *process) freeze() { p.signal(syscall.SIGSTOP) }
func (p *process) thaw()   { p.signal(syscall.SIGCONT) }

// stop ends the process as a node ends.
func (p *process) stop() { _ = p.stdin.Close(); <-p.ended; _ = p.cmd.Wait() }

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, fmt.Errorf("not within %s", d))
	t.Cleanup(cancel)
	return ctx
}
