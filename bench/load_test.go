package main

import (
	"context"
	"crypto/aes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/pinblock"
)

// host is the other side of a load, in software: it translates and verifies, and holds
// the load to its rules, KSNs that rise and one call of a terminal at a time.
type host struct {
	keydv1.UnimplementedPinServiceServer
	spoil  func(*keydv1.TranslatePinDataResponse) // makes the answer a wrong one
	refuse error
	invert bool // verifications come out the wrong way round

	mu      sync.Mutex
	last    map[string]uint32 // by initial key
	busy    map[string]bool
	answers int
}

func newHost() *host { return &host{last: make(map[string]uint32), busy: make(map[string]bool)} }

func (h *host) enter(in *keydv1.PinKey) (leave func(), err error) {
	if in.Dukpt == nil {
		return func() {}, nil
	}
	ksn, err := dukpt.ParseKSN(in.Dukpt.KeySerialNumber)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	id := in.KeyId + ksn.Initial().String()
	switch {
	case h.busy[id]:
		return nil, errors.New("two calls of one terminal at once")
	case ksn.Counter() <= h.last[id]:
		return nil, fmt.Errorf("%v after counter %d", ksn, h.last[id])
	}
	h.busy[id], h.last[id] = true, ksn.Counter()
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.busy[id] = false
	}, nil
}

func (h *host) TranslatePinData(_ context.Context, r *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
	if h.refuse != nil {
		return nil, h.refuse
	}
	leave, err := h.enter(r.Incoming)
	if err != nil {
		return nil, err
	}
	defer leave()
	p, account, err := h.open(r.Incoming, r.PrimaryAccountNumber, r.EncryptedPinBlock)
	if err != nil {
		return nil, err
	}
	block := make([]byte, 8)
	if err := pinblock.EncodeISO0(block, p, account); err != nil {
		return nil, err
	}
	var k software.TDESKey
	if err := k.Set(keyValue(r.Outgoing.KeyId)); err != nil {
		return nil, err
	}
	k.Encrypt(block, block)
	answer := &keydv1.TranslatePinDataResponse{EncryptedPinBlock: block}
	if h.spoil != nil {
		h.spoil(answer)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers++
	return answer, nil
}

func (h *host) open(in *keydv1.PinKey, pan string, block []byte) (*pinblock.PIN, pinblock.PAN, error) {
	account, err := pinblock.ParsePAN(pan)
	if err != nil {
		return nil, account, err
	}
	key, format := keyValue(in.KeyId), pinblock.ISO0
	if in.Dukpt != nil {
		ksn, err := dukpt.ParseKSN(in.Dukpt.KeySerialNumber)
		if err != nil {
			return nil, account, err
		}
		if ksn.Scheme() == dukpt.AES {
			format = pinblock.ISO4
			path, err := dukpt.NewPath(ksn, dukpt.AES128, dukpt.UsagePIN, dukpt.AES128)
			if err != nil {
				return nil, account, err
			}
			if err := software.AESDerive(key, key, path); err != nil {
				return nil, account, err
			}
		} else if err := errors.Join(software.TDESInitialKey(key, key, ksn), software.TDESTransactionKey(key, key, ksn),
			software.TDESWorkingKey(key, key, dukpt.VariantPIN)); err != nil {
			return nil, account, err
		}
	}
	p := new(pinblock.PIN)
	if format == pinblock.ISO4 {
		c, err := aes.NewCipher(key)
		if err != nil {
			return nil, account, err
		}
		c.Decrypt(block, block)
		if err := account.XORField4(block); err != nil {
			return nil, account, err
		}
		c.Decrypt(block, block)
	} else {
		var k software.TDESKey
		if err := k.Set(key); err != nil {
			return nil, account, err
		}
		k.Decrypt(block, block)
	}
	return p, account, pinblock.Decode(p, format, block, account)
}

func (h *host) VerifyPinData(_ context.Context, r *keydv1.VerifyPinDataRequest) (*keydv1.VerifyPinDataResponse, error) {
	p, _, err := h.open(r.Incoming, r.PrimaryAccountNumber, r.EncryptedPinBlock)
	if err != nil {
		return nil, err
	}
	var digits [4]byte
	for i := range digits {
		digits[i] = '0' + p.Digit(i)
	}
	var k software.TDESKey
	if err := k.Set(keyValue(r.VerificationKeyId)); err != nil {
		return nil, err
	}
	value := pvv(&k, [16]byte([]byte(r.PrimaryAccountNumber)), digits)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers++
	return &keydv1.VerifyPinDataResponse{Verified: (string(value[:]) == r.Expected.GetVisaPvv().Pvv) != h.invert}, nil
}

// TranslatePinDataStream carries items out at once and answers in any order, as keyd does.
func (h *host) TranslatePinDataStream(s grpc.BidiStreamingServer[keydv1.TranslatePinDataStreamRequest, keydv1.TranslatePinDataStreamResponse]) error {
	var items sync.WaitGroup
	defer items.Wait()
	var sending sync.Mutex
	for {
		item, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		items.Go(func() {
			answer := &keydv1.TranslatePinDataStreamResponse{CorrelationId: item.CorrelationId}
			response, err := h.TranslatePinData(s.Context(), item.Request)
			if err != nil {
				answer.Result = &keydv1.TranslatePinDataStreamResponse_Error{Error: status.Convert(err).Proto()}
			} else {
				answer.Result = &keydv1.TranslatePinDataStreamResponse_Response{Response: response}
			}
			sending.Lock()
			defer sending.Unlock()
			_ = s.Send(answer) // a caller that has gone needs no answer
		})
	}
}

// targetOf serves a host and connects to it.
func targetOf(t *testing.T, h *host) target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	keydv1.RegisterPinServiceServer(s, h)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	to := target{server: &server{}, processes: []process{{"client", os.Getpid()}}}
	for range 3 {
		c, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		to.server.conns = append(to.server.conns, c)
	}
	return to
}

func testWorkloads(t *testing.T, terminals int) map[string]*workload {
	t.Helper()
	c := &cards{number: 1000}
	all := map[string]*workload{"zones": newZoneWorkload(5, c)}
	for o, key := range map[operation]string{tdesToZone: bdkTDES, aesToZone: bdkAES, zoneToZone: zoneIn, verifyPVV: zoneIn} {
		w, err := newWorkload(o, key, terminals, 100, c)
		if err != nil {
			t.Fatal(err)
		}
		all[o.String()] = w
	}
	return all
}

// Loads of every kind keep to their rules against a host that holds them to these, and
// go on where the measurement before ended.
func TestLoadsAgainstAHost(t *testing.T) {
	for _, terminals := range []int{1, 7, 100} {
		h := newHost()
		to := targetOf(t, h)
		for name, w := range testWorkloads(t, terminals) {
			for _, m := range []mode{unary, stream} {
				if m == stream && w.operation == verifyPVV {
					continue
				}
				t.Run(fmt.Sprintf("%d/%s/%s", terminals, name, m), func(t *testing.T) {
					for range 2 {
						var f figures
						var err error
						// A machine that is busy with other tests may not get to it at first.
						for length := 20 * time.Millisecond; f.Count == 0 && length < time.Minute; length *= 2 {
							if f, err = to.measureClosed(t.Context(), w, m, 16, length, true); err != nil {
								t.Fatal(err)
							}
						}
						if f.Count == 0 || f.Rate <= 0 || f.P50 <= 0 || f.P50 > f.P99 || f.P99 > f.P999 || f.P999 > f.Max || f.CPU["client"] < 0 {
							t.Errorf("figures: %+v", f)
						}
						if w.dukpt() && f.UnderWay != min(16, terminals) {
							t.Errorf("%d calls under way with %d terminals", f.UnderWay, terminals)
						}
						f, err = to.measurePaced(t.Context(), w, m, 2000, 40*time.Millisecond)
						if err != nil {
							t.Fatal(err)
						}
						if f.Count != 80 || f.Target != 2000 || f.Seconds < 0.0395 {
							t.Errorf("paced figures: %+v", f)
						}
					}
				})
			}
		}
		if h.answers == 0 {
			t.Error("the host was not asked")
		}
	}
}

// Each terminal is used where the whole of them is asked for.
func TestEveryTerminalIsUsed(t *testing.T) {
	h := newHost()
	to := targetOf(t, h)
	w := testWorkloads(t, 3000)[tdesToZone.String()]
	if _, err := to.measureClosed(t.Context(), w, stream, 16, 10*time.Millisecond, true); err != nil {
		t.Fatal(err)
	}
	if len(h.last) != 3000 {
		t.Errorf("%d of 3000 terminals were used", len(h.last))
	}
}

// What was made and not sent is made again, so that counters have no gaps.
func TestRequestsAreGivenBack(t *testing.T) {
	for _, w := range []*workload{testWorkload(t, tdesToZone, 5, 50), testWorkload(t, aesToZone, 5, 50)} {
		before := append([]uint32(nil), w.counters...)
		l, err := newLoad(w, unary, nil, 2)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.generate(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
		sent := l.callers[0].plan[0]
		l.callers[0].next = 1
		l.giveBack()
		for i, c := range w.counters {
			switch {
			case uint32(i) == sent.terminal && c <= before[i]:
				t.Errorf("terminal %d: counter %d was sent and comes again", i, before[i])
			case uint32(i) != sent.terminal && c != before[i]:
				t.Errorf("terminal %d: counter %d, was %d", i, c, before[i])
			}
		}
	}
}

func TestWrongAnswersEndTheRun(t *testing.T) {
	wrongPIN := func(a *keydv1.TranslatePinDataResponse) {
		// Another PIN in a good block: the first PIN digit is bits 8 to 11 and not combined with the PAN.
		var k software.TDESKey
		if err := k.Set(keyValue(zoneOut)); err != nil {
			t.Error(err)
		}
		k.Decrypt(a.EncryptedPinBlock, a.EncryptedPinBlock)
		a.EncryptedPinBlock[1] ^= 0x10
		k.Encrypt(a.EncryptedPinBlock, a.EncryptedPinBlock)
	}
	for name, c := range map[string]struct {
		change func(*host)
		on     operation
		want   string
	}{
		"another PIN":           {func(h *host) { h.spoil = wrongPIN }, zoneToZone, "another PIN"},
		"no PIN block":          {func(h *host) { h.spoil = func(a *keydv1.TranslatePinDataResponse) { a.EncryptedPinBlock[0] ^= 1 } }, tdesToZone, "wrong answer"},
		"a short block":         {func(h *host) { h.spoil = func(a *keydv1.TranslatePinDataResponse) { a.EncryptedPinBlock = nil } }, aesToZone, "0 bytes"},
		"a wrong verification":  {func(h *host) { h.invert = true }, verifyPVV, "verification"},
		"a refusal":             {func(h *host) { h.refuse = status.Error(codes.FailedPrecondition, "not today") }, zoneToZone, "not today"},
		"a server that is gone": {nil, zoneToZone, "refused"},
	} {
		h := newHost()
		to := targetOf(t, h)
		if c.change == nil {
			gone, err := grpc.NewClient("127.0.0.1:1", grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = gone.Close() })
			to.server.conns = []*grpc.ClientConn{gone}
		} else {
			c.change(h)
		}
		w := testWorkloads(t, 10)[c.on.String()]
		for _, m := range []mode{unary, stream} {
			if m == stream && c.on == verifyPVV {
				continue
			}
			if _, err := to.measureClosed(t.Context(), w, m, 4, 50*time.Millisecond, false); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s, closed loop: %v", name, m, err)
			}
			if _, err := to.measurePaced(t.Context(), w, m, 1000, 100*time.Millisecond); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s, %s, paced: %v", name, m, err)
			}
		}
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	interrupted := errors.New("interrupted")
	for _, m := range []mode{unary, stream} {
		for name, measure := range map[string]func(context.Context, target, *workload) error{
			"closed loop": func(ctx context.Context, to target, w *workload) error {
				_, err := to.measureClosed(ctx, w, m, 4, 4*time.Second, false)
				return err
			},
			"paced": func(ctx context.Context, to target, w *workload) error {
				_, err := to.measurePaced(ctx, w, m, 500, 4*time.Second)
				return err
			},
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			h := newHost()
			h.spoil = func(*keydv1.TranslatePinDataResponse) {
				h.mu.Lock()
				defer h.mu.Unlock()
				if h.answers == 30 {
					cancel(interrupted)
				}
			}
			if err := measure(ctx, targetOf(t, h), testWorkloads(t, 10)[tdesToZone.String()]); !errors.Is(err, interrupted) {
				t.Errorf("%s, %s: %v", m, name, err)
			}
			cancel(nil)
		}
	}
}
