package quorum

import (
	"strings"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/keyblocks"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/keyblock"
)

// What key blocks that come in and that leave have in common.

// narrower reports whether a key that may be used in one mode may be given the other.
func narrower(from, to string) bool {
	return from == to || from == "N" ||
		from == "B" && (to == "E" || to == "D") || from == "C" && (to == "G" || to == "V")
}

// exportabilities are those of X9.143-2021 table 6, each of which allows what those before it
// do: nothing, to pass the key on in trusted key blocks, and in other forms too.
const exportabilities = "NES"

// widens reports whether a key of one exportability would get away with more under another.
func widens(from, to byte) bool {
	return strings.IndexByte(exportabilities, to) > strings.IndexByte(exportabilities, from)
}

// protection opens the key block protection key that the definition names. ways are the
// modes of use that allow what is to be done.
func (w *work) protection(s *token.Session, ways string) (*sealing.Key, keyblocks.KBPK, error) {
	given, named := w.in.Under, w.def.Under
	if given == nil || given.Name != named.Name {
		return nil, keyblocks.KBPK{}, fault.New(fault.KeyNotFound, "under")
	}
	key, err := w.engine.keys.Open(s, *given)
	if err != nil {
		return nil, keyblocks.KBPK{}, err
	}
	h := key.Header
	switch {
	case h.Device != "":
		err = fault.New(fault.KeyUsageMismatch, "under is a terminal's master key")
	case h.Version != named.Version:
		err = fault.New(fault.KeyNotFound, "under: another version was given")
	case h.Usage != "K0" && h.Usage != "K1":
		err = fault.New(fault.KeyUsageMismatch, "under is no key block protection key (K0, K1)")
	case !strings.Contains(ways, h.Mode):
		err = fault.New(fault.KeyUsageMismatch, "under: mode of use "+h.Mode)
	}
	if err != nil {
		key.Release()
		return nil, keyblocks.KBPK{}, err
	}
	return &key, keyblocks.KBPK{
		Algorithm: h.Algorithm, Length: int(h.Length),
		Key: key.Object, EncryptionVariant: key.Twin, MACVariant: key.MACVariant,
	}, nil
}

// checkMethods are how the check values are made that keyd makes. A key block names none of
// an HMAC key.
var checkMethods = map[string]keyblock.CheckMethod{"T": keyblock.CheckEncryption, "A": keyblock.CheckCMAC}

// strength is that of a key in bits, as far as it matters for what may wrap it (NIST SP
// 800-57 part 1 table 2).
func strength(algorithm string, length int) int {
	switch {
	case algorithm == "T" && length <= 16:
		return 80
	case algorithm == "T":
		return 112
	case algorithm == "H":
		return min(8*length, 256)
	}
	return 8 * length
}

// checkStrength refuses a wrapping key that is weaker than what it wraps, unless the
// officers have said that it may be.
func (w *work) checkStrength(under *hsm.Header, algorithm string, length int) error {
	if w.def.AllowWeaker || strength(under.Algorithm, int(under.Length)) >= strength(algorithm, length) {
		return nil
	}
	reason := fault.ExportForbidden
	if w.def.Kind == ceremony.Import {
		reason = fault.KeyValueRefused
	}
	return fault.New(reason, "the key block protection key is weaker than the key: use a stronger one, or say allow_weaker")
}
