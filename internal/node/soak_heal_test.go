package node_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/perdure/perdure/internal/api"
	"github.com/perdure/perdure/internal/mysql/mysqld"
	"github.com/perdure/perdure/internal/mysqltest"
	"github.com/perdure/perdure/internal/node"
	"github.com/perdure/perdure/internal/topology"
	"github.com/perdure/perdure/internal/watch"
)

// Random faults under writers, schedule after schedule on one cluster, and a
// judge at the end of each: every acknowledged row is on every member exactly
// once, the members are equal, the cluster is whole, and nobody lent a hand.
//
//	PERDURE_SOAK_HEAL=schedules  PERDURE_SOAK_SECONDS=300 (of faults each)
//	PERDURE_SEED=n               repeats a run: schedule i has seed n+i
func TestHealingSoak(t *testing.T) {
	schedules, err := strconv.Atoi(os.Getenv("PERDURE_SOAK_HEAL"))
	if err != nil {
		t.Skip("set PERDURE_SOAK_HEAL to the number of schedules to run it")
	}
	seconds, err := strconv.Atoi(cmp.Or(os.Getenv("PERDURE_SOAK_SECONDS"), "300"))
	if err != nil {
		t.Fatal(err)
	}
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("PERDURE_SEED"), strconv.FormatInt(time.Now().UnixNano()%1_000_000_000, 10)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	w := newWhole(t, node.Options{Heal: true}, nil, mysqltest.ComesBack(3*time.Second))
	w.node.stop()
	s := &soak{t: t, whole: w, d: newDaemon(t, w, ""), eye: eye(t, w.three)}
	s.d.start()
	if _, err := s.d.client(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	for i := range schedules {
		if !s.schedule(seed+uint64(i), time.Duration(seconds)*time.Second) { //nolint:gosec // a count
			t.Fatalf("schedule %d of %d failed; repeat it with PERDURE_SOAK_HEAL=1 PERDURE_SEED=%d PERDURE_SOAK_SECONDS=%d", i+1, schedules, seed+uint64(i), seconds) //nolint:gosec // a count
		}
	}
	t.Logf("%d schedules of %d s from seed %d passed; the node was started %d times", schedules, seconds, seed, s.d.starts)
}

// soak is the cluster the faults happen to.
type soak struct {
	*whole
	t   *testing.T
	d   *daemon
	eye *watch.Watcher
	// later are faults that end by themselves.
	later sync.WaitGroup
}

// schedule plays one seed and judges.
func (s *soak) schedule(seed uint64, length time.Duration) bool {
	s.t.Helper()
	rng := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // it is to be repeated
	fmt.Fprintf(os.Stderr, "schedule with seed %d, %s of faults\n", seed, length)
	l := startLoad(s.t, s.rw, 8, 20*time.Millisecond)
	defer l.stop()
	began := time.Now()
	var did []string
	for {
		pause := time.Duration(1000+rng.IntN(14000)) * time.Millisecond
		if time.Since(began)+pause > length {
			break
		}
		time.Sleep(pause)
		what := s.strike(rng)
		did = append(did, fmt.Sprintf("%.0f s %s", time.Since(began).Seconds(), what))
		fmt.Fprintf(os.Stderr, "  %5.1f s  %s\n", time.Since(began).Seconds(), what)
	}
	s.later.Wait()
	healed := time.Now()
	ctx, cancel := context.WithTimeout(s.t.Context(), 4*time.Minute)
	defer cancel()
	v, err := s.eye.Until(ctx, func(v *topology.View) bool {
		for _, m := range v.Members {
			if !m.Writable {
				return false
			}
		}
		return allOnline(3)(v)
	})
	if err != nil {
		s.t.Errorf("seed %d: not whole after 4 minutes: %s; problems %v\nfaults: %s\n%s", seed, states(v), v.Problems, strings.Join(did, "; "), s.explain())
		return false
	}
	took := time.Since(healed)
	// Writers must get through again before they are stopped.
	at := l.now()
	for deadline := time.Now().Add(20 * time.Second); l.count(at, l.now()) < 20 && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
	}
	if l.count(at, l.now()) < 20 {
		s.t.Errorf("seed %d: whole, but writers do not get through\n%s", seed, s.explain())
	}
	if err := s.quiet(); err != nil {
		s.t.Errorf("seed %d: %v\n%s", seed, err, s.explain())
	}
	l.stop()
	n, _ := l.errors(0)
	fmt.Fprintf(os.Stderr, "  %d faults; whole %.1f s after the last ended; %d rows acknowledged, %d errors to clients\n", len(did), took.Seconds(), l.total(), n)
	sameEverywhere(s.t, s.three, nil)
	l.onEach(s.t, s.three)
	audited(s.t, s.eye, s.three)
	return !s.t.Failed()
}

// strike makes one random fault and says which.
func (s *soak) strike(rng *rand.Rand) string {
	i := rng.IntN(3)
	m, other := s.three[i], s.three[(i+1+rng.IntN(2))%3]
	for1 := time.Duration(500+rng.IntN(3500)) * time.Millisecond
	switch n := rng.IntN(100); {
	case n < 22:
		return "kill -9 " + m.Name() + s.killed(m)
	case n < 40:
		long := time.Duration(500+rng.IntN(14500)) * time.Millisecond
		return fmt.Sprintf("SIGSTOP %s for %.1f s%s", m.Name(), long.Seconds(), s.hung(m, long))
	case n < 52:
		return fmt.Sprintf("SIGTERM %s, down for %.1f s%s", m.Name(), for1.Seconds(), s.stopped(m, for1))
	case n < 62:
		return "kill -9 " + m.Name() + s.killed(m) + " and " + other.Name() + s.killed(other)
	case n < 68:
		return fmt.Sprintf("SIGSTOP %s for %.1f s%s and kill -9 %s%s", m.Name(), (3 * for1).Seconds(), s.hung(m, 3*for1), other.Name(), s.killed(other))
	case n < 73:
		text := "kill -9 of all"
		for _, m := range s.three {
			text += s.killed(m)
		}
		return text
	case n < 85:
		s.d.kill()
		time.Sleep(for1)
		s.d.start()
		return fmt.Sprintf("kill -9 of the node, away for %.1f s", for1.Seconds())
	case n < 92:
		return fmt.Sprintf("drain %s for %.1f s%s", m.Name(), (2 * for1).Seconds(), s.drained(m.Name(), 2*for1))
	}
	return "a restart of every member is asked for" + s.rolled()
}

func (s *soak) killed(m *mysqltest.Member) string {
	if err := m.Kill(mysqld.ComeBack); err != nil {
		return " (not: " + err.Error() + ")"
	}
	return ""
}

func (s *soak) hung(m *mysqltest.Member, long time.Duration) string {
	pid := m.PID()
	if pid == 0 {
		return " (not: it is down)"
	}
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	s.later.Go(func() { time.Sleep(long); _ = syscall.Kill(pid, syscall.SIGCONT) })
	return ""
}

// stopped shuts a server down in good order, as its host would, and starts it
// again. A server that is between two lives is left alone.
func (s *soak) stopped(m *mysqltest.Member, long time.Duration) string {
	if m.PID() == 0 {
		return " (not: it is down)"
	}
	s.later.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := m.Stop(ctx); err != nil {
			s.t.Errorf("stop %s: %v", m.Name(), err)
		}
		time.Sleep(long)
		if err := m.Start(ctx); err != nil && !strings.Contains(err.Error(), "running already") {
			s.t.Errorf("start %s: %v", m.Name(), err)
		}
	})
	return ""
}

func (s *soak) drained(member string, long time.Duration) string {
	cl, err := s.d.client(5 * time.Second)
	if err == nil {
		_, err = cl.Drain(s.t.Context(), member, 0)
	}
	if err != nil {
		return " (not: " + firstLine(err) + ")"
	}
	// Its end must not be lost with the node: it is asked for at the end again.
	s.later.Go(func() {
		time.Sleep(long)
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
			if cl.Undrain(s.t.Context(), member) == nil {
				return
			}
		}
	})
	return ""
}

func (s *soak) rolled() string {
	cl, err := s.d.client(5 * time.Second)
	if err == nil {
		_, err = cl.Group(s.t.Context(), "restart", api.Ask{})
	}
	if err != nil {
		return " (refused: " + firstLine(err) + ")"
	}
	return ""
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// quiet waits until no plan runs and nothing is asked.
func (s *soak) quiet() error {
	cl, err := s.d.client(30 * time.Second)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(300 * time.Millisecond) {
		ops, err := cl.Operations(s.t.Context(), 5)
		if err != nil {
			return err
		}
		running := slices.ContainsFunc(ops, func(o api.Operation) bool { return o.State == "running" || o.State == "undoing" })
		st, err := cl.Status(s.t.Context())
		if err == nil && !running && st.Level == "ok" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after three minutes status says %s: %s (%w)", st.Level, st.Summary, err)
		}
	}
}

// explain is what the node has to say.
func (s *soak) explain() string {
	var b strings.Builder
	if cl, err := s.d.client(5 * time.Second); err != nil {
		fmt.Fprintln(&b, err)
	} else {
		if st, err := cl.Status(s.t.Context()); err == nil {
			fmt.Fprintf(&b, "status %s: %s\n", st.Level, st.Summary)
		}
		if ops, err := cl.Operations(s.t.Context(), 4); err == nil {
			for _, o := range ops {
				fmt.Fprintf(&b, "%s %s: %s %s\n%s", o.ID, o.State, o.Title, o.Error, story(o))
			}
		}
	}
	fmt.Fprintln(&b, tail(s.d.log(), 80))
	return b.String()
}
