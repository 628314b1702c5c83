package working

import (
	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// Signing finds the key pair in the token that a sealed header names, and which signs, and returns
// the header too. It fails
// as [Keys.Open] does, and with [fault.KeyUsageMismatch] where it does not sign.
func Signing(s *token.Session, masters *sealing.Set, admits Admission, key hsm.Key) (h *hsm.Header, pair token.Pair, err error) {
	h, pair, err = masters.Pair(s, key.Sealed)
	if err != nil {
		return nil, pair, err
	}
	digest, err := ceremony.HeaderDigest(h)
	if err != nil {
		return nil, pair, err
	}
	if h.Name != key.Name {
		return nil, pair, fault.New(fault.KeySealInvalid, "")
	}
	if err := admits.Admit(h, digest); err != nil {
		return nil, pair, err
	}
	switch {
	case !h.ValidAt(admits.Now()):
		return nil, pair, fault.New(fault.KeyDisabled, "")
	case pair.Use != token.PairSigns:
		return nil, pair, fault.New(fault.KeyUsageMismatch, "this key pair does not sign")
	}
	return h, pair, nil
}
