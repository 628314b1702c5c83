package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	keydv1 "keyd/api/keyd/v1"
	"keyd/client"
)

// clientOf returns a client of services that have the same certificates.
func clientOf(t testing.TB, services ...*service) *client.Client {
	t.Helper()
	certs := filepath.Join(services[0].dir, "certs")
	config := client.Config{
		CA: filepath.Join(certs, "ca.crt"), Certificate: filepath.Join(certs, "switch.crt"), Key: filepath.Join(certs, "switch.key"),
	}
	for _, s := range services {
		config.Addresses = append(config.Addresses, s.address)
	}
	c, err := client.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	waitUntil(t, "all keyds serve", func() bool { return len(c.Serving()) == len(services) })
	return c
}

// startTwo runs two services with the same keys and certificates, and databases of their
// own.
func startTwo(t testing.TB, keys ...testKey) [2]*service {
	t.Helper()
	first := start(t, keys...)
	first.stop()
	dir := filepath.Join(tempDir(t), "dev")
	if out, err := exec.Command("cp", "-a", first.dir, dir).CombinedOutput(); err != nil {
		t.Fatalf("copy the directory: %v\n%s", err, out)
	}
	return [2]*service{startIn(t, first.dir), startIn(t, dir)}
}

// again starts a service that has ended, where it was.
func (s *service) again() *service {
	s.t.Helper()
	return startWith(s.t, s.dir, []string{"--listen", s.address})
}

// clientLoad calls from many goroutines through one client, each call once as far as the
// caller can see. No call may fail, and no answer may be wrong.
type clientLoad struct {
	t       *testing.T
	ring    *keyring
	pins    keydv1.PinServiceClient
	stream  *client.Stream
	next    atomic.Uint32 // terminal
	unary   atomic.Int64
	items   atomic.Int64
	failed  atomic.Int64
	slowest atomic.Int64
	ctx     context.Context
	all     sync.WaitGroup
}

// newClientLoad begins to call, until stop.
func newClientLoad(t *testing.T, ring *keyring, c *client.Client, bdk, pvk string) (_ *clientLoad, stop func()) {
	t.Helper()
	l := &clientLoad{t: t, ring: ring, pins: c.Pin(), stream: c.Stream(client.StreamConfig{})}
	var cancel context.CancelFunc
	l.ctx, cancel = context.WithCancel(t.Context())
	for range 16 {
		l.terminal(bdk, &l.unary, func(ctx context.Context, r *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error) {
			return l.pins.TranslatePinData(ctx, r)
		})
		l.terminal(bdk, &l.items, l.stream.Translate)
		l.zone(pvk)
	}
	return l, func() {
		cancel()
		l.all.Wait()
		t.Logf("%d calls, %d items of streams; the slowest took %v", l.unary.Load(), l.items.Load(), time.Duration(l.slowest.Load()).Round(time.Millisecond))
	}
}

// call makes one call and says whether it was answered. The deadline is for a machine that
// is busy with other tests too.
func (l *clientLoad) call(count *atomic.Int64, what string, call func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	began := time.Now()
	if err := call(ctx); err != nil {
		l.failed.Add(1)
		l.t.Errorf("%s failed after %v: %v", what, time.Since(began), err)
		return false
	}
	for took := int64(time.Since(began)); ; {
		if slowest := l.slowest.Load(); took <= slowest || l.slowest.CompareAndSwap(slowest, took) {
			break
		}
	}
	count.Add(1)
	return true
}

// terminal translates blocks of one terminal, whose KSNs are accepted once.
func (l *clientLoad) terminal(bdk string, count *atomic.Int64, translate func(context.Context, *keydv1.TranslatePinDataRequest) (*keydv1.TranslatePinDataResponse, error)) {
	d := newTerminal(l.t, l.ring, bdk, l.next.Add(1))
	out := zone(l.ring, keydv1.PinBlockFormat_ISO_FORMAT_3)
	issuer := tdes(l.t, unhex(l.t, zoneTDES))
	l.all.Go(func() {
		for counter := uint32(1); l.ctx.Err() == nil; counter++ {
			if bits.OnesCount32(counter) > 10 {
				continue
			}
			r := d.translation(counter, out)
			if !l.call(count, "a terminal's translation", func(ctx context.Context) error {
				answer, err := translate(ctx, r)
				if err == nil && !d.opens(issuer, answer.EncryptedPinBlock) {
					err = fmt.Errorf("a wrong PIN block: %X", answer.EncryptedPinBlock)
				}
				return err
			}) {
				return
			}
		}
	})
}

// zone translates from zone to zone, in both ways, and verifies.
func (l *clientLoad) zone(pvk string) {
	key := zone(l.ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	block := encrypt(tdes(l.t, unhex(l.t, zoneTDES)), iso0(l.t, "0", "1234", "F", "4012345678909"))
	request := &keydv1.TranslatePinDataRequest{Incoming: key, Outgoing: key, PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: block}
	same := func(answer *keydv1.TranslatePinDataResponse, err error) error {
		if err == nil && !bytes.Equal(answer.EncryptedPinBlock, block) {
			err = fmt.Errorf("a wrong PIN block: %X", answer.EncryptedPinBlock)
		}
		return err
	}
	verify := &keydv1.VerifyPinDataRequest{Incoming: key, VerificationKeyId: pvk, PrimaryAccountNumber: "4012345678909", EncryptedPinBlock: block,
		Expected: &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: 1, Pvv: "0000"}}}}
	l.all.Go(func() {
		for l.ctx.Err() == nil {
			if !l.call(&l.unary, "a translation", func(ctx context.Context) error { return same(l.pins.TranslatePinData(ctx, request)) }) ||
				!l.call(&l.items, "an item", func(ctx context.Context) error { return same(l.stream.Translate(ctx, request)) }) ||
				!l.call(&l.unary, "a verification", func(ctx context.Context) error { _, err := l.pins.VerifyPinData(ctx, verify); return err }) {
				return
			}
		}
	})
}

// goesOn returns when calls of both kinds have been answered after now.
func (l *clientLoad) goesOn(what string) {
	l.t.Helper()
	began, unary, items := time.Now(), l.unary.Load(), l.items.Load()
	waitUntil(l.t, what, func() bool {
		return l.failed.Load() > 0 || l.unary.Load() > unary+1000 && l.items.Load() > items+1000
	})
	if l.failed.Load() > 0 {
		l.t.Fatalf("%s: calls have failed", what)
	}
	l.t.Logf("%s: goes on after %v", what, time.Since(began).Round(time.Millisecond))
}

// TestClientLosesNoCallWithTwoKeyds drains one of two services, and kills every process of
// the other, while many goroutines call: no call fails.
func TestClientLosesNoCallWithTwoKeyds(t *testing.T) {
	ring := newKeyring()
	bdk := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210", once)
	pvk := ring.add("V2", "T", "V", "0123456789ABCDEFFEDCBA9876543210")
	services := startTwo(t, ring.keys...)
	c := clientOf(t, services[0], services[1])
	l, stop := newClientLoad(t, ring, c, bdk, pvk)
	defer stop()
	l.goesOn("start")

	// SIGTERM: what is under way is answered, the rest goes to the other.
	services[0].stop()
	waitUntil(t, "it is taken out", func() bool { return len(c.Serving()) == 1 })
	l.goesOn("one was drained")
	services[0] = services[0].again()
	waitUntil(t, "it is back", func() bool { return len(c.Serving()) == 2 })
	l.goesOn("it came back")

	// kill -9 of a whole keyd: answers are lost.
	victims := services[1].status().Processes
	if err := services[1].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, p := range victims {
		kill(p)
	}
	<-services[1].ended
	for _, p := range victims {
		waitUntil(t, p.Role+" has ended", func() bool { return syscall.Kill(int(p.Pid), 0) == syscall.ESRCH })
	}
	l.goesOn("the other was killed")
	services[1] = services[1].again()
	waitUntil(t, "it is back", func() bool { return len(c.Serving()) == 2 })
	l.goesOn("it came back")
}

// TestClientLosesNoCallWhileProcessesAreKilled kills front and modules of the only
// service, which its supervisor replaces: calls wait, and none fails.
func TestClientLosesNoCallWhileProcessesAreKilled(t *testing.T) {
	ring := newKeyring()
	bdk := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210", once)
	pvk := ring.add("V2", "T", "V", "0123456789ABCDEFFEDCBA9876543210")
	s := start(t, ring.keys...)
	l, stop := newClientLoad(t, ring, clientOf(t, s), bdk, pvk)
	defer stop()
	l.goesOn("start")
	for _, role := range []string{"front", "module", "front"} {
		kill(processes(s.status(), role)[0])
		l.goesOn(role + " was killed")
	}
}

// TestClientExamples runs the programs under examples.
func TestClientExamples(t *testing.T) {
	s := start(t)
	for name, want := range map[string]string{
		"switch-unary":  "translated  85BC68E1BACA5ED5\nthe PIN is  right\n",
		"switch-stream": "; 0 failed\n",
	} {
		cmd := exec.CommandContext(t.Context(), "go", "run", "../examples/"+name, "-certs", filepath.Join(s.dir, "certs"), s.address)
		cmd.Env = append(os.Environ(), "GOEXPERIMENT=runtimesecret")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.HasSuffix(string(out), want) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// BenchmarkClient translates from zone to zone from 256 goroutines, with calls and on
// streams.
func BenchmarkClient(b *testing.B) {
	ring := newKeyring()
	key := zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0)
	request := &keydv1.TranslatePinDataRequest{Incoming: key, Outgoing: key, PrimaryAccountNumber: "4012345678909",
		EncryptedPinBlock: encrypt(tdes(b, unhex(b, zoneTDES)), iso0(b, "0", "1234", "F", "4012345678909"))}
	c := clientOf(b, start(b, ring.keys...))
	stream := c.Stream(client.StreamConfig{})
	for _, way := range []struct {
		name      string
		translate func(context.Context) error
	}{
		{"unary", func(ctx context.Context) error { _, err := c.Pin().TranslatePinData(ctx, request); return err }},
		{"stream", func(ctx context.Context) error { _, err := stream.Translate(ctx, request); return err }},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.SetParallelism(128) // of two processors
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := way.translate(b.Context()); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "translations/s")
		})
	}
}
