package ksn

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"keyd/store"
)

// receiptKeys makes a new receipt key in time, and deletes the old ones.
//
// A key is used for one window at most, and is replaced after three quarters of it, so
// that a store that fails for a moment stops nobody. It is deleted after two windows:
// a receipt can be read for one window at least.
type receiptKeys struct {
	store  store.Counters
	window time.Duration
	clock  func() time.Time

	turn     chan struct{} // held by whoever changes what follows
	deleting []uint64      // keys whose deletion did not end well
	keys     atomic.Pointer[[]*receiptKey]
	used     atomic.Bool // whether the newest key was used
}

func newReceiptKeys(s store.Counters, window time.Duration, clock func() time.Time) *receiptKeys {
	k := &receiptKeys{store: s, window: window, clock: clock, turn: make(chan struct{}, 1)}
	k.keys.Store(&[]*receiptKey{})
	return k
}

// current returns the key for a new receipt.
func (k *receiptKeys) current(ctx context.Context) (*receiptKey, error) {
	if key := k.newest(k.window); key != nil {
		if !k.used.Load() {
			k.used.Store(true)
		}
		return key, nil
	}
	if err := k.lock(ctx); err != nil {
		return nil, err
	}
	defer k.unlock()
	if key := k.newest(k.window); key != nil {
		return key, nil // another caller made it
	}
	if err := k.rotate(ctx); err != nil {
		return nil, err
	}
	k.used.Store(true)
	return k.newest(k.window), nil
}

// find returns a key that can still open receipts, and nil if there is none.
func (k *receiptKeys) find(ctx context.Context, id uint64) (*receiptKey, error) {
	if key := k.held(id); key != nil {
		return key, nil
	}
	if err := k.lock(ctx); err != nil {
		return nil, err
	}
	defer k.unlock()
	// It may be another process's, or that of this one before it started again.
	if err := k.load(ctx); err != nil {
		return nil, err
	}
	return k.held(id), nil
}

// tend makes a new key if the current one is used and has had most of its time, and
// deletes those that have had all of it.
func (k *receiptKeys) tend(ctx context.Context) error {
	if err := k.lock(ctx); err != nil {
		return err
	}
	defer k.unlock()
	// Nothing is written while nobody comes: the next one makes the key.
	if k.used.Load() && k.newest(k.window*3/4) == nil {
		if err := k.rotate(ctx); err != nil {
			return err
		}
	}
	now := k.clock()
	if len(k.deleting) > 0 || slices.ContainsFunc(*k.keys.Load(), func(key *receiptKey) bool { return k.expired(now, key.created) }) {
		return k.sweep(ctx)
	}
	return nil
}

// sweep deletes the keys that have had their time, of other processes too. The caller
// has the turn.
func (k *receiptKeys) sweep(ctx context.Context) error {
	stored, err := k.store.ReceiptKeys(ctx)
	if err != nil {
		return fmt.Errorf("ksn: delete old receipt keys: %w", err)
	}
	now := k.clock()
	keep := make([]*receiptKey, 0, len(stored)+1)
	expire := func(id uint64) {
		if !slices.Contains(k.deleting, id) {
			k.deleting = append(k.deleting, id)
		}
	}
	for _, key := range *k.keys.Load() {
		if k.expired(now, key.created) {
			expire(key.id)
			continue
		}
		keep = append(keep, key)
	}
	for i, key := range stored {
		clear(stored[i].Key[:])
		known := func(own *receiptKey) bool { return own.id == key.ID }
		if !slices.ContainsFunc(keep, known) && k.expired(now, key.CreatedAt) {
			expire(key.ID)
		}
	}
	k.keys.Store(&keep)
	// A key may be gone from its table and not yet from the files: all are deleted
	// again until that ends well.
	if err := k.store.DeleteReceiptKeys(ctx, k.deleting...); err != nil {
		return fmt.Errorf("ksn: delete old receipt keys: %w", err)
	}
	k.deleting = nil
	return nil
}

// rotate makes a new key and makes it durable. The caller has the turn.
func (k *receiptKeys) rotate(ctx context.Context) error {
	key := store.ReceiptKey{ID: randomID(), CreatedAt: k.clock()}
	rand.Read(key.Key[:]) // never fails
	defer clear(key.Key[:])
	if err := k.store.AddReceiptKey(ctx, key); err != nil {
		return fmt.Errorf("ksn: make a new receipt key: %w", err)
	}
	k.add(newReceiptKey(&key, true))
	k.used.Store(false)
	return nil
}

// load takes over keys from the store. The caller has the turn.
func (k *receiptKeys) load(ctx context.Context) error {
	stored, err := k.store.ReceiptKeys(ctx)
	if err != nil {
		return fmt.Errorf("ksn: read receipt keys: %w", err)
	}
	for i := range stored {
		known := func(own *receiptKey) bool { return own.id == stored[i].ID }
		if !slices.ContainsFunc(*k.keys.Load(), known) {
			k.add(newReceiptKey(&stored[i], false))
		}
		clear(stored[i].Key[:])
	}
	return nil
}

func (k *receiptKeys) add(key *receiptKey) {
	keys := append(slices.Clone(*k.keys.Load()), key)
	k.keys.Store(&keys)
}

// newest returns the last key that this process made, if it is younger than limit. Of
// the clocks of others it believes nothing.
func (k *receiptKeys) newest(limit time.Duration) *receiptKey {
	for _, key := range slices.Backward(*k.keys.Load()) {
		if key.own {
			if age := k.age(k.clock(), key.created); age >= 0 && age < limit {
				return key
			}
			return nil
		}
	}
	return nil
}

// held returns a key in memory that can still open receipts, or nil.
func (k *receiptKeys) held(id uint64) *receiptKey {
	for _, key := range *k.keys.Load() {
		if key.id == id && !k.expired(k.clock(), key.created) {
			return key
		}
	}
	return nil
}

// expired is also true for a key from the future: a clock that was set back must not
// let it live for ever. The clocks of processes that share a database differ a little,
// and none may delete a key that another has just made.
func (k *receiptKeys) expired(now, created time.Time) bool {
	age := k.age(now, created)
	return age >= 2*k.window || age < -k.window/4
}

// age is the longer of the times that the monotonic clock and the calendar tell, since
// the first stands still while a machine sleeps. For a key of another process there is
// only the calendar.
func (k *receiptKeys) age(now, created time.Time) time.Duration {
	return max(now.Sub(created), now.Round(0).Sub(created.Round(0)))
}

func (k *receiptKeys) lock(ctx context.Context) error {
	select {
	case k.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *receiptKeys) unlock() { <-k.turn }

// randomID returns a number that no two processes share but by a negligible chance;
// the store refuses one that is taken.
func randomID() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return max(1, binary.BigEndian.Uint64(b[:])&math.MaxInt64)
}
