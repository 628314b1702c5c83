// Package turns lets one request at a time in this process do something about a thing that has a name.
// Nothing durable depends on it: other processes have turns of their own.
package turns

import (
	"context"
	"slices"
	"sync"
)

// Turns are those of things by their names. The zero value is ready, and safe for concurrent use.
type Turns struct {
	mu sync.Mutex
	of map[string]*turn
}

// turn is of one thing, as long as somebody has it or waits for it.
type turn struct {
	free chan struct{} // holds one value while nobody has it
	want int           // who has it, and who waits
}

// Take waits for the turn of all that are named, and returns what ends it. Its error is ctx's. Whoever
// has a turn waits for no other, unless all do so in one order.
func (t *Turns) Take(ctx context.Context, names ...string) (end func(), err error) {
	names = slices.Clone(names)
	slices.Sort(names) // in one order, so that two never wait for each other
	var ends []func()
	end = func() {
		for _, e := range slices.Backward(ends) {
			e()
		}
	}
	for _, name := range slices.Compact(names) {
		e, err := t.take(ctx, name)
		if err != nil {
			end()
			return nil, err
		}
		ends = append(ends, e)
	}
	return end, nil
}

func (t *Turns) take(ctx context.Context, name string) (end func(), err error) {
	t.mu.Lock()
	if t.of == nil {
		t.of = make(map[string]*turn)
	}
	mine := t.of[name]
	if mine == nil {
		mine = &turn{free: make(chan struct{}, 1)}
		mine.free <- struct{}{}
		t.of[name] = mine
	}
	mine.want++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.want--; mine.want == 0 {
			delete(t.of, name)
		}
	}
	select {
	case <-mine.free:
		return func() { mine.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
