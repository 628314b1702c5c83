package pinverify

import (
	"encoding"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"keyd/pinblock"
)

// TestNoAllocation: nothing here allocates, and all of it works in pages that are not
// the Go runtime's.
func TestNoAllocation(t *testing.T) {
	page, err := syscall.Mmap(-1, 0, os.Getpagesize(), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(page) }()
	pin := pinblock.PINIn((*[pinblock.PINSize]byte)(page))
	natural := NaturalIn((*[NaturalSize]byte)(page[16:]))
	tsp, validation := (*[TSPSize]byte)(page[32:]), (*[ValidationSize]byte)(page[40:])
	pvv := (*[PVVSize]byte)(page[48:])
	encipheredTSP, encipheredValidation := (*[TSPSize]byte)(page[64:]), (*[ValidationSize]byte)(page[72:])
	*encipheredTSP, *encipheredValidation = knownEncipheredTSP, knownEncipheredValidation
	pan, rule, digits := mustPAN(t, "5432101234567890"), validRule(), []byte("1234")

	var failed error
	allocs := testing.AllocsPerRun(100, func() {
		m, err0 := NewIBM3624(rule)
		err1 := pin.SetDigits(digits)
		err2 := PutTSP(tsp, pan, 1, pin)
		PutPVV(pvv, encipheredTSP)
		ok3, err3 := VerifyPVV(pvv, pin, knownPVV)
		err4 := m.PutValidationData(validation, pan)
		err5 := m.NaturalPIN(natural, encipheredValidation)
		ok6, err6 := natural.Verify(pin, knownOffset)
		natural.Destroy()
		for _, err := range [...]error{err0, err1, err2, err3, err4, err5, err6} {
			if err != nil {
				failed = err
			}
		}
		if !ok3 || !ok6 {
			failed = ErrPVV
		}
	})
	if failed != nil {
		t.Error(failed)
	}
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if natural.d != ([NaturalSize]byte{}) || page[16] != 0 {
		t.Error("Destroy leaves digits")
	}
}

// TestLayout: what NaturalIn relies on.
func TestLayout(t *testing.T) {
	if s, a := unsafe.Sizeof(Natural{}), unsafe.Alignof(Natural{}); s != NaturalSize || a != 1 {
		t.Errorf("size %d, alignment %d", s, a)
	}
}

// TestNaturalIsRedacted: no way to print a natural PIN shows a digit of it.
func TestNaturalIsRedacted(t *testing.T) {
	natural := naturalOf("8037124404501000")
	for _, v := range []any{natural, *natural, []Natural{*natural}, struct{ N Natural }{*natural}} {
		var out []string
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c"} {
			out = append(out, fmt.Sprintf(verb, v))
		}
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var text, js strings.Builder
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&js, nil)).Info("m", "v", v)
		if m, ok := v.(interface {
			fmt.Stringer
			fmt.GoStringer
			encoding.TextMarshaler
		}); ok {
			b, err := m.MarshalText()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, m.String(), m.GoString(), string(b))
		}
		for _, s := range append(out, string(j), text.String(), js.String()) {
			if !strings.Contains(s, "[REDACTED]") {
				t.Errorf("%T printed as %s", v, s)
			}
		}
	}
}

func BenchmarkVisa(b *testing.B) {
	var tsp [TSPSize]byte
	var pvv [PVVSize]byte
	pan, pin := mustPAN(b, "5432101234567890"), hexPIN(b, "1234")
	b.ReportAllocs()
	for b.Loop() {
		err := PutTSP(&tsp, pan, 1, pin)
		PutPVV(&pvv, &knownEncipheredTSP)
		if ok, verr := VerifyPVV(&pvv, pin, knownPVV); err != nil || verr != nil || !ok {
			b.Fatal("not verified")
		}
	}
}

func BenchmarkIBM3624(b *testing.B) {
	var data [ValidationSize]byte
	var natural Natural
	m, err := NewIBM3624(validRule())
	if err != nil {
		b.Fatal(err)
	}
	pan, pin := mustPAN(b, "5432101234567890"), hexPIN(b, "1234")
	b.ReportAllocs()
	for b.Loop() {
		err := m.PutValidationData(&data, pan)
		nerr := m.NaturalPIN(&natural, &knownEncipheredValidation)
		if ok, verr := natural.Verify(pin, knownOffset); err != nil || nerr != nil || verr != nil || !ok {
			b.Fatal("not verified")
		}
	}
}
