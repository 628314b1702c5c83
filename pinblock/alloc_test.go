package pinblock

import (
	"os"
	"syscall"
	"testing"
	"unsafe"
)

// TestNoAllocation: nothing that handles a PIN allocates, so that no copy of it gets to
// the Go heap, and all of it works in pages that are not the Go runtime's.
func TestNoAllocation(t *testing.T) {
	page, err := syscall.Mmap(-1, 0, os.Getpagesize(), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(page) }()
	pin := PINIn((*[PINSize]byte)(page))
	other := PINIn((*[PINSize]byte)(page[16:]))
	random := (*[RandomSize]byte)(page[32:])
	digits := page[40:46]
	copy(digits, "123456")
	pan := mustPAN(t, testPAN)

	for _, f := range []Format{ISO0, ISO1, ISO3, ISO4} {
		block := page[64 : 64+f.Size()]
		var failed error
		allocs := testing.AllocsPerRun(100, func() {
			for _, err := range [...]error{
				pin.SetDigits(digits),
				Encode(block, f, pin, pan, random),
				pan.XORField4(page[128:144]),
				Decode(other, f, block, pan),
			} {
				if err != nil {
					failed = err
				}
			}
			if !other.Equal(pin) || !other.Decimal() || other.Len() != 6 || other.Digit(5) != 6 {
				failed = ErrPIN
			}
			block[0] ^= 0x80
			if Decode(other, f, block, pan) != ErrBlock {
				failed = ErrBlock
			}
			pin.Destroy()
		})
		if failed != nil {
			t.Errorf("%s: %v", f, failed)
		}
		if allocs != 0 {
			t.Errorf("%s: %v allocations", f, allocs)
		}
	}
	if unsafe.Pointer(pin) != unsafe.Pointer(&page[0]) {
		t.Error("the PIN is not in the page")
	}
}

func BenchmarkDecode(b *testing.B) {
	pan := mustPAN(b, testPAN)
	for _, f := range []Format{ISO0, ISO1, ISO3, ISO4} {
		pin, random := filledPIN(b), [RandomSize]byte{1}
		block := make([]byte, f.Size())
		if err := Encode(block, f, pin, pan, &random); err != nil {
			b.Fatal(err)
		}
		b.Run(f.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Decode(pin, f, block, pan); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	pan := mustPAN(b, testPAN)
	for _, f := range []Format{ISO0, ISO1, ISO3, ISO4} {
		pin, random := filledPIN(b), [RandomSize]byte{1}
		block := make([]byte, f.Size())
		b.Run(f.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Encode(block, f, pin, pan, &random); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
