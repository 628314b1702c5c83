package pinsvc

import (
	"context"
	"strings"
	"testing"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/keyuse"
	"keyd/ksn"
)

// TestWhatTheModuleIsTold: what the record refuses, or cannot say, is not carried out,
// and only what comes before the key serial number wins over that.
func TestWhatTheModuleIsTold(t *testing.T) {
	ctx := context.Background()
	terminal := byte(0x10)
	use := func(counter byte) keyuse.Serials {
		serial, err := dukpt.ParseKSN([]byte{0xff, 0xff, 0x98, 0x76, 0x54, 0x32, terminal, 0xe0, 0, counter})
		if err != nil {
			t.Fatal(err)
		}
		return keyuse.Serials{{Fingerprint: strings.Repeat("7", 32), KSN: serial, Class: ksn.PINIncoming}}
	}
	s := newService(t)
	expect := func(what string, counter byte, request string, module error, told bool, want fault.Reason) {
		t.Helper()
		asked := false
		answer, err := s.keys.Once(ctx, use(counter), []byte(request), func(refused bool) ([]byte, error) {
			asked = true
			if refused != told {
				t.Errorf("%s: the module is told %t", what, refused)
			}
			if refused && module == nil {
				return nil, fault.New(fault.KSNReplayed, "")
			}
			return []byte("answer"), module
		})
		switch {
		case !asked:
			t.Errorf("%s: the module is not asked", what)
		case want == 0 && (err != nil || string(answer) != "answer"):
			t.Errorf("%s: %q, %v", what, answer, err)
		case want != 0 && (answer != nil || fault.Of(err).Reason != want):
			t.Errorf("%s: %q, %v, want %v", what, answer, err, want)
		}
	}
	mismatch, block := fault.New(fault.KeyUsageMismatch, ""), fault.New(fault.PINBlockInvalid, "")

	expect("fresh, with a wrong block", 5, "a", block, false, fault.PINBlockInvalid)
	expect("fresh", 5, "a", nil, false, 0)
	expect("replayed", 5, "b", nil, true, fault.KSNReplayed)
	expect("older", 4, "b", nil, true, fault.KSNReplayed)
	expect("replayed, with a wrong key", 5, "b", mismatch, true, fault.KeyUsageMismatch)
	stored, err := s.keys.Once(ctx, use(5), []byte("a"), func(bool) ([]byte, error) {
		t.Error("the module is asked for a retry")
		return nil, block
	})
	if err != nil || string(stored) != "answer" {
		t.Errorf("a retry: %q, %v", stored, err)
	}

	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	terminal = 0x12 // nothing is known of it
	expect("without a store", 1, "c", nil, true, fault.StoreUnavailable)
	expect("without a store, with a wrong key", 1, "c", mismatch, true, fault.KeyUsageMismatch)
}
