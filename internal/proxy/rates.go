package proxy

import (
	"net"
	"sync"
	"time"
)

// rates limits how fast one address may connect: a bucket of one second's worth.
type rates struct {
	perSecond float64
	mu        sync.Mutex
	buckets   map[string]*bucket
}

type bucket struct {
	left float64
	at   int64
}

func newRates(perSecond int) *rates {
	return &rates{perSecond: float64(perSecond), buckets: map[string]*bucket{}}
}

func (r *rates) allow(addr string) bool {
	if r.perSecond <= 0 {
		return true
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	now := clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.buckets[host]
	if b == nil {
		b = &bucket{left: r.perSecond, at: now}
		r.buckets[host] = b
	}
	b.left = min(r.perSecond, b.left+r.perSecond*time.Duration(now-b.at).Seconds())
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// prune forgets addresses whose bucket is full again.
func (r *rates) prune() {
	now := clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, b := range r.buckets {
		if now-b.at > int64(2*time.Second) {
			delete(r.buckets, k)
		}
	}
}
