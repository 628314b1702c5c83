package sealing

import (
	"keyd/dukpt"
	"keyd/hsm"
)

// Some keys are sealed together with a second one, their twin, which a token computes with
// where a standard takes the key apart: no PKCS#11 mechanism makes one of the other.

// doubleLength reports whether the TDES keys of a usage have 16 bytes and no other size:
// X9.24-1 knows double-length BDKs only, and ISO 9797-1 algorithm 3 and card verification
// values use the two halves of their key apart.
func doubleLength(usage string) bool { return usage == "B0" || usage == "M3" || usage == "C0" }

// hasTwin reports whether a sealed key carries its twin as second part.
func hasTwin(h *hsm.Header) bool {
	return h.Algorithm == "T" && h.Length == 16 && doubleLength(h.Usage)
}

// putTwin writes the twin of a key of 16 bytes. That of a BDK is combined with the mask of
// its initial keys' right halves (X9.24-1:2009 A.6). That of an M3 or C0 key is its left
// half twice, with which TDES is single DES under that half.
func putTwin(twin, key []byte, usage string) {
	if usage != "B0" {
		copy(twin, key[:8])
		copy(twin[8:], key[:8])
		return
	}
	mask := dukpt.TDESInitialKeyMask()
	for i := range twin {
		twin[i] = key[i] ^ mask[i]
	}
}
