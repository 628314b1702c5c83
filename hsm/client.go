package hsm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm/internal/wire"
)

// Client sends operations to the modules that are attached to it, in general to the one
// with the least load. It is safe for concurrent use.
//
// An operation that a module has not answered in time fails with
// [fault.ModuleUnavailable], as do all that were under way when a module ended:
// PKCS#11 calls know no deadline, so the caller must not wait for them.
type Client struct {
	timeout  time.Duration
	log      *slog.Logger
	observer Observer // may be nil

	mu       sync.RWMutex
	channels []*channel
	epoch    []byte // that every module has to know; nil before there is one
}

// NewClient returns a client without modules. timeout bounds each operation.
func NewClient(timeout time.Duration, log *slog.Logger) *Client {
	return &Client{timeout: timeout, log: log}
}

// Observer is told of every operation that a module is asked for: its name, from a closed
// set, and the module. The function that it returns is called with the outcome.
type Observer func(ctx context.Context, operation string, module int) (done func(err error))

// Observe sets the observer. It is called before the client is used.
func (c *Client) Observe(o Observer) { c.observer = o }

// Load is how many operations are under way at an attached module: queued there, or
// carried out.
type Load struct {
	Module   int
	UnderWay int64
}

// Loads returns the load of every attached module.
func (c *Client) Loads() []Load {
	c.mu.RLock()
	defer c.mu.RUnlock()
	loads := make([]Load, len(c.channels))
	for i, ch := range c.channels {
		loads[i] = Load{ch.module, ch.load.Load()}
	}
	return loads
}

// Attach adds the connection to a module. A connection to the same module that was
// attached before is dropped.
func (c *Client) Attach(module int, conn net.Conn) {
	ch := &channel{module: module, conn: conn, waiting: make(map[uint64]chan<- wire.Frame)}
	ch.out = wire.NewWriter(conn, wire.Spacing, func(error) { c.detach(ch) })
	go func() {
		err := ch.read()
		c.detach(ch)
		c.log.Info("module channel ended", "module", module, "cause", err)
	}()
	known := c.bringEpoch(ch)
	c.mu.Lock()
	var old *channel
	kept := make([]*channel, 0, len(c.channels)+1)
	for _, other := range c.channels {
		if other.module == module {
			old = other
			continue
		}
		kept = append(kept, other)
	}
	kept = append(kept, ch)
	slices.SortFunc(kept, func(a, b *channel) int { return a.module - b.module })
	c.channels = kept
	newest := c.epoch
	c.mu.Unlock()
	if old != nil {
		old.close()
	}
	if !bytes.Equal(newest, known) { // somebody committed another meanwhile
		c.bringEpoch(ch)
	}
	if ch.ended() { // before it was among the channels
		c.detach(ch)
	}
}

// bringEpoch tells a module that is to be attached the epoch, before it is asked anything
// else. One that refuses it is attached all the same: it says with every refusal what it
// waits for.
func (c *Client) bringEpoch(ch *channel) (epoch []byte) {
	c.mu.RLock()
	epoch = c.epoch
	c.mu.RUnlock()
	if epoch == nil {
		return nil
	}
	if err := c.loadEpoch(context.Background(), ch, epoch, false); err != nil {
		c.log.Error("a module does not take the register of officers and keys", "module", ch.module, "cause", err)
	}
	return epoch
}

// Attached returns how many modules can be asked now.
func (c *Client) Attached() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.channels)
}

// Close drops all connections.
func (c *Client) Close() {
	c.mu.Lock()
	channels := c.channels
	c.channels = nil
	c.mu.Unlock()
	for _, ch := range channels {
		ch.close()
	}
}

func (c *Client) detach(ch *channel) {
	c.mu.Lock()
	kept := make([]*channel, 0, len(c.channels))
	for _, other := range c.channels {
		if other != ch {
			kept = append(kept, other)
		}
	}
	c.channels = kept
	c.mu.Unlock()
	ch.close()
}

// detour is how many more operations than another's may be under way at a home module
// before an operation goes to the other.
const detour = 16

// packing is how many operations count as one load: a module carries out together what
// it finds queued, so a few more cost it less than they would cost an idle one.
const packing = 16

// choose returns the module with the least load; the first of several. An operation with
// a home goes to that module as long as it is not much busier: the keys that are derived
// for a terminal are then kept in one module and not in all.
func (c *Client) choose(home uint64) *channel {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var best *channel
	for _, ch := range c.channels {
		if best == nil || ch.load.Load()/packing < best.load.Load()/packing {
			best = ch
		}
	}
	if best == nil || home == 0 {
		return best
	}
	if at := c.channels[home%uint64(len(c.channels))]; at.load.Load() <= best.load.Load()+detour {
		return at
	}
	return best
}

// homeOf is [home] of keys that encipher PIN blocks.
func homeOf(keys ...*PINKey) uint64 {
	for _, k := range keys {
		if h := home(k.KSN); h != 0 {
			return h
		}
	}
	return 0
}

// home is not 0 for a key from which a token derives keys that it keeps: AES DUKPT.
func home(serials ...dukpt.KSN) uint64 {
	for _, serial := range serials {
		if serial.Scheme() == dukpt.AES {
			id := serial.InitialKeyID()
			h := fnv.New64a()
			_, _ = h.Write(id[:]) // never fails
			return h.Sum64() | 1<<63
		}
	}
	return 0
}

// call sends one operation to a module and decodes its answer. home is that of
// [homeOf], or 0.
func (c *Client) call(ctx context.Context, home uint64, op wire.Op, request, answer proto.Message) error {
	ch := c.choose(home)
	if ch == nil {
		return fault.New(fault.ModuleUnavailable, "")
	}
	return c.callOn(ctx, ch, op, request, answer)
}

// callPatiently is call of an operation that may take longer than others.
func (c *Client) callPatiently(ctx context.Context, longer time.Duration, op wire.Op, request, answer proto.Message) error {
	ch := c.choose(0)
	if ch == nil {
		return fault.New(fault.ModuleUnavailable, "")
	}
	return c.callWithin(ctx, c.timeout+longer, ch, op, request, answer)
}

func (c *Client) callOn(ctx context.Context, ch *channel, op wire.Op, request, answer proto.Message) error {
	return c.callWithin(ctx, c.timeout, ch, op, request, answer)
}

func (c *Client) callWithin(ctx context.Context, timeout time.Duration, ch *channel, op wire.Op, request, answer proto.Message) error {
	if c.observer == nil {
		return c.exchange(ctx, timeout, ch, op, request, answer)
	}
	done := c.observer(ctx, string(request.ProtoReflect().Descriptor().Name()), ch.module)
	err := c.exchange(ctx, timeout, ch, op, request, answer)
	done(err)
	return err
}

func (c *Client) exchange(ctx context.Context, timeout time.Duration, ch *channel, op wire.Op, request, answer proto.Message) error {
	frame, err := ch.roundTrip(ctx, timeout, op, request)
	if err != nil {
		return err
	}
	switch frame.Op {
	case wire.OpAnswer:
		if err := frame.Decode(answer); err != nil {
			return fault.Wrap(fault.Internal, err)
		}
		return nil
	case wire.OpFailure:
		var failure wire.Failure
		if err := frame.Decode(&failure); err != nil {
			return fault.Wrap(fault.Internal, err)
		}
		reason := fault.ParseReason(failure.Reason)
		if reason == fault.EpochStale && op != wire.OpLoadEpoch && op != wire.OpCommitEpoch && op != wire.OpFollowEpoch {
			c.remind(ch)
		}
		return fault.New(reason, failure.Detail)
	}
	return fault.Wrap(fault.Internal, wire.ErrFrame)
}

// remindInterval is how far apart a module is reminded of the epoch: the document can be
// large, and the module may wait for one that another host has pinned.
const remindInterval = time.Second

// remind brings a module the epoch again that waits for one. It may have missed it, because it
// could not be reached for a moment.
func (c *Client) remind(ch *channel) {
	now, last := time.Now().UnixNano(), ch.reminded.Load()
	if now-last >= int64(remindInterval) && ch.reminded.CompareAndSwap(last, now) {
		go c.bringEpoch(ch)
	}
}

// channel is the connection to one module.
type channel struct {
	module int
	conn   net.Conn
	out    *wire.Writer
	load   atomic.Int64
	next   atomic.Uint64

	reminded atomic.Int64 // Unix nanoseconds at which it was last reminded of the epoch

	mu      sync.Mutex
	waiting map[uint64]chan<- wire.Frame // nil once closed
}

func (ch *channel) roundTrip(ctx context.Context, timeout time.Duration, op wire.Op, request proto.Message) (wire.Frame, error) {
	ch.load.Add(1)
	defer ch.load.Add(-1)
	id := ch.next.Add(1)
	frame := wire.NewBuffer()
	if err := frame.Append(id, op, request); err != nil {
		return wire.Frame{}, fault.Wrap(fault.Internal, err)
	}
	answer := make(chan wire.Frame, 1)
	ch.mu.Lock()
	if ch.waiting == nil {
		ch.mu.Unlock()
		return wire.Frame{}, fault.New(fault.ModuleUnavailable, "")
	}
	ch.waiting[id] = answer
	ch.mu.Unlock()
	if err := ch.send(ctx, timeout, frame); err != nil {
		ch.forget(id)
		return wire.Frame{}, unanswered(err)
	}
	late := timers.Get().(*time.Timer)
	late.Reset(timeout)
	defer timers.Put(late)
	defer late.Stop()
	select {
	case frame, ok := <-answer:
		if !ok {
			return wire.Frame{}, fault.New(fault.ModuleUnavailable, "")
		}
		return frame, nil
	case <-late.C:
		ch.forget(id)
		return wire.Frame{}, fault.New(fault.ModuleUnavailable, "")
	case <-ctx.Done():
		ch.forget(id)
		return wire.Frame{}, unanswered(ctx.Err())
	}
}

// send queues a frame. Only where the queue is full is there something to wait for, and
// the price of a deadline to pay.
func (ch *channel) send(ctx context.Context, timeout time.Duration, frame *wire.Buffer) error {
	err := ch.out.TrySend(frame)
	if !errors.Is(err, wire.ErrFull) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return ch.out.Send(ctx, frame)
}

// timers are stopped: every call needs one for as long as it waits.
var timers = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}}

// unanswered keeps the error of a caller who gave up; in any other case the module was
// too slow.
func unanswered(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fault.New(fault.ModuleUnavailable, "")
}

func (ch *channel) read() error {
	in := bufio.NewReaderSize(ch.conn, 64<<10)
	for {
		frame, err := wire.Read(in)
		if err != nil {
			return err
		}
		if waiter := ch.forget(frame.ID); waiter != nil {
			waiter <- frame
		}
	}
}

// forget removes and returns the waiter for an answer; nil if nobody waits.
func (ch *channel) forget(id uint64) chan<- wire.Frame {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	waiter := ch.waiting[id]
	delete(ch.waiting, id)
	return waiter
}

// ended reports whether the channel was closed.
func (ch *channel) ended() bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.waiting == nil
}

func (ch *channel) close() {
	ch.out.Close()
	ch.conn.Close() //nolint:errcheck // the connection is given up; nothing is lost with it
	ch.mu.Lock()
	waiting := ch.waiting
	ch.waiting = nil
	ch.mu.Unlock()
	for _, waiter := range waiting {
		close(waiter)
	}
}
