package ksn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"keyd/fault"
	"keyd/gather"
	"keyd/store"
)

// DefaultMaxJump is at least every gap between two counters that follow each other by
// the standards' rules (2,048 for TDES, 65,536 for AES), so that a terminal that counts
// as they say never meets it.
const DefaultMaxJump = 1 << 16

// DefaultRetryWindow is for how long at least a retry is answered.
const DefaultRetryWindow = time.Minute

// errClosed is the cause after [Ledger.Close].
var errClosed = errors.New("ksn: the ledger is closed")

// Options are the settings of a [Ledger]. The zero value has the defaults.
type Options struct {
	RetryWindow time.Duration // 0: DefaultRetryWindow
	MaxJump     uint32        // 0: DefaultMaxJump
	Log         *slog.Logger  // nil: no log

	clock  func() time.Time
	limits limits
}

// Ledger accepts KSNs. It is safe for concurrent use.
type Ledger struct {
	store    store.Counters
	receipts *receiptKeys
	maxJump  uint32
	limits   limits
	clock    func() time.Time
	log      *slog.Logger

	mu      sync.Mutex
	memory  memory
	loaded  bool     // memory has what the journal has
	newest  uint64   // number of the last row of the journal that was seen, which stays when memory is dropped
	sum     uint32   // its checksum
	setBack error    // the database was set back: why nothing is accepted any more; of the goroutine that accepts
	rows    rowSizes // of the journal
	queue   []*item
	coming  *gather.Gate // requests between Begin and its end
	closed  bool
	fold    foldStatus
	commits commitStatus
	failing error // why the last commit failed, or nil
	tending error // why receipt keys could not be tended to, or nil

	wake     chan struct{} // something is in the queue
	foldNow  chan struct{} // there is enough to fold
	closing  chan struct{}
	running  sync.WaitGroup
	closedBy sync.Once
}

// Open returns the ledger over a store, after it has deleted receipt keys that have had
// their time, and read the journal. The error wraps the store's; [store.ErrCorrupt] if
// the journal is not what was written.
func Open(ctx context.Context, s store.Counters, o Options) (*Ledger, error) {
	if o.RetryWindow < 0 {
		return nil, fmt.Errorf("ksn: a retry window of %s is negative", o.RetryWindow)
	}
	if o.RetryWindow == 0 {
		o.RetryWindow = DefaultRetryWindow
	}
	if o.MaxJump == 0 {
		o.MaxJump = DefaultMaxJump
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.clock == nil {
		o.clock = time.Now
	}
	if o.limits == (limits{}) {
		o.limits = defaultLimits
	}
	l := &Ledger{
		store: s, receipts: newReceiptKeys(s, o.RetryWindow, o.clock), maxJump: o.MaxJump, limits: o.limits, clock: o.clock, log: o.Log,
		memory: newMemory(0), coming: gather.NewGate(),
		wake: make(chan struct{}, 1), foldNow: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	// While a backup reads, deleted keys stay in the database's log. It is tried again;
	// no receipt opens under them meanwhile.
	if l.tending = l.receipts.sweep(ctx); l.tending != nil && !errors.Is(l.tending, store.ErrLocked) {
		return nil, l.tending
	}
	if err := l.ensureLoaded(ctx); err != nil {
		return nil, err
	}
	l.running.Go(l.commitAll)
	l.running.Go(l.foldAll)
	l.running.Go(l.tendAll)
	return l, nil
}

// Close finishes what is waiting and ends the ledger's work. It folds nothing: the next
// start reads the journal. It does not close the store. A second call does nothing.
func (l *Ledger) Close() error {
	l.closedBy.Do(func() {
		l.mu.Lock()
		l.closed = true
		l.mu.Unlock()
		close(l.closing)
	})
	l.running.Wait()
	return nil
}

// Begin tells the ledger that a request has begun whose KSNs will be accepted, so that a
// commit can wait for it. The function that it returns is called when the request has
// ended, however.
func (l *Ledger) Begin() (end func()) {
	return l.coming.Begin()
}

// Accept records that a request was carried out: its uses, 1 to 4, are accepted now,
// all of them, or none is. request is everything that makes it this request and no
// other, at most [MaxRequest] bytes, the same on each retry; answer is what its sender
// gets, at most [MaxAnswer] bytes.
//
// It returns answer once that is durable, with the number of the journal's row that has it,
// or the answer that was stored when the identical request was accepted before, with 0. Errors are refusals of package fault:
// [fault.KSNReplayed] for a counter that is not above the last one, or too far above
// it; [fault.StoreUnavailable]; [fault.Internal] for arguments outside the limits; and
// ctx's error as it is. After the last two but Internal the use may have been accepted:
// then a retry gets the stored answer.
//
// Two uses of one sequence with the same counter are one; with two counters both have to
// be above the last one.
func (l *Ledger) Accept(ctx context.Context, uses []Use, request, answer []byte) (kept []byte, row uint64, err error) {
	if len(answer) > MaxAnswer {
		return nil, 0, fault.Wrap(fault.Internal, fmt.Errorf("ksn: an answer has at most %d bytes, not %d", MaxAnswer, len(answer)))
	}
	it, err := newItem(uses, request)
	if err != nil {
		return nil, 0, err
	}
	stored, err := l.look(ctx, it, request)
	if stored != nil || err != nil {
		return stored, 0, err
	}
	key, err := l.receipts.current(ctx)
	if err != nil {
		return nil, 0, unavailable(ctx, err)
	}
	if it.receipt, err = key.seal(it.spans, request, answer); err != nil {
		return nil, 0, fault.Wrap(fault.Internal, err)
	}
	for {
		o, err := l.submit(ctx, it)
		switch {
		case err != nil:
			return nil, 0, err
		case o.accepted:
			return answer, o.row, nil
		}
		// Another request came first, or what was read is out of date.
		stored, err := l.look(ctx, it, request)
		if stored != nil || err != nil {
			return stored, 0, err
		}
	}
}

// Newest returns the number of the journal's newest row that this process has seen, 0 if there
// is none.
func (l *Ledger) Newest() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest
}

// Look says what Accept would say, and moves nothing: the stored answer for an identical
// retry, which is not nil; nil if the KSN is fresh; and the errors of [Ledger.Accept]. It is
// for before a request is carried out, and for after it was refused for a reason that comes
// after the KSN.
func (l *Ledger) Look(ctx context.Context, uses []Use, request []byte) (stored []byte, err error) {
	it, err := newItem(uses, request)
	if err != nil {
		return nil, err
	}
	return l.look(ctx, it, request)
}

func newItem(uses []Use, request []byte) (*item, error) {
	if len(request) > MaxRequest {
		return nil, fault.Wrap(fault.Internal, fmt.Errorf("ksn: a request has at most %d bytes, not %d", MaxRequest, len(request)))
	}
	it := &item{done: make(chan outcome, 1)}
	var err error
	if it.spans, err = spans(it.oneSpan[:0], uses); err != nil {
		return nil, fault.Wrap(fault.Internal, err)
	}
	if it.read = it.oneReading[:]; len(it.spans) > 1 {
		it.read = make([]reading, len(it.spans))
	}
	return it, nil
}

// look judges a request by what is durable, and returns nothing for a fresh one.
func (l *Ledger) look(ctx context.Context, it *item, request []byte) ([]byte, error) {
	const maxTries = 4 // when others write all the time
	seen, tries := uint64(0), 0
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return nil, fault.Wrap(fault.StoreUnavailable, errClosed)
		}
		loaded, epoch, newest := l.loaded, l.memory.epoch, l.newest
		var v verdict
		var receipt []byte
		if loaded {
			v = l.memory.judge(it, nil, l.maxJump)
			first, _ := l.memory.get(it.spans[0].sequence)
			receipt = first.receipt
		}
		l.mu.Unlock()
		var err error
		switch {
		case !loaded:
			_, err = l.submit(ctx, &item{done: make(chan outcome, 1)}) // the journal is read again first
		case v == undecided:
			err = l.readStates(ctx, it, epoch)
		case v == fresh:
			return nil, nil
		case v.outdated() && tries < maxTries && (tries == 0 || newest != seen):
			seen = newest
			tries++
			_, err = l.submit(ctx, &item{catchUp: true, done: make(chan outcome, 1)})
		case v == repeated:
			return l.storedAnswer(ctx, it, request, receipt)
		default:
			return nil, v.refusal(l.maxJump)
		}
		if err != nil {
			return nil, err
		}
	}
}

// readStates reads the sequences that are not in memory, in the caller's time and not
// in that of the commits. epoch is from before.
func (l *Ledger) readStates(ctx context.Context, it *item, epoch uint64) error {
	it.epoch = epoch
	for i := range it.spans {
		c, err := l.store.Counter(ctx, it.spans[i].sequence[:])
		switch {
		case err == nil:
			it.read[i] = reading{place: inStore, counter: c.Counter}
		case errors.Is(err, store.ErrNotFound):
			it.read[i] = reading{place: nowhere}
		default:
			return unavailable(ctx, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range it.spans {
		// The epoch is compared again each time: to keep one may drop others.
		if q := it.spans[i].sequence; it.read[i].place == inStore && l.memory.epoch == epoch {
			if _, ok := l.memory.get(q); !ok {
				l.memory.keep(q, it.read[i].counter)
			}
		}
	}
	return nil
}

// storedAnswer opens the receipt of the request that was accepted last with these
// counters, which is nil if only the store has it. All parts of a request have the same
// receipt, and it opens only for the same counters.
func (l *Ledger) storedAnswer(ctx context.Context, it *item, request, receipt []byte) ([]byte, error) {
	if receipt == nil {
		c, err := l.store.Counter(ctx, it.spans[0].sequence[:])
		switch {
		case err == nil && c.Counter > it.spans[0].last:
			return nil, replayed.refusal(l.maxJump) // it moved meanwhile
		case err == nil && c.Counter == it.spans[0].last:
			receipt = c.Receipt
		case err == nil || errors.Is(err, store.ErrNotFound):
			return nil, fault.Wrap(fault.StoreUnavailable, fmt.Errorf("ksn: a counter in the store went back: %w", store.ErrCorrupt))
		default:
			return nil, unavailable(ctx, err)
		}
	}
	id, ok := receiptKeyID(receipt)
	if !ok {
		return nil, replayed.refusal(l.maxJump) // dropped when nobody could read it any more
	}
	key, err := l.receipts.find(ctx, id)
	if err != nil {
		return nil, unavailable(ctx, err)
	}
	if key == nil {
		return nil, replayed.refusal(l.maxJump)
	}
	answer, ok := key.open(it.spans, request, receipt)
	if !ok {
		return nil, replayed.refusal(l.maxJump)
	}
	return answer, nil
}

// unavailable keeps the context's own error and makes a refusal of any other.
func unavailable(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && errors.Is(err, ended) {
		return ended
	}
	return fault.Wrap(fault.StoreUnavailable, err)
}
