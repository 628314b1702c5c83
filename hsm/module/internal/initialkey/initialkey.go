// Package initialkey derives the initial key of a terminal from a base derivation key (X9.24-1:2009
// A.6, X9.24-3:2017 6.3.3). The base derivation key itself stays in the token.
package initialkey

import (
	"errors"

	"github.com/miekg/pkcs11"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/keyblock"
)

// MaxSize is the size of the longest initial key, in bytes.
const MaxSize = 32

// Initial is an initial key that was derived.
type Initial struct {
	Value []byte            // in the caller's memory
	ID    [8]byte           // names it under its base derivation key
	Block keyblock.Optional // KS or IK, which names it in a key block
}

// Header returns the header of the key block in which it goes, of that version: usage B1, mode X.
func (i *Initial) Header(version, exportability byte, bdk *hsm.Header) *keyblock.Header {
	return &keyblock.Header{
		Version: version, Usage: "B1", Algorithm: bdk.Algorithm[0], Mode: 'X', KeyVersion: "00",
		Exportability: exportability, Reserved: "00", Blocks: []keyblock.Optional{i.Block},
	}
}

// Check refuses a key that is no base derivation key ([fault.KeyUsageMismatch]).
func Check(h *hsm.Header) error {
	if h.Usage != "B0" || h.Mode != "X" && h.Mode != "N" {
		return fault.New(fault.KeyUsageMismatch, "initial keys are those of base derivation keys (B0, mode of use X)")
	}
	if h.Object != "" { // nothing tells whether its value has another name here
		return fault.New(fault.KeyUsageMismatch, "initial keys of a key that lies in the token itself do not leave: whose they are could not be told from those of another name of its value")
	}
	return nil
}

// Derive derives the initial key with that identifier, 10 bytes for TDES (the key serial number
// with counter 0) and 8 for AES, into out, which is locked memory with room for [MaxSize] bytes.
//
// Errors are [fault.KeyUsageMismatch], [fault.KSNInvalid], and the token's.
func Derive(s *token.Session, bdk *sealing.Key, id, out []byte) (i Initial, err error) {
	h := bdk.Header
	if err := Check(h); err != nil {
		return i, err
	}
	if h.Algorithm == "T" {
		if len(id) != dukpt.TDESKSNSize {
			return i, fault.New(fault.KSNInvalid, "a TDES BDK takes 10 bytes")
		}
		ksn, err := dukpt.ParseInitialKSN(id)
		if err != nil {
			return i, fault.New(fault.KSNInvalid, "the counter of an initial key's KSN is 0")
		}
		i.ID = ksn.InitialKeyID()
		if err := s.Encrypt(pkcs11.CKM_DES3_ECB, bdk.Object, out[:8], i.ID[:]); err != nil {
			return i, err
		}
		if err := s.Encrypt(pkcs11.CKM_DES3_ECB, bdk.Twin, out[8:16], i.ID[:]); err != nil {
			return i, err
		}
		i.Block, i.Value = keyblock.NewKS([10]byte(id)), out[:16]
		return i, nil
	}
	if len(id) != 8 {
		return i, fault.New(fault.KSNInvalid, "an AES BDK takes an initial key ID of 8 bytes")
	}
	ksn, err := dukpt.ParseInitialKSN(append(id[:8:8], 0, 0, 0, 0))
	if err != nil {
		return i, fault.New(fault.KSNInvalid, "")
	}
	kind, err := dukpt.AESKeyType(int(h.Length))
	if err != nil {
		return i, err
	}
	path, err := dukpt.NewInitialKeyPath(ksn, kind)
	if err != nil {
		return i, err
	}
	if path.Len() != 1 {
		return i, errors.New("an initial key is derived in one step")
	}
	step := path.Step(0)
	if err := s.DeriveReadable(bdk.Object, step.Data[:step.DataLen], out[:kind.Size()]); err != nil {
		return i, err
	}
	i.ID, i.Block, i.Value = ksn.InitialKeyID(), keyblock.NewIK([8]byte(id)), out[:kind.Size()]
	return i, nil
}
