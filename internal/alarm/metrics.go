package alarm

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	onDesc  = prometheus.NewDesc("perdure_alarm_on", "1 for every alarm that is on. Only the node that leads exports it.", []string{"alarm", "member", "state", "severity"}, nil)
	ageDesc = prometheus.NewDesc("perdure_alarm_evaluation_age_seconds", "How long ago this node evaluated the alarms; -1 if it does not lead.", nil, nil)
)

// Describe implements prometheus.Collector.
func (a *Alarms) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(a, ch) }

// Collect implements prometheus.Collector. Labels are bounded by rules and members.
func (a *Alarms) Collect(ch chan<- prometheus.Metric) {
	age := -1.0
	if at := a.evaluated.Load(); at != nil {
		age = time.Since(*at).Seconds()
	}
	ch <- prometheus.MustNewConstMetric(ageDesc, prometheus.GaugeValue, age)
	if on := a.firing.Load(); on != nil {
		for _, st := range *on {
			ch <- prometheus.MustNewConstMetric(onDesc, prometheus.GaugeValue, 1, st.Rule, st.Member, string(st.State), string(st.Severity))
		}
	}
}
