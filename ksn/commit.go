package ksn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"keyd/fault"
	"keyd/store"
)

// item is a request on its way through the ledger.
type item struct {
	spans   []span
	receipt []byte // nil: it moves nothing and only waits until the journal is loaded,
	catchUp bool   // and what other processes have appended is read
	read    []reading
	epoch   uint64 // of memory, when it was read
	done    chan outcome

	oneSpan    [1]span // room for what most requests have
	oneReading [1]reading
}

// reading is what the store had of a sequence that was not in memory.
type reading struct {
	place   place
	counter uint32
}

type place uint8

const (
	unread place = iota
	nowhere
	inStore
)

// outcome is what became of an item.
type outcome struct {
	accepted bool
	row      uint64 // of the journal, in which it was accepted
	err      error
}

// submit queues an item and waits for its outcome. It is not accepted, without an
// error, if it has to be looked at again.
func (l *Ledger) submit(ctx context.Context, it *item) (o outcome, err error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return outcome{}, fault.Wrap(fault.StoreUnavailable, errClosed)
	}
	l.queue = append(l.queue, it)
	first := len(l.queue) == 1
	l.coming.Came(len(l.queue))
	l.mu.Unlock()
	if first {
		wake(l.wake)
	}
	select {
	case o := <-it.done:
		return o, o.err
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
}

// commitAll is the only goroutine that accepts. It ends when the ledger is closed and
// the queue is empty.
func (l *Ledger) commitAll() {
	c := committer{ledger: l, pending: map[sequence]state{}}
	for {
		items := l.take(c.items)
		if items == nil {
			return
		}
		c.items = items
		c.commit()
	}
}

// take waits for something in the queue, and returns it; nil at the end. previous is
// what it returned before: its memory is used again.
func (l *Ledger) take(previous []*item) []*item {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 {
		if l.closed {
			return nil
		}
		l.mu.Unlock()
		select {
		case <-l.wake:
		case <-l.closing:
		}
		l.mu.Lock()
	}
	l.gather()
	n := min(len(l.queue), maxEntries)
	items := append(previous[:0], l.queue[:n]...)
	rest := copy(l.queue, l.queue[n:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	return items
}

// gather lets requests come in that are on their way. The caller has the lock.
func (l *Ledger) gather() {
	if !l.coming.Worthwhile(len(l.queue)) || len(l.queue) >= maxEntries || l.limits.gather == 0 || l.closed {
		return
	}
	l.mu.Unlock()
	defer l.mu.Lock()
	l.coming.Wait(max(l.limits.gather, l.coming.Limit()), l.closing)
}

// committer holds what one commit needs, to be used again by the next.
type committer struct {
	ledger   *Ledger
	items    []*item
	outcomes []outcome
	pending  map[sequence]state // accepted in this batch, not yet durable
	batch    []byte
}

// commit judges the items in their order, makes what is accepted durable, and answers.
// Whoever was judged by something pending must not hear of it before it is durable, so
// all answers come at the end.
func (c *committer) commit() {
	l := c.ledger
	c.outcomes = append(c.outcomes[:0], make([]outcome, len(c.items))...)
	ctx := context.Background() // a commit serves many callers and ends with none of them
	err := l.ensureLoaded(ctx)
	if err == nil && slices.ContainsFunc(c.items, func(it *item) bool { return it.receipt != nil || it.catchUp }) {
		err = c.write(ctx)
	}
	l.report(err)
	for i, it := range c.items {
		if err != nil {
			c.outcomes[i] = outcome{err: fault.Wrap(fault.StoreUnavailable, err)}
		} else if c.outcomes[i].accepted {
			c.outcomes[i].row = l.newest // only this goroutine changes it
		}
		it.done <- c.outcomes[i]
	}
	clear(c.items)
}

// maxReloads is how often in a row a commit reads the whole journal because others fold it.
const maxReloads = 8

// write takes in what others have appended to the journal, judges against it, and appends
// what is accepted, all in one transaction of the store.
func (c *committer) write(ctx context.Context) error {
	l := c.ledger
	if l.setBack != nil {
		return l.setBack
	}
	for reloads := 0; ; reloads++ {
		entries, number := 0, uint64(0)
		err := l.store.ExtendJournal(ctx, l.newest, l.ending(), l.takeIn, func(next uint64) ([]byte, error) {
			if entries = c.judge(l.clock()); entries == 0 {
				return nil, nil
			}
			number = next
			c.batch = finishBatch(c.batch, entries, number)
			return c.batch, nil
		})
		switch {
		case err == nil:
			c.keep(entries, number)
			return nil
		case errors.Is(err, store.ErrRolledBack):
			// What this process has seen accepted is not believed away: it refuses until it
			// is started again, whatever the database says then.
			l.setBack = fmt.Errorf("ksn: record requests: %w", err)
			return l.setBack
		}
		l.forget()
		e := l.ensureLoaded(ctx)
		switch {
		case e == nil && errors.Is(err, store.ErrTrimmed) && reloads < maxReloads:
			continue
		case e != nil: // what was committed shows when the next one comes
			err = fmt.Errorf("%w; and then read the journal: %w", err, e)
		}
		return fmt.Errorf("ksn: record %d requests: %w", entries, err)
	}
}

// ending is what the newest row that this process has seen ends with, nil where it has seen
// none. Only the goroutine that accepts calls it.
func (l *Ledger) ending() []byte {
	if l.newest == 0 {
		return nil
	}
	return binary.BigEndian.AppendUint32(nil, l.sum)
}

// takeIn takes a row into memory that another process has appended.
func (l *Ledger) takeIn(number uint64, batch []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum, err := l.memory.replay(number, batch, l.newest, l.sum)
	if err != nil {
		return err
	}
	l.newest, l.sum = number, sum
	l.rows.push(number, len(batch))
	return nil
}

// keep remembers what is durable now. There may be no row.
func (c *committer) keep(entries int, number uint64) {
	l := c.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if entries > 0 {
		for q, s := range c.pending {
			l.memory.recent[q] = s
		}
		l.newest = number
		_, l.sum = sums(c.batch)
		l.rows.push(number, len(c.batch))
		l.commits.Batches++
		l.commits.Requests += uint64(entries)
	}
	if l.foldDue() {
		wake(l.foldNow)
	}
}

// judge decides every item, writes the accepted ones into the batch, and returns their
// number.
func (c *committer) judge(at time.Time) (entries int) {
	l := c.ledger
	c.batch = newBatch(c.batch, at, l.sum) // only this goroutine changes it
	c.outcomes = append(c.outcomes[:0], make([]outcome, len(c.items))...)
	clear(c.pending)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, it := range c.items {
		if it.receipt == nil || l.memory.judge(it, c.pending, l.maxJump) != fresh {
			continue
		}
		if err := l.full(len(c.pending)); err != nil {
			c.outcomes[i] = outcome{err: fault.Wrap(fault.StoreUnavailable, err)}
			continue
		}
		for _, s := range it.spans {
			c.pending[s.sequence] = state{counter: s.last, receipt: it.receipt, at: at}
		}
		c.batch = appendEntry(c.batch, it.spans, it.receipt)
		c.outcomes[i].accepted = true
		entries++
	}
	return entries
}

// forget drops all that is in memory: it may not be what is in the store.
func (l *Ledger) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.memory = newMemory(l.memory.epoch + 1)
	l.loaded = false
}

// report logs the first failure of a series, and its end.
func (l *Ledger) report(err error) {
	l.mu.Lock()
	before := l.failing
	l.failing = err
	l.mu.Unlock()
	switch {
	case err != nil && before == nil:
		l.log.Error("KSNs cannot be accepted", "error", err)
	case err == nil && before != nil:
		l.log.Info("KSNs are accepted again")
	}
}

// ensureLoaded reads the journal if memory does not have it. Only the goroutine that
// accepts calls it, and [Open].
func (l *Ledger) ensureLoaded(ctx context.Context) error {
	l.mu.Lock()
	loaded, epoch := l.loaded, l.memory.epoch
	l.mu.Unlock()
	if loaded {
		return nil
	}
	m := newMemory(epoch + 1)
	var newest uint64
	var sum uint32
	var rows rowSizes
	// The rows are those of one moment, while other processes and a fold of before may
	// be deleting the oldest: a mixture could lack the last counters of a sequence.
	err := l.store.ReadJournal(ctx, func(number uint64, batch []byte) (err error) {
		if newest != 0 && number != newest+1 {
			return fmt.Errorf("ksn: row %d of the journal follows row %d: %w", number, newest, store.ErrCorrupt)
		}
		if sum, err = m.replay(number, batch, newest, sum); err != nil {
			return err
		}
		newest = number
		rows.push(number, len(batch))
		if number == l.newest && sum != l.sum { // which only this goroutine changes
			return errAnother(number)
		}
		return nil
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if newest < l.newest {
		return fmt.Errorf("ksn: row %d of the journal was its last, and now row %d is: %w", l.newest, newest, store.ErrRolledBack)
	}
	l.memory, l.newest, l.sum, l.rows, l.loaded = m, newest, sum, rows, true
	if l.foldDue() {
		wake(l.foldNow)
	}
	return nil
}

// errAnother is the error of a row that is another one than this process has seen.
func errAnother(number uint64) error {
	return fmt.Errorf("ksn: row %d of the journal is another one than before: %w", number, store.ErrRolledBack)
}

// replay takes a row of the journal into memory, and returns its checksum. The row before, if
// it is known, has the number newest and that checksum; 0 for none.
func (m *memory) replay(number uint64, batch []byte, newest uint64, sum uint32) (uint32, error) {
	back := false
	err := decodeBatch(number, batch, func(at time.Time, receipt []byte, advances []advance) {
		own := append([]byte(nil), receipt...)
		for _, a := range advances {
			back = back || a.counter <= m.recent[a.sequence].counter
			m.recent[a.sequence] = state{counter: a.counter, receipt: own, at: at}
		}
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("row %d: %w: %w", number, err, store.ErrCorrupt)
	}
	before, own := sums(batch)
	switch {
	case newest != 0 && number == newest+1 && before != sum:
		return 0, errAnother(newest)
	case back:
		return 0, fmt.Errorf("ksn: row %d of the journal sets a counter back: %w", number, store.ErrCorrupt)
	}
	return own, nil
}

// wake wakes the one goroutine that waits for it, now or when it comes.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
