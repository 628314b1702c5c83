package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	keydv1 "keyd/api/keyd/v1"
)

// TestKilledAndStoppedProcessesUnderLoad kills and stops modules and fronts while
// clients work: no answer is wrong, none is worse than UNAVAILABLE, and every process
// that went is replaced.
func TestKilledAndStoppedProcessesUnderLoad(t *testing.T) {
	ring := newKeyring()
	bdk := ring.add("B0", "T", "X", "0123456789ABCDEFFEDCBA9876543210")
	s := start(t, ring.keys...)
	defer func() { s.verifyLog() }() // whatever was killed
	request := translationUnder(t, ring, bdk)
	want := encrypt(tdes(t, unhex(t, zoneTDES)), iso0(t, "0", "1234", "F", "4012345678909"))

	var right, unavailable atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 8 {
		pins := s.pins()
		clients.Go(func() {
			for ctx.Err() == nil {
				call, cancel := context.WithTimeout(ctx, 5*time.Second)
				answer, err := pins.TranslatePinData(call, request)
				cancel()
				switch {
				case ctx.Err() != nil:
				case err == nil && bytes.Equal(answer.EncryptedPinBlock, want):
					right.Add(1)
				case status.Code(err) == codes.Unavailable:
					unavailable.Add(1)
				default:
					t.Errorf("a wrong answer or a worse error: %X, %v", answer.GetEncryptedPinBlock(), err)
					stop()
				}
			}
		})
	}
	defer func() { stop(); clients.Wait() }()

	served := func(what string, before time.Time) {
		t.Helper()
		// Served again: a run of answers without an UNAVAILABLE among them.
		for deadline := time.Now().Add(30 * time.Second); ; {
			r, u := right.Load(), unavailable.Load()
			waitUntil(t, what, func() bool { return right.Load() >= r+200 || ctx.Err() != nil })
			if unavailable.Load() == u || ctx.Err() != nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: no steady service after 30 s\n%s", what, s.logged())
			}
		}
		t.Logf("%s: steady service after %v", what, time.Since(before).Round(time.Millisecond))
	}
	served("start", time.Now())
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		for _, role := range []string{"module", "front"} {
			for round := range 2 {
				before := processes(s.status(), role)
				victim := before[round%len(before)]
				what := fmt.Sprintf("%s %v", role, signal)
				at := time.Now()
				if err := syscall.Kill(int(victim.Pid), signal); err != nil {
					t.Fatal(err)
				}
				waitUntil(t, what+": replaced", func() bool { return syscall.Kill(int(victim.Pid), 0) == syscall.ESRCH })
				served(what, at)
				after := processes(s.status(), role)
				if len(after) != len(before) {
					t.Errorf("%s: %d processes before, %d after", what, len(before), len(after))
				}
			}
		}
	}
	t.Logf("%d right answers, %d UNAVAILABLE", right.Load(), unavailable.Load())
}

// translationUnder is a translation of the PIN 1234 from a terminal with an initial key of a
// BDK (ANSI X9.24-1:2009 A.4.1) to a zone key.
func translationUnder(t *testing.T, ring *keyring, bdk string) *keydv1.TranslatePinDataRequest {
	t.Helper()
	return &keydv1.TranslatePinDataRequest{
		Incoming: &keydv1.PinKey{KeyId: bdk, Format: keydv1.PinBlockFormat_ISO_FORMAT_0,
			Dukpt: &keydv1.DukptAttributes{KeySerialNumber: unhex(t, "FFFF9876543210E00001")}},
		Outgoing:             zone(ring, keydv1.PinBlockFormat_ISO_FORMAT_0),
		PrimaryAccountNumber: "4012345678909",
		EncryptedPinBlock:    unhex(t, "1B9C1845EB993A7A"),
	}
}

// TestATokenThatAKilledLoginLeft empties the token's file, as SoftHSM does in each login
// and leaves it if the process is killed then: while keyd runs and loses its modules, and
// before a start.
func TestATokenThatAKilledLoginLeft(t *testing.T) {
	dir := filepath.Join(tempDir(t), "dev")
	ring := newKeyring()
	s := startIn(t, dir, ring.keys...)
	kcv := checkValue(t, s)
	empty := func() {
		files, err := filepath.Glob(filepath.Join(dir, "token", "tokens", "*", "token.object"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		if err := os.Truncate(files[0], 0); err != nil {
			t.Fatal(err)
		}
	}
	waitUntil(t, "both modules are ready", func() bool {
		ready := 0
		for _, p := range processes(s.status(), "module") {
			if p.State == "ready" {
				ready++
			}
		}
		return ready == 2
	})
	before := processes(s.status(), "module")
	empty()
	for _, p := range before {
		kill(p)
	}
	waitUntil(t, "modules are replaced", func() bool {
		for _, p := range processes(s.status(), "module") {
			if p.Restarts == 0 {
				return false
			}
		}
		return true
	})
	waitUntil(t, "work goes on", func() bool {
		answer, err := translated(t, s)
		if status.Code(err) == codes.Unavailable {
			return false
		}
		if err != nil || answer.KeyCheckValue != kcv {
			t.Fatalf("check value %s, %v, before %s", answer.GetKeyCheckValue(), err, kcv)
		}
		return true
	})
	s.stop()

	empty()
	if got := checkValue(t, startIn(t, dir)); got != kcv {
		t.Errorf("check value %s after another start, before %s", got, kcv)
	}
}

func processes(s *keydv1.GetStatusResponse, role string) (found []*keydv1.Process) {
	for _, p := range s.Processes {
		if p.Role == role {
			found = append(found, p)
		}
	}
	return found
}

// kill ends a process of the service at once. One that is about to be started has no
// process ID, and 0 would be this test's own process group.
func kill(p *keydv1.Process) {
	if p.Pid > 0 {
		_ = syscall.Kill(int(p.Pid), syscall.SIGKILL) // it may just have ended
	}
}

// waitUntil polls for a condition. Its limit only ends a test that would hang.
func waitUntil(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not happen within a minute", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
