package simulator_test

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/pinblock"
	"keyd/simulator"
)

var bdk = []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}

// stateFile is the state of a new TDES terminal.
func stateFile(t *testing.T) string {
	t.Helper()
	ksn, err := dukpt.ParseInitialKSN([]byte{0xFF, 0xFF, 0x98, 0x76, 0x54, 0x32, 0x10, 0xE0, 0x00, 0x00})
	if err != nil {
		t.Fatal(err)
	}
	initial := make([]byte, 16)
	if err := software.TDESInitialKey(initial, bdk, ksn); err != nil {
		t.Fatal(err)
	}
	terminal, err := software.NewTerminal(initial, ksn)
	if err != nil {
		t.Fatal(err)
	}
	state, err := terminal.MarshalState()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "terminal.json")
	if err := os.WriteFile(path, state, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestNoKeyIsUsedTwice enciphers PINs from several goroutines, each with a terminal of
// its own on one file, and opens the blocks as the host does.
func TestNoKeyIsUsedTwice(t *testing.T) {
	path := stateFile(t)
	const pan = "4012345678909"
	account, err := pinblock.ParsePAN(pan)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[string]bool{}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 10 {
				sent, err := simulator.Open(path).EncryptPIN(pinblock.ISO0, pan, []byte("1234"))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[sent.KSN.String()] {
					t.Errorf("KSN %s was used twice", sent.KSN)
				}
				seen[sent.KSN.String()] = true
				mu.Unlock()
				key := make([]byte, 16)
				if err := software.TDESInitialKey(key, bdk, sent.KSN); err != nil {
					t.Error(err)
				}
				if err := software.TDESTransactionKey(key, key, sent.KSN); err != nil {
					t.Error(err)
				}
				if err := software.TDESWorkingKey(key, key, dukpt.VariantPIN); err != nil {
					t.Error(err)
				}
				var k software.TDESKey
				if err := k.Set(key); err != nil {
					t.Error(err)
				}
				k.Decrypt(sent.Block, sent.Block)
				var pin pinblock.PIN
				if err := pinblock.Decode(&pin, pinblock.ISO0, sent.Block, account); err != nil || pin.Len() != 4 || pin.Digit(3) != 4 {
					t.Errorf("the host does not find the PIN: %v", err)
				}
			}
		})
	}
	wait.Wait()
	if len(seen) != 40 {
		t.Errorf("%d KSNs", len(seen))
	}
}

// TestWhatIsRefusedUsesNoKey tries what a PIN pad does not do; the state stays.
func TestWhatIsRefusedUsesNoKey(t *testing.T) {
	path := stateFile(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]struct {
		format   pinblock.Format
		pan, pin string
	}{
		"a format of AES":  {pinblock.ISO4, "4012345678909", "1234"},
		"no such format":   {2, "4012345678909", "1234"},
		"no PAN":           {pinblock.ISO0, "", "1234"},
		"a PIN of letters": {pinblock.ISO0, "4012345678909", "12x4"},
		"a PIN too short":  {pinblock.ISO0, "4012345678909", "123"},
	} {
		if sent, err := simulator.Open(path).EncryptPIN(try.format, try.pan, []byte(try.pin)); err == nil || sent.Block != nil {
			t.Errorf("%s: %v, %v", name, sent, err)
		}
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the state changed: %v", err)
	}
	missing := filepath.Join(t.TempDir(), "none.json")
	if _, err := simulator.Open(missing).EncryptPIN(pinblock.ISO0, "4012345678909", []byte("1234")); err == nil {
		t.Error("a terminal without state enciphered a PIN")
	}
	if left, err := os.ReadDir(filepath.Dir(missing)); err != nil || len(left) != 0 {
		t.Errorf("something was left beside a missing state: %v", left)
	}
}
