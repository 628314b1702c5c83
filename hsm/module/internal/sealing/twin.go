package sealing

import (
	"keyd/dukpt"
	"keyd/hsm"
	"keyd/hsm/module/internal/token"
)

// Some keys are sealed together with others, their twins, which a token computes with
// where a standard takes the key apart: no PKCS#11 mechanism makes one of the other.

// doubleLength reports whether the TDES keys of a usage have 16 bytes and no other size:
// X9.24-1 knows double-length BDKs only, and ISO 9797-1 algorithm 3 and card verification
// values use the two halves of their key apart.
func doubleLength(usage string) bool { return usage == "B0" || usage == "M3" || usage == "C0" }

// protectsBlocks reports whether keys of a usage are key block protection keys.
func protectsBlocks(usage string) bool { return usage == "K0" || usage == "K1" }

// twins is how many twins a sealed key carries as further parts. A terminal's master key has none:
// its key blocks are of versions that derive.
func twins(h *hsm.Header) int {
	switch {
	case h.Algorithm != "T":
		return 0
	case protectsBlocks(h.Usage) && h.Device != "":
		return 0
	case protectsBlocks(h.Usage):
		return 2
	case h.Length == 16 && doubleLength(h.Usage):
		return 1
	}
	return 0
}

// The variants of a key block protection key, for versions A and C (X9.143-2021 7.3): the
// key XORed with one of these in every byte.
const (
	encryptionVariant = 0x45
	macVariant        = 0x4D
)

// putTwin writes the twin with that index, from 0, of a key. That of a BDK is combined with the
// mask of its initial keys' right halves (X9.24-1:2009 A.6). That of an M3 or C0 key is its
// left half twice, with which TDES is single DES under that half. Those of a key block
// protection key are its variants.
func putTwin(twin, key []byte, usage string, index int) {
	switch {
	case usage == "B0":
		mask := dukpt.TDESInitialKeyMask()
		for i := range twin {
			twin[i] = key[i] ^ mask[i]
		}
	case protectsBlocks(usage):
		variant := [2]byte{encryptionVariant, macVariant}[index]
		for i := range twin {
			twin[i] = key[i] ^ variant
		}
	default:
		copy(twin, key[:8])
		copy(twin[8:], key[:8])
	}
}

// twinRights are the rights of a key's twins.
func twinRights(h *hsm.Header) token.Rights {
	if protectsBlocks(h.Usage) {
		return blockRights(h)
	}
	return token.MayEncrypt
}

// blockRights are those of the variants: by mode of use they encipher keys, decipher them,
// or both. The MAC is the end of a CBC encipherment.
func blockRights(h *hsm.Header) token.Rights {
	r := token.MayEncrypt
	if h.Mode == "D" || h.Mode == "B" || h.Mode == "N" {
		r |= token.MayDecrypt
	}
	return r
}
