package watch

import "github.com/prometheus/client_golang/prometheus"

var (
	up = prometheus.NewDesc("perdure_member_up", "1 if the member answers us.", []string{"member"}, nil)
	// One series a member and state would be eight times nine; the state is a
	// label whose old value disappears.
	stateDesc = prometheus.NewDesc("perdure_member_state", "1 for the state the member is believed to be in.", []string{"member", "state"}, nil)
	writableD = prometheus.NewDesc("perdure_member_writable", "1 if a transaction sent now can commit there.", []string{"member"}, nil)
	queueDesc = prometheus.NewDesc("perdure_member_queue_transactions", "Certified transactions the member has not applied.", []string{"member"}, nil)
	lagDesc   = prometheus.NewDesc("perdure_member_lag_seconds", "Age of the transaction the member applies.", []string{"member"}, nil)
	lostDesc  = prometheus.NewDesc("perdure_member_conflicts_total", "Transactions that lost certification since the member joined.", []string{"member"}, nil)
	quorum    = prometheus.NewDesc("perdure_group_quorum", "1 if the group can commit.", nil, nil)
	tolerates = prometheus.NewDesc("perdure_group_tolerates_members", "Members that may fail before the group stops; -1 without quorum.", nil, nil)
	problemsD = prometheus.NewDesc("perdure_group_problems", "Problems that are known now.", nil, nil)
	viewDesc  = prometheus.NewDesc("perdure_view_number", "Number of the newest View.", nil, nil)
)

// Describe implements prometheus.Collector.
func (w *Watcher) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(w, ch) }

// Collect implements prometheus.Collector. Labels are bounded by the number of
// members.
func (w *Watcher) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	v := w.View()
	gauge(quorum, one(v.Quorum == "yes"))
	gauge(tolerates, float64(v.Tolerates()))
	gauge(problemsD, float64(len(v.Problems)))
	gauge(viewDesc, float64(v.Number))
	for _, m := range v.Members {
		gauge(up, one(m.Failure == "" && m.Report != nil), m.Name)
		gauge(stateDesc, 1, m.Name, string(m.State))
		gauge(writableD, one(m.Writable), m.Name)
		if m.Report != nil {
			gauge(queueDesc, float64(m.Report.Queue), m.Name)
			gauge(lagDesc, m.Report.Lag.Seconds(), m.Name)
			ch <- prometheus.MustNewConstMetric(lostDesc, prometheus.CounterValue, float64(m.Report.Conflicts), m.Name)
		}
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
