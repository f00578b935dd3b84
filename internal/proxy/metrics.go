package proxy

import (
	"math/bits"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are counted with plain atomics; Prometheus sees them when it asks.
type metrics struct {
	accepted, rejected, loginFailures   atomic.Int64
	errors, conflicts, retries, reruns  atomic.Int64
	moves, losses, holds, holding, shed atomic.Int64
	prepares, timeouts, slow            atomic.Int64
	replays, differing, settled         atomic.Int64
	byMode                              [3]histogram
	pins                                [32]atomic.Int64
}

func newMetrics() *metrics { return &metrics{} }

// histogram counts durations by powers of two from 16 µs to 8 min.
type histogram struct {
	buckets [26]atomic.Uint64
	sum     atomic.Int64
}

const firstBucket = 14 // 2^14 ns

func (h *histogram) add(ns int64) {
	i := min(max(bits.Len64(uint64(ns))-firstBucket, 0), len(h.buckets)-1)
	h.buckets[i].Add(1)
	h.sum.Add(ns)
}

func modeIndex(m Mode) int {
	switch m {
	case ReadOnly:
		return 1
	case Split:
		return 2
	}
	return 0
}

func (m *metrics) observe(mode Mode, ns int64) { m.byMode[modeIndex(mode)].add(ns) }

func (m *metrics) pinned(p pins) {
	for i := range m.pins {
		if p&(1<<i) != 0 {
			m.pins[i].Add(1)
		}
	}
}

var (
	descLatency  = prometheus.NewDesc("perdure_proxy_request_seconds", "Time from a request to the end of its answer.", []string{"listener"}, nil)
	descSessions = prometheus.NewDesc("perdure_proxy_sessions", "Client sessions, by the member they sit on.", []string{"member"}, nil)
	descPool     = prometheus.NewDesc("perdure_proxy_server_connections", "Server connections.", []string{"member", "state"}, nil)
	descDials    = prometheus.NewDesc("perdure_proxy_server_connections_opened_total", "Server connections opened.", []string{"member", "result"}, nil)
	descBorrowed = prometheus.NewDesc("perdure_proxy_server_connections_reused_total", "Sessions that got a pooled connection.", []string{"member"}, nil)
	descPinned   = prometheus.NewDesc("perdure_proxy_pinned_sessions", "Sessions that cannot move, by reason.", []string{"reason"}, nil)
	descPins     = prometheus.NewDesc("perdure_proxy_pins_total", "Times a session was pinned, by reason.", []string{"reason"}, nil)
	descCounter  = func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("perdure_proxy_"+name, help, nil, nil)
	}
)

type counter struct {
	desc *prometheus.Desc
	get  func(*metrics) *atomic.Int64
}

var counters = []counter{
	{descCounter("connections_total", "Clients accepted."), func(m *metrics) *atomic.Int64 { return &m.accepted }},
	{descCounter("connections_rejected_total", "Clients turned away before sign-in."), func(m *metrics) *atomic.Int64 { return &m.rejected }},
	{descCounter("login_failures_total", "Sign-ins that failed."), func(m *metrics) *atomic.Int64 { return &m.loginFailures }},
	{descCounter("errors_total", "Errors passed to clients."), func(m *metrics) *atomic.Int64 { return &m.errors }},
	{descCounter("conflicts_total", "Transactions that lost certification or a deadlock."), func(m *metrics) *atomic.Int64 { return &m.conflicts }},
	{descCounter("retries_total", "Autocommit statements tried again after a conflict."), func(m *metrics) *atomic.Int64 { return &m.retries }},
	{descCounter("reruns_total", "Requests run again on another member."), func(m *metrics) *atomic.Int64 { return &m.reruns }},
	{descCounter("replays_total", "Open transactions run again on another member, after theirs was lost."), func(m *metrics) *atomic.Int64 { return &m.replays }},
	{descCounter("replays_given_up_total", "Open transactions that could not be run again: an answer was not the same, or there was no member."), func(m *metrics) *atomic.Int64 { return &m.differing }},
	{descCounter("outcomes_found_total", "Commits that were not answered and whose outcome was found out."), func(m *metrics) *atomic.Int64 { return &m.settled }},
	{descCounter("moves_total", "Sessions moved to another member."), func(m *metrics) *atomic.Int64 { return &m.moves }},
	{descCounter("losses_total", "Server connections lost under a session."), func(m *metrics) *atomic.Int64 { return &m.losses }},
	{descCounter("holds_total", "Requests that had to wait for a member."), func(m *metrics) *atomic.Int64 { return &m.holds }},
	{descCounter("shed_total", "Requests refused because too many were waiting."), func(m *metrics) *atomic.Int64 { return &m.shed }},
	{descCounter("reprepares_total", "Statements prepared again after a move."), func(m *metrics) *atomic.Int64 { return &m.prepares }},
	{descCounter("timeouts_total", "Statements stopped by the query timeout."), func(m *metrics) *atomic.Int64 { return &m.timeouts }},
	{descCounter("slow_total", "Slow statements."), func(m *metrics) *atomic.Int64 { return &m.slow }},
}

var descHolding = descCounter("holding", "Requests waiting for a member now.")

// Describe implements prometheus.Collector.
func (p *Proxy) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descLatency, descSessions, descPool, descDials, descBorrowed, descPinned, descPins, descHolding} {
		ch <- d
	}
	for _, c := range counters {
		ch <- c.desc
	}
}

// Collect implements prometheus.Collector.
func (p *Proxy) Collect(ch chan<- prometheus.Metric) {
	for _, c := range counters {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(c.get(p.m).Load()))
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descHolding, float64(p.m.holding.Load()))
	for _, mode := range []Mode{ReadWrite, ReadOnly, Split} {
		h := &p.m.byMode[modeIndex(mode)]
		buckets := map[float64]uint64{}
		var n uint64
		for i := range h.buckets {
			n += h.buckets[i].Load()
			if i < len(h.buckets)-1 {
				buckets[float64(uint64(1)<<(firstBucket+i))/1e9] = n
			}
		}
		ch <- prometheus.MustNewConstHistogram(descLatency, n, float64(h.sum.Load())/1e9, buckets, string(mode))
	}
	on := map[string]int{}
	for _, s := range p.list() {
		name := ""
		if b := s.att.Load(); b != nil {
			name = b.seat.name
		}
		on[name]++
	}
	for name, n := range on {
		gauge(descSessions, float64(n), name)
	}
	for reason, n := range p.Pins() {
		gauge(descPinned, float64(n), reason)
	}
	for i, name := range pinNames {
		ch <- prometheus.MustNewConstMetric(descPins, prometheus.CounterValue, float64(p.m.pins[i].Load()), name)
	}
	for _, st := range p.seatList() {
		st.mu.Lock()
		open, idle := st.open, 0
		for _, list := range st.idle {
			idle += len(list)
		}
		st.mu.Unlock()
		gauge(descPool, float64(open), st.name, "open")
		gauge(descPool, float64(idle), st.name, "idle")
		count := func(d *prometheus.Desc, v int64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
		}
		count(descDials, st.dials.Load(), st.name, "ok")
		count(descDials, st.fails.Load(), st.name, "failed")
		count(descBorrowed, st.borrowed.Load(), st.name)
	}
}
