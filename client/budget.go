package client

import "sync"

// budget bounds repeats over time: each takes one, and every ten calls that are answered
// give one back. In an outage nothing is answered, so calls soon are sent once only.
type budget struct {
	mu    sync.Mutex
	most  int // in tenths, like saved
	saved int
}

// perRepeat is how many answered calls earn a repeat.
const perRepeat = 10

func newBudget(repeats int) *budget {
	return &budget{most: repeats * perRepeat, saved: repeats * perRepeat}
}

func (b *budget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saved = min(b.saved+1, b.most)
}

// spend takes a repeat, if there is one.
func (b *budget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.saved < perRepeat {
		return false
	}
	b.saved -= perRepeat
	return true
}
