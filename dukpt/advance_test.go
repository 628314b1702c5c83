package dukpt_test

import (
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"keyd/dukpt"
)

// Advance counts as Next does: through all of the TDES counters, and over stretches of the
// AES ones.
func TestAdvance(t *testing.T) {
	k, err := dukpt.ParseInitialKSN(make([]byte, dukpt.TDESKSNSize))
	if err != nil {
		t.Fatal(err)
	}
	n := uint64(0)
	for ; ; n++ {
		if c, ok := dukpt.TDES.Advance(0, n); !ok || c != k.Counter() {
			t.Fatalf("%d transactions: %d, %t, want %d", n, c, ok, k.Counter())
		}
		if k, err = k.Next(); err != nil {
			break
		}
	}
	if n != 1_048_575 { // X9.24-1:2009 A.1: a device can do more than a million transactions
		t.Errorf("%d transactions", n)
	}
	if c, ok := dukpt.TDES.Advance(0, n+1); ok {
		t.Errorf("after the last counter comes %d", c)
	}
	rapid.Check(t, func(t *rapid.T) {
		scheme := rapid.SampledFrom([]dukpt.Scheme{dukpt.TDES, dukpt.AES}).Draw(t, "scheme")
		size := map[dukpt.Scheme]int{dukpt.TDES: dukpt.TDESKSNSize, dukpt.AES: dukpt.AESKSNSize}[scheme]
		b := make([]byte, size)
		binary.BigEndian.PutUint32(b[size-4:], rapid.Uint32Range(1, 1<<scheme.CounterBits()-1).Draw(t, "counter"))
		k, err := dukpt.ParseKSN(b)
		if err != nil {
			if _, ok := scheme.Advance(binary.BigEndian.Uint32(b[size-4:]), 0); ok {
				t.Fatal("a counter that the scheme does not have")
			}
			return
		}
		from := k.Counter()
		steps := rapid.Uint64Range(0, 300).Draw(t, "steps")
		left := true
		for range steps {
			if k, err = k.Next(); err != nil {
				left = false
				break
			}
		}
		c, ok := scheme.Advance(from, steps)
		if ok != left || ok && c != k.Counter() {
			t.Fatalf("%d and %d transactions: %d, %t; want %d, %t", from, steps, c, ok, k.Counter(), left)
		}
	})
	for _, c := range []struct {
		s            dukpt.Scheme
		from         uint32
		transactions uint64
	}{{0, 0, 1}, {dukpt.TDES, 1 << 21, 0}, {dukpt.TDES, 0, 1<<64 - 1}, {dukpt.AES, 0xFFFF0000, 1}, {dukpt.AES, 0, 1 << 33}} {
		if got, ok := c.s.Advance(c.from, c.transactions); ok {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
