package alarm

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const (
	// longestRate is the longest window a rate may have.
	longestRate = 15 * time.Minute
	// sampleEvery is how far apart the samples for rates are kept: a rate over
	// a minute then still has a dozen.
	sampleEvery = 5 * time.Second
)

// sample is one series at one moment.
type sample struct {
	labels map[string]string
	value  float64
}

// samples are the metrics that rules name: now, and back to longestRate.
type samples struct {
	names map[string]bool // what to keep
	now   map[string][]sample
	at    time.Time
	past  []moment // the oldest first
	err   error    // why there is nothing now
}

type moment struct {
	at     time.Time
	series map[string][]sample
}

// take reads the metrics. Those that cannot be gathered are missing.
func (s *samples) take(from prometheus.Gatherer, now time.Time) {
	s.now, s.at, s.err = map[string][]sample{}, now, nil
	families, err := from.Gather() // what it could gather comes beside the error
	s.err = err
	for _, f := range families {
		s.keep(f)
	}
	if n := len(s.past); n == 0 || now.Sub(s.past[n-1].at) >= sampleEvery {
		s.past = append(s.past, moment{now, s.now})
	}
	first := 0
	for first < len(s.past)-1 && now.Sub(s.past[first+1].at) > longestRate {
		first++
	}
	s.past = slices.Delete(s.past, 0, first)
}

func (s *samples) keep(f *dto.MetricFamily) {
	name := f.GetName()
	put := func(name string, m *dto.Metric, value float64) {
		if !s.names[name] {
			return
		}
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		s.now[name] = append(s.now[name], sample{labels, value})
	}
	for _, m := range f.GetMetric() {
		switch {
		case m.Counter != nil:
			put(name, m, m.Counter.GetValue())
		case m.Gauge != nil:
			put(name, m, m.Gauge.GetValue())
		case m.Untyped != nil:
			put(name, m, m.Untyped.GetValue())
		case m.Histogram != nil:
			put(name+"_count", m, float64(m.Histogram.GetSampleCount()))
			put(name+"_sum", m, m.Histogram.GetSampleSum())
		case m.Summary != nil:
			put(name+"_count", m, float64(m.Summary.GetSampleCount()))
			put(name+"_sum", m, m.Summary.GetSampleSum())
		}
	}
}

// fit returns the series that have the labels.
func fit(all []sample, labels []map[string]any) []sample {
	var out []sample
next:
	for _, s := range all {
		for _, want := range labels {
			for name, value := range want {
				if s.labels[name] != fmt.Sprint(value) {
					continue next
				}
			}
		}
		out = append(out, s)
	}
	return out
}

// find returns at least one series, or says that there is none.
func (s *samples) find(name string, labels []map[string]any) ([]sample, error) {
	out := fit(s.now[name], labels)
	if len(out) == 0 {
		what := "there is no metric " + name
		if len(labels) > 0 {
			what += fmt.Sprintf(" with %v", labels[0])
		}
		return nil, &missingError{what}
	}
	// One of several that is not known must not hide behind the others.
	for _, s := range out {
		if math.IsNaN(s.value) {
			return nil, &missingError{fmt.Sprintf("%s of %v is not known", name, s.labels)}
		}
	}
	return out, nil
}

func (s *samples) known(name string, labels ...map[string]any) bool {
	return slices.ContainsFunc(fit(s.now[name], labels), func(s sample) bool { return !math.IsNaN(s.value) })
}

func (s *samples) one(name string, labels ...map[string]any) (float64, error) {
	found, err := s.find(name, labels)
	if err != nil {
		return 0, err
	}
	if len(found) > 1 {
		return 0, &missingError{fmt.Sprintf("%d series are called %s: say which, or take total, highest or lowest", len(found), name)}
	}
	return found[0].value, nil
}

func (s *samples) total(name string, labels ...map[string]any) (float64, error) {
	found, err := s.find(name, labels)
	sum := 0.0
	for _, f := range found {
		sum += f.value
	}
	return sum, err
}

func (s *samples) highest(name string, labels ...map[string]any) (float64, error) {
	found, err := s.find(name, labels)
	if err != nil {
		return 0, err
	}
	return slices.MaxFunc(found, bySize).value, nil
}

func (s *samples) lowest(name string, labels ...map[string]any) (float64, error) {
	found, err := s.find(name, labels)
	if err != nil {
		return 0, err
	}
	return slices.MinFunc(found, bySize).value, nil
}

func bySize(a, b sample) int {
	switch {
	case a.value < b.value:
		return -1
	case a.value > b.value:
		return 1
	}
	return 0
}

// rate is how much the counters that fit grow a second, over the window.
// A counter that was reset counts from zero.
func (s *samples) rate(name, window string, labels ...map[string]any) (float64, error) {
	w, err := time.ParseDuration(window)
	if err != nil || w <= 0 || w > longestRate {
		return 0, fmt.Errorf("a window is a duration up to %s, not %q", longestRate, window)
	}
	now, err := s.find(name, labels)
	if err != nil {
		return 0, err
	}
	from := s.at.Add(-w)
	first := -1
	for i, m := range s.past {
		if !m.at.After(from) {
			first = i
		}
	}
	if first < 0 {
		return 0, tooSoonError{}
	}
	grown := 0.0
	for _, n := range now {
		last, seen := 0.0, false
		for _, m := range append(slices.Clone(s.past[first:]), moment{s.at, map[string][]sample{name: {n}}}) {
			for _, then := range m.series[name] {
				if !equal(then.labels, n.labels) {
					continue
				}
				switch {
				case !seen: // where it began
				case then.value >= last:
					grown += then.value - last
				default:
					grown += then.value
				}
				last, seen = then.value, true
			}
		}
	}
	return grown / s.at.Sub(s.past[first].at).Seconds(), nil
}

func equal(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}
