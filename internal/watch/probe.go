package watch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/perdure/perdure/internal/mysql"
	"github.com/perdure/perdure/internal/topology"
)

// probe asks one server, over connections of its own.
type probe struct {
	open  Open
	now   chan struct{} // one token: ask at once
	fresh chan<- struct{}
	log   *slog.Logger

	mu    sync.Mutex
	obs   topology.Observation
	stats topology.Stats
}

func newProbe(in topology.Instance, open Open, fresh chan<- struct{}, log *slog.Logger) *probe {
	return &probe{open: open, now: make(chan struct{}, 1), fresh: fresh, log: log, obs: topology.Observation{Instance: in}}
}

func (p *probe) observation() topology.Observation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.obs
}

var errNoAnswer = errors.New("no answer within " + ProbeLimit.String())

// run asks at a steady pace until ctx ends. The pace counts from question to
// question, so a slow answer does not slow the rhythm down.
func (p *probe) run(ctx context.Context) {
	server, err := p.open(p.obs.Instance)
	if err != nil {
		p.failed(time.Now(), time.Now(), topology.Broken, err)
		<-ctx.Done()
		return
	}
	var all sync.WaitGroup
	defer func() { all.Wait(); _ = server.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all.Go(func() { p.count(ctx, server) })
	tick := time.NewTicker(ProbePause)
	defer tick.Stop()
	for {
		p.ask(ctx, server)
		select {
		case <-ctx.Done():
			return
		case <-p.now:
		case <-tick.C:
		}
	}
}

func (p *probe) ask(ctx context.Context, server *mysql.Server) {
	asked := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, ProbeLimit, errNoAnswer)
	defer cancel()
	report, err := server.Report(ctx)
	now := time.Now()
	switch {
	case err == nil:
		p.answered(asked, now, report)
	case context.Cause(ctx) != nil && !errors.Is(context.Cause(ctx), errNoAnswer): // we are told to stop
		return
	default:
		failure := mysql.FailureOf(err)
		if errors.Is(err, errNoAnswer) {
			failure = topology.Silent
		}
		if failure == topology.Refused {
			server.Forget() // another process, perhaps another version, comes next
		}
		p.failed(asked, now, failure, err)
	}
	select {
	case p.fresh <- struct{}{}:
	default:
	}
}

// count reads the member's statistics beside the probes: the server makes that
// wait while it joins or leaves a group, and a probe must not.
func (p *probe) count(ctx context.Context, server *mysql.Server) {
	tick := time.NewTicker(StatsPause)
	defer tick.Stop()
	for {
		limited, cancel := context.WithTimeout(ctx, statsLimit)
		st, err := server.Stats(limited)
		cancel()
		if err == nil {
			p.mu.Lock()
			p.stats = st
			p.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *probe) answered(asked, now time.Time, r *topology.Report) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Stats = p.stats
	p.obs.Report, p.obs.Heard = r, now
	p.obs.Failure, p.obs.Error = topology.Answers, ""
	p.obs.Failing, p.obs.Asked = time.Time{}, asked
}

func (p *probe) failed(asked, now time.Time, f topology.Failure, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.obs.Failure, p.obs.Error, p.obs.Asked = f, err.Error(), asked
	if p.obs.Failing.IsZero() {
		p.obs.Failing = now
	}
}
