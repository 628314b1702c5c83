package keyuse_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"keyd/audit"
	"keyd/dukpt"
	"keyd/fault"
	"keyd/keyuse"
	"keyd/ksn"
	"keyd/store"
)

// recorded is an authorizer that is only asked for the entry.
type recorded struct {
	keyuse.Authorizer
}

func (recorded) Entry(context.Context) *audit.Entry { return new(audit.Entry) }

// TestRepeated: what becomes of a request whose answer is not kept.
func TestRepeated(t *testing.T) {
	keys, use := ledger(t)
	carried := 0
	run := func(counter byte, request string, accepted bool, fails error) (string, error) {
		return keyuse.Repeated(t.Context(), keys, use(counter), func() keyuse.Identity { return keyuse.NewIdentity(request) }, func(bool) (string, bool, error) {
			carried++
			return "answer", accepted, fails
		})
	}
	mismatch := fault.New(fault.KeyUsageMismatch, "")
	for _, c := range []struct {
		what     string
		counter  byte
		request  string
		accepted bool
		fails    error
		want     fault.Reason // 0: the answer
	}{
		{"not accepted", 5, "a", false, nil, 0},
		{"the same counter, accepted", 5, "b", true, nil, 0},
		{"an identical retry", 5, "b", true, nil, 0},
		{"an identical retry that fails now", 5, "b", true, mismatch, fault.KeyUsageMismatch},
		{"another request, which a module carries out all the same", 5, "a", true, nil, fault.KSNReplayed},
		{"the same, and not accepted", 5, "a", false, nil, fault.KSNReplayed},
		{"an older counter", 4, "c", false, nil, fault.KSNReplayed},
		{"a failure", 6, "c", true, mismatch, fault.KeyUsageMismatch},
		{"its counter", 6, "d", true, nil, 0},
	} {
		before := carried
		answer, err := run(c.counter, c.request, c.accepted, c.fails)
		if c.want == 0 && (answer != "answer" || err != nil) || c.want != 0 && (answer != "" || fault.Of(err).Reason != c.want) {
			t.Errorf("%s: %q, %v; want %v", c.what, answer, err, c.want)
		}
		if carried != before+1 {
			t.Errorf("%s: carried out %d times", c.what, carried-before)
		}
	}
}

// TestRepeatedAtOnce: of different requests with one key serial number one is answered.
func TestRepeatedAtOnce(t *testing.T) {
	keys, use := ledger(t)
	var answered atomic.Int32
	var begun, wait sync.WaitGroup
	begun.Add(8)
	for i := range 8 {
		wait.Go(func() {
			answer, err := keyuse.Repeated(t.Context(), keys, use(9), func() keyuse.Identity { return keyuse.NewIdentity(strings.Repeat("x", i)) }, func(bool) (string, bool, error) {
				begun.Done()
				begun.Wait() // all have found the number fresh
				return "answer", true, nil
			})
			switch {
			case err == nil && answer == "answer":
				answered.Add(1)
			case answer != "" || !errors.Is(err, fault.New(fault.KSNReplayed, "")):
				t.Errorf("%q, %v", answer, err)
			}
		})
	}
	wait.Wait()
	if n := answered.Load(); n != 1 {
		t.Errorf("%d of 8 are answered", n)
	}
}

// ledger returns keys over a fresh record, and the use of a terminal's counter.
func ledger(t *testing.T) (*keyuse.Keys, func(counter byte) keyuse.Serials) {
	t.Helper()
	database, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "keyd.db"))
	if err != nil {
		t.Fatal(err)
	}
	serials, err := ksn.Open(t.Context(), database, ksn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(serials.Close(), database.Close()); err != nil {
			t.Error(err)
		}
	})
	return keyuse.New(nil, serials, recorded{}), func(counter byte) keyuse.Serials {
		serial, err := dukpt.ParseKSN([]byte{0xff, 0xff, 0x98, 0x76, 0x54, 0x32, 0x10, 0xe0, 0, counter})
		if err != nil {
			t.Fatal(err)
		}
		return keyuse.Serials{{Fingerprint: strings.Repeat("7", 32), KSN: serial, Class: ksn.MACRequest}}
	}
}
