package rule

import (
	"maps"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	attemptsDesc = prometheus.NewDesc("perdure_deliveries_total", "Attempts to bring an event to a channel or hook, by what became of the task.", []string{"target", "state"}, nil)
	secondsDesc  = prometheus.NewDesc("perdure_deliveries_seconds_total", "Time the attempts took.", []string{"target"}, nil)
	overflowDesc = prometheus.NewDesc("perdure_deliveries_overflow_total", "Events that were not brought there because too many were waiting.", []string{"target"}, nil)
	failingDesc  = prometheus.NewDesc("perdure_deliveries_failing_seconds", "How long a channel or hook has been failing; 0 if it does not.", []string{"target"}, nil)
)

// stats are this node's counters. Labels are bounded by the configuration.
type stats struct {
	mu       sync.Mutex
	attempts map[[2]string]float64
	seconds  map[string]float64
	lost     map[string]float64
	since    map[string]time.Time
}

func (s *stats) attempted(target string, took time.Duration, st State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attempts == nil {
		s.attempts, s.seconds = map[[2]string]float64{}, map[string]float64{}
	}
	s.attempts[[2]string{target, string(st)}]++
	s.seconds[target] += took.Seconds()
}

func (s *stats) overflow(target string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost == nil {
		s.lost = map[string]float64{}
	}
	s.lost[target]++
}

func (s *stats) failing(target string, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since == nil {
		s.since = map[string]time.Time{}
	}
	s.since[target] = since
}

// forget is for a node that leads no longer: it knows nothing of the targets.
func (s *stats) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.since)
}

// Describe implements prometheus.Collector.
func (r *Rules) Describe(ch chan<- *prometheus.Desc) {
	ch <- attemptsDesc
	ch <- secondsDesc
	ch <- overflowDesc
	ch <- failingDesc
}

// Collect implements prometheus.Collector.
func (r *Rules) Collect(ch chan<- prometheus.Metric) {
	s := &r.stats
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, n := range s.attempts {
		ch <- prometheus.MustNewConstMetric(attemptsDesc, prometheus.CounterValue, n, k[0], k[1])
	}
	for k, n := range s.seconds {
		ch <- prometheus.MustNewConstMetric(secondsDesc, prometheus.CounterValue, n, k)
	}
	for k, n := range s.lost {
		ch <- prometheus.MustNewConstMetric(overflowDesc, prometheus.CounterValue, n, k)
	}
	for k, since := range maps.All(s.since) {
		failing := 0.0
		if !since.IsZero() {
			failing = time.Since(since).Seconds()
		}
		ch <- prometheus.MustNewConstMetric(failingDesc, prometheus.GaugeValue, failing, k)
	}
}
