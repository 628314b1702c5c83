package voids

import (
	"context"
	"sync"
	"time"
)

// poll is how long a watcher waits before it looks at the database: another front may have changed
// the void.
const poll = 500 * time.Millisecond

// watchers are who waits for a change of a void in this process.
type watchers struct {
	mu sync.Mutex
	of map[string]map[chan struct{}]bool
}

func (w *watchers) add(id string) chan struct{} {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.of == nil {
		w.of = make(map[string]map[chan struct{}]bool)
	}
	if w.of[id] == nil {
		w.of[id] = make(map[chan struct{}]bool)
	}
	w.of[id][c] = true
	return c
}

func (w *watchers) remove(id string, c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.of[id], c); len(w.of[id]) == 0 {
		delete(w.of, id)
	}
}

// changed wakes those who wait for a void.
func (w *watchers) changed(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.of[id] {
		select {
		case c <- struct{}{}:
		default: // it is about to look
		}
	}
}

// Watcher waits for changes of one void.
type Watcher struct {
	service *Service
	id      string
	woken   chan struct{}
}

// Watch begins to wait for changes of a void. The caller closes what it returns.
func (s *Service) Watch(id string) *Watcher { return &Watcher{s, id, s.watchers.add(id)} }

// Close ends the waiting.
func (w *Watcher) Close() { w.service.watchers.remove(w.id, w.woken) }

// Next returns nil when the void is at another version than the given one or its time is over, whoever
// has changed it on whichever front. Errors are refusals, and ctx's error.
func (w *Watcher) Next(ctx context.Context, version uint64) error {
	look := time.NewTicker(poll)
	defer look.Stop()
	for {
		r, err := w.service.Store.Void(ctx, w.id)
		if err != nil {
			return refused(ctx, err)
		}
		if r.Version != version || due(&r, w.service.now()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.woken:
		case <-look.C:
		}
	}
}
