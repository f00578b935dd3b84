package consistency

import (
	"context"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	descRunning = prometheus.NewDesc("perdure_consistency_running", "1 while an audit runs, on whichever node.", nil, nil)
	descLast    = prometheus.NewDesc("perdure_consistency_last_end_seconds", "When the newest audit came to its end, as Unix time; 0: there was none.", nil, nil)
	descDiffer  = prometheus.NewDesc("perdure_consistency_differing_tables", "Tables in which members differ as far as audits know; different GTID sets count as one.", nil, nil)
	descRows    = prometheus.NewDesc("perdure_consistency_rows_total", "Rows that this node compared.", nil, nil)
)

// Describe implements prometheus.Collector.
func (a *Audits) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descRunning, descLast, descDiffer, descRows} {
		to <- d
	}
}

// Collect implements prometheus.Collector. It reads memory only.
func (a *Audits) Collect(to chan<- prometheus.Metric) {
	a.mu.Lock()
	s := a.seen
	a.mu.Unlock()
	last := 0.0
	if !s.last.IsZero() {
		last = float64(s.last.Unix())
	}
	to <- prometheus.MustNewConstMetric(descRunning, prometheus.GaugeValue, float64(s.running))
	to <- prometheus.MustNewConstMetric(descLast, prometheus.GaugeValue, last)
	to <- prometheus.MustNewConstMetric(descDiffer, prometheus.GaugeValue, float64(s.differ))
	to <- prometheus.MustNewConstMetric(descRows, prometheus.CounterValue, float64(a.rows.Load()))
}

// follow keeps what metrics need in memory, on every node, until ctx ends.
func (a *Audits) follow(ctx context.Context) {
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() {
		for o := range a.open.Watch(ctx) {
			a.mu.Lock()
			a.seen.differ = len(o.Tables)
			a.mu.Unlock()
		}
	})
	running := map[string]bool{}
	for e := range a.Store.Watch(ctx, auditPrefix) {
		x, there := decode[Audit](e)
		id := strings.TrimPrefix(e.Key, auditPrefix)
		if running[id] = there && !x.State.Over(); !running[id] {
			delete(running, id)
		}
		a.mu.Lock()
		a.seen.running = min(len(running), 1)
		if x.State == Done && x.Ended.After(a.seen.last) {
			a.seen.last = x.Ended
		}
		a.mu.Unlock()
	}
}
