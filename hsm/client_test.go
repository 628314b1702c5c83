package hsm

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm/internal/wire"
)

// peer is the other end of a channel: it counts the operations that come, and answers
// when it is told to.
type peer struct {
	conn net.Conn
	mu   sync.Mutex
	held []wire.Frame
	came chan struct{}
}

func attach(t *testing.T, c *Client, module int) *peer {
	t.Helper()
	ours, theirs := net.Pipe()
	p := &peer{conn: theirs, came: make(chan struct{}, 1024)}
	c.Attach(module, ours)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		in := bufio.NewReader(theirs)
		for {
			f, err := wire.Read(in)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.held = append(p.held, f)
			p.mu.Unlock()
			p.came <- struct{}{}
		}
	}()
	t.Cleanup(func() {
		_ = theirs.Close()
		<-ended
	})
	return p
}

// answer answers everything that has come.
func (p *peer) answer(t *testing.T) (n int) {
	t.Helper()
	p.mu.Lock()
	held := p.held
	p.held = nil
	p.mu.Unlock()
	for _, f := range held {
		b, err := wire.Append(nil, f.ID, wire.OpAnswer, &wire.TranslatedPin{Block: make([]byte, 8), CheckValue: "AAAAAA", Custody: 2})
		if err == nil {
			_, err = p.conn.Write(b)
		}
		if err != nil {
			t.Error(err)
		}
	}
	return len(held)
}

func newTestClient(t *testing.T, timeout time.Duration) *Client {
	t.Helper()
	c := NewClient(timeout, slog.New(slog.DiscardHandler))
	t.Cleanup(c.Close)
	return c
}

// begin sends operations without waiting for their answers.
func begin(c *Client, r TranslatePIN, n int) *sync.WaitGroup {
	var all sync.WaitGroup
	for range n {
		all.Go(func() { _, _ = c.TranslatePIN(context.Background(), r) })
	}
	return &all
}

func await(came chan struct{}, n int) {
	for range n {
		<-came
	}
}

func TestLoadIsSpread(t *testing.T) {
	c := newTestClient(t, time.Minute)
	one, two := attach(t, c, 0), attach(t, c, 1)
	all := &sync.WaitGroup{}
	for range 4 * packing { // one after the other, so that each sees the ones before it
		more := begin(c, TranslatePIN{}, 1)
		all.Go(more.Wait)
		select {
		case <-one.came:
		case <-two.came:
		}
	}
	if a, b := one.answer(t), two.answer(t); a != 2*packing || b != 2*packing {
		t.Errorf("%d operations went %d and %d ways", 4*packing, a, b)
	}
	all.Wait()
}

func TestDerivedKeysHaveAHome(t *testing.T) {
	c := newTestClient(t, time.Minute)
	peers := []*peer{attach(t, c, 0), attach(t, c, 1)}
	homes := map[int]int{}
	for device := range byte(32) {
		ksn, err := dukpt.ParseKSN([]byte{0, 1, 2, 3, 4, 5, 6, device, 0, 0, 0, 1})
		if err != nil {
			t.Fatal(err)
		}
		r := TranslatePIN{Incoming: PINKey{KSN: ksn, Format: Format4}}
		home := -1
		for range 3 {
			all := begin(c, r, 1)
			at := 0
			select {
			case <-peers[0].came:
			case <-peers[1].came:
				at = 1
			}
			peers[at].answer(t)
			all.Wait()
			if home >= 0 && at != home {
				t.Fatalf("device %d went to module %d, then to %d", device, home, at)
			}
			home = at
		}
		homes[home]++
		// A home that is much busier than another is left.
		busy := begin(c, r, detour+1)
		await(peers[home].came, detour+1)
		away := begin(c, r, 1)
		<-peers[1-home].came
		peers[home].answer(t)
		peers[1-home].answer(t)
		busy.Wait()
		away.Wait()
	}
	if len(homes) != 2 {
		t.Errorf("32 devices are all at home in one module")
	}
}

func TestUnansweredOperations(t *testing.T) {
	r := TranslatePIN{}
	c := newTestClient(t, 20*time.Millisecond)
	if _, err := c.TranslatePIN(t.Context(), r); fault.Of(err).Reason != fault.ModuleUnavailable {
		t.Errorf("without a module: %v", err)
	}
	p := attach(t, c, 0)
	if _, err := c.TranslatePIN(t.Context(), r); fault.Of(err).Reason != fault.ModuleUnavailable {
		t.Errorf("a module that does not answer: %v", err)
	}
	p.answer(t) // too late: nobody waits
	slow := newTestClient(t, time.Minute)
	p = attach(t, slow, 0)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-p.came
		cancel()
	}()
	if _, err := slow.TranslatePIN(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who gave up: %v", err)
	}
	var wait sync.WaitGroup
	for range 5 {
		wait.Go(func() {
			if _, err := slow.TranslatePIN(t.Context(), r); fault.Of(err).Reason != fault.ModuleUnavailable {
				t.Errorf("a module that ended: %v", err)
			}
		})
	}
	await(p.came, 5)
	_ = p.conn.Close()
	wait.Wait()
}
