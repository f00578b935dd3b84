package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	infoDesc   = prometheus.NewDesc("perdure_node_info", "1; the labels say which program runs here.", []string{"cluster", "node", "version"}, nil)
	leadsDesc  = prometheus.NewDesc("perdure_node_leads", "1 if this node holds the lease: it heals, evaluates alarms and tells.", nil, nil)
	ageDesc    = prometheus.NewDesc("perdure_view_age_seconds", "How old the newest View of the members is.", nil, nil)
	driftDesc  = prometheus.NewDesc("perdure_settings_drift", "Settings that differ between members, as the node that leads found them.", nil, nil)
	pausedDesc = prometheus.NewDesc("perdure_automation_paused_seconds", "How long the automation has been paused; 0 if it is not. Only the node that leads exports it.", nil, nil)
	planDesc   = prometheus.NewDesc("perdure_change_running_seconds", "How long the running change has been running; 0 if none is. Only the node that leads exports it.", nil, nil)
	auditDesc  = prometheus.NewDesc("perdure_audit_failures_total", "Entries that could not be written into the audit log.", nil, nil)
)

// measure is what a node says about itself.
type measure struct {
	node    *Node
	version string
}

// Describe implements prometheus.Collector.
func (m measure) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{infoDesc, leadsDesc, ageDesc, driftDesc, pausedDesc, planDesc, auditDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m measure) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	n, now := m.node, time.Now()
	gauge(infoDesc, 1, n.file.Cluster, n.file.Node.Name, m.version)
	if at := n.watch.View().At; !at.IsZero() {
		gauge(ageDesc, now.Sub(at).Seconds())
	}
	ch <- prometheus.MustNewConstMetric(auditDesc, prometheus.CounterValue, float64(n.audit.Failures()))
	_, leads := n.lease.Term()
	if !leads {
		gauge(leadsDesc, 0)
		return
	}
	gauge(leadsDesc, 1)
	gauge(driftDesc, float64(n.drift.Load()))
	if f := n.notice.last.Load(); f != nil {
		gauge(pausedDesc, age(f.Paused, now))
		gauge(planDesc, age(f.Plan, now))
	}
}

func age(since, now time.Time) float64 {
	if since.IsZero() {
		return 0
	}
	return now.Sub(since).Seconds()
}
