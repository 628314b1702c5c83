package main

import (
	"bytes"
	"crypto/aes"
	"testing"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/pinblock"
)

func testWorkload(t testing.TB, o operation, terminals, age int) *workload {
	t.Helper()
	w, err := newWorkload(o, map[operation]string{tdesToZone: bdkTDES, aesToZone: bdkAES}[o], terminals, age, &cards{number: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// A request is what a terminal with its own key registers makes: the same KSNs in the
// same order, and a block that opens under the terminal's PIN key.
func TestRequestsAreThoseOfTerminals(t *testing.T) {
	for _, o := range []operation{tdesToZone, aesToZone} {
		w := testWorkload(t, o, 3, 2000)
		w.first = 7
		m, err := w.newMaker(0)
		if err != nil {
			t.Fatal(err)
		}
		for number := range uint32(3) {
			terminal := realTerminal(t, w, number)
			for at := range 300 {
				r, err := m.make(number)
				if err != nil {
					t.Fatal(err)
				}
				tx, err := terminal.Begin()
				for err == nil && at == 0 && tx.KSN().Counter() < r.counter { // what lies behind it
					tx, err = terminal.Begin()
				}
				if err != nil {
					t.Fatal(err)
				}
				var b [dukpt.AESKSNSize]byte
				if ksn := b[:w.putKSN(&b, r.terminal, r.counter)]; !bytes.Equal(ksn, tx.KSN().Bytes()) {
					t.Fatalf("%v: KSN %X, the terminal has %v", o, ksn, tx.KSN())
				}
				if got, want := openBlock(t, o, tx, r), pin(r.card); got != want {
					t.Fatalf("%v at %v: PIN %s, want %s", o, tx.KSN(), got, want)
				}
			}
		}
	}
}

// realTerminal is a terminal that was loaded with its initial key and has done nothing.
func realTerminal(t *testing.T, w *workload, number uint32) *software.Terminal {
	t.Helper()
	initial, err := w.initialKSN(number)
	if err != nil {
		t.Fatal(err)
	}
	ik := make([]byte, 16)
	if w.operation == tdesToZone {
		err = software.TDESInitialKey(ik, keyValue(w.incoming), initial)
	} else {
		path, e := dukpt.NewInitialKeyPath(initial, dukpt.AES128)
		if e != nil {
			t.Fatal(e)
		}
		err = software.AESDerive(ik, keyValue(w.incoming), path)
	}
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := software.NewTerminal(ik, initial)
	if err != nil {
		t.Fatal(err)
	}
	return terminal
}

// openBlock opens the block of a request under the PIN key of a terminal's transaction.
func openBlock(t *testing.T, o operation, tx *software.Transaction, r request) (digits [4]byte) {
	t.Helper()
	working, format := dukpt.TDES2Key, pinblock.ISO0
	if o == aesToZone {
		working, format = dukpt.AES128, pinblock.ISO4
	}
	key := make([]byte, 16)
	if err := tx.Key(key, dukpt.UsagePIN, working); err != nil {
		t.Fatal(err)
	}
	account := pan(r.card)
	parsed, err := pinblock.ParsePAN(string(account[:]))
	if err != nil {
		t.Fatal(err)
	}
	block := append([]byte(nil), r.block[:format.Size()]...)
	if o == aesToZone {
		c, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		c.Decrypt(block, block)
		if err := parsed.XORField4(block); err != nil {
			t.Fatal(err)
		}
		c.Decrypt(block, block)
	} else {
		var k software.TDESKey
		if err := k.Set(key); err != nil {
			t.Fatal(err)
		}
		k.Decrypt(block, block)
	}
	var p pinblock.PIN
	if err := pinblock.Decode(&p, format, block, parsed); err != nil {
		t.Fatalf("%v at %v: %v", o, tx.KSN(), err)
	}
	if p.Len() != 4 {
		t.Fatalf("a PIN of %d digits", p.Len())
	}
	for i := range digits {
		digits[i] = '0' + p.Digit(i)
	}
	return digits
}

// The mean number of derivations is that of the paths of the requests.
func TestStepsAreCounted(t *testing.T) {
	w := testWorkload(t, aesToZone, 2, 1) // counters 1, 2, 3, 4: 1, 1, 2, 1 one-bits, and two steps more each
	m, err := w.newMaker(0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(8) {
		if _, err := m.make(i % 2); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.meanSteps(); got != 3.25 {
		t.Errorf("%v steps, want 3.25", got)
	}
	if got := naive(w); got != (tokenCalls{TDES: 1, TDESBlocks: 1, AES: 2, Derive: 3.25}) {
		t.Errorf("calls: %+v", got)
	}
}

func TestTerminalsDoNotShareKSNs(t *testing.T) {
	seen := make(map[[8]byte]bool)
	for _, first := range []uint32{0, maxTerminals - 1000} {
		for _, o := range []operation{tdesToZone, aesToZone} {
			w := &workload{operation: o, first: first}
			for i := range uint32(1000) {
				ksn, err := w.initialKSN(i)
				if err != nil {
					t.Fatal(err)
				}
				if seen[ksn.InitialKeyID()] {
					t.Fatalf("%v: initial key %v twice", o, ksn)
				}
				seen[ksn.InitialKeyID()] = true
			}
		}
	}
}
