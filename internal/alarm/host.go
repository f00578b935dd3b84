package alarm

import (
	"crypto/x509"
	"encoding/pem"
	"math"
	"os"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	freeRatio = prometheus.NewDesc("perdure_disk_free_ratio", "Free share of the file system a directory of this node is on.", []string{"path"}, nil)
	freeBytes = prometheus.NewDesc("perdure_disk_free_bytes", "Free bytes of the file system a directory of this node is on.", []string{"path"}, nil)
	expires   = prometheus.NewDesc("perdure_certificate_expires_seconds", "How long a certificate this node uses is valid.", []string{"file"}, nil)
)

// Host measures what this node's alarms need to know about its machine. What
// cannot be measured is exported as NaN, and so an alarm: were it left out, the
// others would look as if they were all.
type Host struct {
	Dirs         []string // directories whose disks matter
	Certificates []string // PEM files; of several certificates in one, the first to expire counts
}

// Describe implements prometheus.Collector.
func (h Host) Describe(ch chan<- *prometheus.Desc) {
	ch <- freeRatio
	ch <- freeBytes
	ch <- expires
}

// Collect implements prometheus.Collector.
func (h Host) Collect(ch chan<- prometheus.Metric) {
	for _, dir := range h.Dirs {
		var fs syscall.Statfs_t
		ratio, free := math.NaN(), math.NaN()
		if syscall.Statfs(dir, &fs) == nil && fs.Blocks > 0 {
			ratio, free = float64(fs.Bavail)/float64(fs.Blocks), float64(fs.Bavail)*float64(fs.Bsize)
		}
		ch <- prometheus.MustNewConstMetric(freeRatio, prometheus.GaugeValue, ratio, dir)
		ch <- prometheus.MustNewConstMetric(freeBytes, prometheus.GaugeValue, free, dir)
	}
	for _, file := range h.Certificates {
		left := math.NaN()
		if end, ok := firstEnd(file); ok {
			left = time.Until(end).Seconds()
		}
		ch <- prometheus.MustNewConstMetric(expires, prometheus.GaugeValue, left, file)
	}
}

// firstEnd is when the first certificate in a file expires.
func firstEnd(file string) (end time.Time, ok bool) {
	b, err := os.ReadFile(file) //nolint:gosec // the configuration names it
	if err != nil {
		return end, false
	}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err == nil && (end.IsZero() || cert.NotAfter.Before(end)) {
			end, ok = cert.NotAfter, true
		}
	}
	return end, ok
}
