package web

import (
	"net/netip"
	"sync"
	"time"
)

// rate is how often something may happen: so many at once, and then so many in a second.
type rate struct {
	burst  float64
	second float64
}

// The rates. A page is one connection, or six of HTTP/1.1, and some ten requests, of which one asks the
// backend. Many phones share an address where networks translate them: tries of a PIN or a code are counted
// where they are spent, and not here.
//
// A handshake costs more than all that is read. Those of all together leave the processor to the switches,
// which the same process serves: 100 are a tenth of one core with a certificate's key of RSA 2048, and
// less than that on P-256.
var (
	connectionsOfOne = rate{burst: 100, second: 10}
	connectionsOfAll = rate{burst: 1000, second: 100}

	requestsOfOne = rate{burst: 120, second: 20} // whatever comes of them
	asksOfOne     = rate{burst: 30, second: 2}
	asksOfAll     = rate{burst: 300, second: 150}
)

// share is which part of what there is for all one network has, see [networkOf].
const share = 4

// sharing holds each address to a rate, and all together to another, of which one network has its share.
type sharing struct{ one, network, all *limiter }

func newSharing(one, all rate) *sharing {
	return &sharing{newLimiter(one), newLimiter(rate{all.burst / share, all.second / share}), newLimiter(all)}
}

// allow reports whether an address may.
func (s *sharing) allow(a netip.Addr) bool {
	return s.one.allow(a) && s.network.allow(networkOf(a)) && s.all.allow(netip.Addr{})
}

// maxBuckets bounds the memory for addresses: some 8 MB for each limiter, of which a front has five.
const maxBuckets = 1 << 16

// bucket is what is left of a rate.
type bucket struct {
	left float64
	at   time.Time
}

// take takes one, if there is one.
func (b *bucket) take(r rate, now time.Time) bool {
	b.left = min(r.burst, b.left+now.Sub(b.at).Seconds()*r.second)
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// limiter holds addresses to a rate each.
type limiter struct {
	rate rate

	lock    sync.Mutex
	buckets map[netip.Addr]*bucket
	rest    bucket // of all who come when there is no room
	swept   time.Time
}

func newLimiter(r rate) *limiter {
	return &limiter{rate: r, buckets: map[netip.Addr]*bucket{}, rest: bucket{left: r.burst, at: time.Now()}}
}

// allow reports whether an address may.
func (l *limiter) allow(a netip.Addr) bool {
	l.lock.Lock()
	defer l.lock.Unlock()
	now := time.Now()
	b := l.buckets[a]
	if b == nil {
		l.sweep(now)
		if len(l.buckets) >= maxBuckets {
			return l.rest.take(l.rate, now)
		}
		b = &bucket{left: l.rate.burst, at: now}
		l.buckets[a] = b
	}
	return b.take(l.rate, now)
}

// sweep forgets who has everything back, when there is no room: at most once in a second, since it
// looks at all.
func (l *limiter) sweep(now time.Time) {
	if len(l.buckets) < maxBuckets || now.Sub(l.swept) < time.Second {
		return
	}
	l.swept = now
	for a, b := range l.buckets {
		if b.left+now.Sub(b.at).Seconds()*l.rate.second >= l.rate.burst {
			delete(l.buckets, a)
		}
	}
}
