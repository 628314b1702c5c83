// Package gather makes group commits larger: what is written together costs the same for
// one and for many, so a writer may wait for what it knows to be on its way.
//
// Rules. Nothing waits that is alone, or for fewer than are worth it; a wait ends when
// everything that is under way has come, and after a limit in any case.
//
// The audit log and the record of key serial numbers use it.
package gather

import (
	"sync/atomic"
	"time"
)

// Worth is how many requests have to be on their way for a writer to wait.
const Worth = 4

// Limit is how long it waits at most; [LongLimit] where Many requests are under way, each of
// which waits for the others anyway.
const (
	Limit     = time.Millisecond
	LongLimit = 4 * time.Millisecond
	Many      = 128
)

// Gate knows which requests are on their way to a queue. Its zero value is not ready:
// use [NewGate]. It is safe for concurrent use, [Gate.Wait] by one goroutine at a time.
type Gate struct {
	underway atomic.Int64
	whole    chan struct{} // room for one: all of them are in the queue
}

// NewGate returns a gate.
func NewGate() *Gate { return &Gate{whole: make(chan struct{}, 1)} }

// Begin says that a request has begun which will come to the queue. The function that it
// returns is called when the request has ended, whether or not it came.
func (g *Gate) Begin() (end func()) {
	g.underway.Add(1)
	return g.end
}

func (g *Gate) end() { g.underway.Add(-1) }

// Came says that the queue has so many entries now.
func (g *Gate) Came(queued int) {
	if int64(queued) < g.underway.Load() {
		return
	}
	select {
	case g.whole <- struct{}{}:
	default:
	}
}

// Worthwhile reports whether a writer that has so many entries in its queue should
// [Gate.Wait] for more. It is called while nothing can come to the queue.
func (g *Gate) Worthwhile(queued int) bool {
	select { // what an earlier wait has left
	case <-g.whole:
	default:
	}
	return g.underway.Load()-int64(queued) >= Worth
}

// Limit returns how long a wait may take now.
func (g *Gate) Limit() time.Duration {
	if g.underway.Load() >= Many {
		return LongLimit
	}
	return Limit
}

// Wait waits until everything has come, for at most limit, or until stop is closed.
func (g *Gate) Wait(limit time.Duration, stop <-chan struct{}) {
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-g.whole:
	case <-late.C:
	case <-stop:
	}
}
