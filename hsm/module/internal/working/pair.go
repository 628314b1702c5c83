package working

import (
	"keyd/ceremony"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// Signing is [Pair] for one that signs.
func Signing(s *token.Session, masters *sealing.Set, admits Admission, key hsm.Key) (*hsm.Header, token.Pair, error) {
	return Pair(s, masters, admits, key, token.PairSigns)
}

// Pair finds the key pair in the token that a sealed header names, and which has a use, and returns
// the header too. It fails as [Keys.Open] does, and with [fault.KeyUsageMismatch] where it has another
// use.
func Pair(s *token.Session, masters *sealing.Set, admits Admission, key hsm.Key, use token.PairUse) (h *hsm.Header, pair token.Pair, err error) {
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
	case pair.Use != use && use == token.PairSigns:
		return nil, pair, fault.New(fault.KeyUsageMismatch, "this key pair does not sign")
	case pair.Use != use:
		return nil, pair, fault.New(fault.KeyUsageMismatch, "this key pair is not for this")
	}
	return h, pair, nil
}
