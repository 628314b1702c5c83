package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
)

// TestNothingIsAcceptedTwiceWhileProcessesAreKilled lets 64 clients work while front and
// modules are killed at random moments. Every KSN is sent as two different requests at
// once, each again and again until it has an answer: exactly one of the two is accepted,
// and every answer to it is the same. Meanwhile tries for the PIN of a few accounts are
// made as fast as they go, and never more are allowed than the limit.
//
// KEYD_SEED repeats the choice of victims and pauses.
func TestNothingIsAcceptedTwiceWhileProcessesAreKilled(t *testing.T) {
	const (
		clients  = 64
		kills    = 12
		accounts = 4
		limit    = 100
	)
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("KEYD_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("KEYD_SEED=%d", seed)

	ring := newKeyring()
	tdesBDK := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210", once)
	aesBDK := ring.add("B0", "A", "X", "FEDCBA9876543210F1F1F1F1F1F1F1F1", once)
	pvk := ring.add("V2", "T", "V", "0123456789ABCDEFFEDCBA9876543210")
	iso3, iso0Key := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_3), zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	s := startWith(t, filepath.Join(tempDir(t), "dev"), []string{"--verify-limits", strconv.Itoa(limit) + ",100,100"}, ring.keys...)
	issuer := tdes(t, unhex(t, zoneTDES))

	var done, accepted, unavailable, retries atomic.Int64
	stop := make(chan struct{})
	stopped := func() bool {
		select {
		case <-stop:
			return true
		default:
			return false
		}
	}
	// settle sends a request until it has an answer that is not about availability.
	settle := func(pins keydv1.PinServiceClient, r *keydv1.TranslatePinDataRequest) (string, error) {
		for {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			answer, err := pins.TranslatePinData(ctx, r)
			cancel()
			switch status.Code(err) {
			case codes.Unavailable, codes.DeadlineExceeded:
				unavailable.Add(1)
				time.Sleep(10 * time.Millisecond) // as a client should: what starts anew needs the processor
				continue
			}
			return string(answer.GetEncryptedPinBlock()), err
		}
	}
	var all sync.WaitGroup
	for n := range clients {
		pins := s.pins()
		bdk := tdesBDK
		if n%4 == 0 {
			bdk = aesBDK
		}
		d := newTerminal(t, ring, bdk, uint32(n+1))
		all.Go(func() {
			for counter := uint32(1); !stopped(); counter++ {
				var block [2]string
				var err [2]error
				var both sync.WaitGroup
				for i, out := range []*keydv1.PinKey{iso3, iso0Key} {
					both.Go(func() { block[i], err[i] = settle(pins, d.translation(counter, out)) })
				}
				both.Wait()
				winner := -1
				for i := range 2 {
					switch {
					case err[i] == nil && winner < 0:
						winner = i
					case err[i] == nil:
						t.Errorf("client %d, counter %d: two different requests were accepted", n, counter)
					case reason(err[i]) != "KSN_REPLAYED":
						t.Errorf("client %d, counter %d: %v", n, counter, err[i])
					}
				}
				if winner < 0 {
					t.Errorf("client %d, counter %d: neither request was accepted", n, counter)
					return
				}
				accepted.Add(1)
				if winner == 0 && !d.opens(issuer, []byte(block[0])) {
					t.Errorf("client %d, counter %d: a wrong PIN block", n, counter)
				}
				// The answer stands.
				again, failed := settle(pins, d.translation(counter, []*keydv1.PinKey{iso3, iso0Key}[winner]))
				if failed != nil || again != block[winner] {
					t.Errorf("client %d, counter %d: the answer is contradicted: %X, %v; it was %X", n, counter, again, failed, block[winner])
				}
				retries.Add(1)
				done.Add(1)
			}
		})
	}

	// Tries are allowed or not; one whose answer was lost may have been counted.
	var allowed [accounts]atomic.Int64
	for i := range allowed {
		pan := "543210123456" + strconv.Itoa(1000+10*i)
		for range 2 {
			a := tries{s, s.pins(), iso0Key, pvk}
			all.Go(func() {
				for !stopped() {
					switch a.verify(pan, 1, "0000") {
					case "true", "false":
						allowed[i].Add(1)
					case "RATE_LIMITED":
						select { // used up: now and then is enough to see that it stays so
						case <-stop:
						case <-time.After(20 * time.Millisecond):
						}
					}
				}
			})
		}
	}

	random := rand.New(rand.NewPCG(seed, 1))
	for range kills {
		before := done.Load()
		waitUntil(t, "work goes on", func() bool { return done.Load() >= before+int64(20+random.IntN(200)) || t.Failed() })
		if t.Failed() {
			break
		}
		victims := s.status().Processes
		victim := victims[random.IntN(len(victims))]
		if random.IntN(3) == 0 { // every process at once
			for _, p := range victims {
				kill(p)
			}
			continue
		}
		kill(victim)
	}
	close(stop)
	all.Wait()
	for i := range allowed {
		if n := allowed[i].Load(); n > limit {
			t.Errorf("account %d: %d tries were allowed, limit %d", i, n, limit)
		} else if n == 0 {
			t.Errorf("account %d: no try was allowed", i)
		}
	}
	t.Logf("%d KSNs accepted, %d retries, %d times UNAVAILABLE", accepted.Load(), retries.Load(), unavailable.Load())
	if accepted.Load() < clients {
		t.Errorf("only %d KSNs were accepted: the test shows little", accepted.Load())
	}
}
