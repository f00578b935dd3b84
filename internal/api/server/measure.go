package server

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	requestsDesc = prometheus.NewDesc("perdure_api_requests_total", "Requests to the API, by route and by the class of the answer's status.", []string{"route", "status"}, nil)
	secondsDesc  = prometheus.NewDesc("perdure_api_request_seconds_total", "Time the answers took; streams count until they end.", []string{"route"}, nil)
)

// counts are the API's measures. Labels are bounded by the routes: whatever a
// stranger asks for that is none of them is one series.
type counts struct {
	mu      sync.Mutex
	answers map[[2]string]float64
	seconds map[string]float64
}

// handler counts what the server answers, and traces it where that is wanted.
func (s *Server) handler() http.Handler {
	name := func(r *http.Request) string {
		if _, pattern := s.mux.Handler(r); pattern != "" {
			return pattern
		}
		return "none"
	}
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		seen := &status{ResponseWriter: w, code: http.StatusOK}
		s.ServeHTTP(seen, r)
		s.counts.add(name(r), seen.code, time.Since(began))
	})
	if s.Traced != nil {
		h = s.Traced(h, name)
	}
	return h
}

func (c *counts) add(route string, code int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers == nil {
		c.answers, c.seconds = map[[2]string]float64{}, map[string]float64{}
	}
	c.answers[[2]string{route, strconv.Itoa(code/100) + "xx"}]++
	c.seconds[route] += took.Seconds()
}

// status remembers the status of an answer.
type status struct {
	http.ResponseWriter
	code  int
	wrote bool
}

func (s *status) WriteHeader(code int) {
	if !s.wrote && code >= http.StatusOK {
		s.code, s.wrote = code, true
	}
	s.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	ch <- requestsDesc
	ch <- secondsDesc
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	c := &s.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range c.answers {
		ch <- prometheus.MustNewConstMetric(requestsDesc, prometheus.CounterValue, n, k[0], k[1])
	}
	for k, n := range c.seconds {
		ch <- prometheus.MustNewConstMetric(secondsDesc, prometheus.CounterValue, n, k)
	}
}
