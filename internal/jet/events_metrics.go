package jet

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	eventsStored  = prometheus.NewDesc("perdure_events_stored_total", "Events brought to disk by this node.", nil, nil)
	eventsDropped = prometheus.NewDesc("perdure_events_dropped_total", "Events lost because their store did not take them in time.", nil, nil)
	eventsWaiting = prometheus.NewDesc("perdure_events_waiting", "Events in memory that are not stored yet.", nil, nil)
	eventsOldest  = prometheus.NewDesc("perdure_events_waiting_seconds", "How long the oldest of them has waited.", nil, nil)
	eventsTrouble = prometheus.NewDesc("perdure_events_store_up", "1 if the newest attempt to store an event succeeded.", nil, nil)
)

// Describe implements prometheus.Collector.
func (v *Events) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(v, ch) }

// Collect implements prometheus.Collector. It asks nobody.
func (v *Events) Collect(ch chan<- prometheus.Metric) {
	s := v.Spooled()
	up := 1.0
	if v.Trouble() != nil {
		up = 0
	}
	ch <- prometheus.MustNewConstMetric(eventsStored, prometheus.CounterValue, float64(s.Stored))
	ch <- prometheus.MustNewConstMetric(eventsDropped, prometheus.CounterValue, float64(s.Dropped))
	ch <- prometheus.MustNewConstMetric(eventsWaiting, prometheus.GaugeValue, float64(s.Waiting))
	ch <- prometheus.MustNewConstMetric(eventsOldest, prometheus.GaugeValue, s.Oldest.Seconds())
	ch <- prometheus.MustNewConstMetric(eventsTrouble, prometheus.GaugeValue, up)
}

// Spooled says what waits in memory and what became of the rest.
func (v *Events) Spooled() Spooled { return v.spool.look(time.Now()) }
