package queue

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counters are what the parts of the queue count as they go.
type counters struct {
	accepted, acceptedBytes      atomic.Int64
	refused                      atomic.Int64
	applied, batches, duplicates atomic.Int64
	attempts, dead               atomic.Int64

	mu       sync.Mutex
	failures map[failureKey]int64
}

type failureKey struct {
	what   act
	number int
}

func (c *counters) failure(what act, number int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures == nil {
		c.failures = map[failureKey]int64{}
	}
	if len(c.failures) > 200 {
		number = 0
	}
	c.failures[failureKey{what, number}]++
}

func (a act) String() string {
	return [...]string{"reconnect", "again", "one by one", "halve", "known", "reject", "halt"}[a]
}

var (
	descAccepted   = prometheus.NewDesc("perdure_queue_accepted_writes_total", "Writes that are on disk in the log.", nil, nil)
	descBytes      = prometheus.NewDesc("perdure_queue_accepted_bytes_total", "Size of accepted writes.", nil, nil)
	descRefused    = prometheus.NewDesc("perdure_queue_refused_requests_total", "Requests that were refused.", nil, nil)
	descApplied    = prometheus.NewDesc("perdure_queue_applied_writes_total", "Writes that took effect in the database, by this node.", nil, nil)
	descBatches    = prometheus.NewDesc("perdure_queue_batches_total", "Transactions that applied writes.", nil, nil)
	descDuplicates = prometheus.NewDesc("perdure_queue_duplicate_writes_total", "Writes that came again and were left out.", nil, nil)
	descAttempts   = prometheus.NewDesc("perdure_queue_failed_attempts_total", "Attempts that failed by the write's own fault.", nil, nil)
	descDead       = prometheus.NewDesc("perdure_queue_dead_letters_total", "Writes that became dead letters.", nil, nil)
	descLetters    = prometheus.NewDesc("perdure_queue_dead_letters", "Dead letters that lie in the database, at most 10000.", nil, nil)
	descWaiting    = prometheus.NewDesc("perdure_queue_waiting_writes", "Writes that were read from the log and are not applied.", nil, nil)
	descUnread     = prometheus.NewDesc("perdure_queue_unread_frames", "Frames of the log that were not read yet; 0 means that waiting_writes is all.", nil, nil)
	descFailures   = prometheus.NewDesc("perdure_queue_batch_failures_total", "Batches that failed, by error number and what was done.", []string{"error", "action"}, nil)
	descBehind     = prometheus.NewDesc("perdure_queue_behind_frames", "Frames of the log that are not applied completely.", nil, nil)
	descAge        = prometheus.NewDesc("perdure_queue_oldest_age_seconds", "Age of the oldest write that is neither applied nor set aside.", nil, nil)
	descLogBytes   = prometheus.NewDesc("perdure_queue_log_bytes", "What the log holds.", nil, nil)
	descLogMax     = prometheus.NewDesc("perdure_queue_log_limit_bytes", "What the log may hold.", nil, nil)
	descHeld       = prometheus.NewDesc("perdure_queue_held_keys", "Keys that wait because a write of theirs failed.", nil, nil)
	descPaused     = prometheus.NewDesc("perdure_queue_held_back", "1 while applying is paused, halted or held.", nil, nil)
	descWorking    = prometheus.NewDesc("perdure_queue_applying", "1 while this node applies and reaches the database.", nil, nil)
)

// Describe implements prometheus.Collector.
func (s *Service) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descAccepted, descBytes, descRefused, descApplied, descBatches, descDuplicates, descAttempts, descDead,
		descLetters, descWaiting, descUnread, descFailures, descBehind, descAge, descLogBytes, descLogMax, descHeld, descPaused, descWorking,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Service) Collect(ch chan<- prometheus.Metric) {
	total := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	c := &s.count
	total(descAccepted, c.accepted.Load())
	total(descBytes, c.acceptedBytes.Load())
	total(descRefused, c.refused.Load())
	total(descApplied, c.applied.Load())
	total(descBatches, c.batches.Load())
	total(descDuplicates, c.duplicates.Load())
	total(descAttempts, c.attempts.Load())
	total(descDead, c.dead.Load())
	c.mu.Lock()
	for k, n := range c.failures {
		ch <- prometheus.MustNewConstMetric(descFailures, prometheus.CounterValue, float64(n), strconv.Itoa(k.number), k.what.String())
	}
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	st, err := s.Status(ctx)
	if err == nil {
		gauge(descLogBytes, float64(st.Log.Bytes))
		gauge(descLogMax, float64(st.Log.MaxBytes))
	}
	if st.Applying != nil {
		gauge(descBehind, float64(st.Applying.BehindFrames))
		gauge(descWaiting, float64(st.Applying.Waiting))
		gauge(descUnread, float64(st.Applying.Unread))
		if n := st.Applying.Letters; n != nil {
			gauge(descLetters, float64(*n))
		}
		gauge(descAge, st.Applying.OldestAge.Seconds())
		gauge(descHeld, float64(st.Applying.HeldKeys))
		gauge(descPaused, flag(len(st.Applying.HeldBack) > 0))
		gauge(descWorking, flag(st.Applying.Working))
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
