package working

import (
	"errors"

	"keyd/dukpt"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// derivation names a key that was derived from a BDK: what is kept under it is the
// same whichever sealed key the BDK came from.
type derivation struct {
	bdk string // fingerprint of the BDK's value
	id  dukpt.KeyID
}

// DeriveAES walks the derivation path of ANSI X9.24-3:2017 inside the token, to a working
// key that the caller destroys: each key is made by enciphering public data under the one
// before. Derivation keys from which those of later counters are derived are kept.
func (k *Keys) DeriveAES(s *token.Session, bdk *sealing.Key, ksn dukpt.KSN, usage dukpt.Usage, working dukpt.KeyType, rights token.Rights) (_ token.Object, err error) {
	path, err := dukpt.NewPath(ksn, bdkType(bdk.Header), usage, working)
	if err != nil {
		return 0, err
	}
	last := path.Len() - 1
	parent, next := bdk.Object, 0
	var held *token.Held[derivation, struct{}]
	for i := last - 1; i >= 0 && held == nil; i-- {
		if held = k.derived.Get(derivation{bdk.Header.Fingerprint, path.Step(i).ID}); held != nil {
			parent, next = held.Objects[0], i+1
		}
	}
	var own token.Object // a derivation key that no later counter needs
	defer func() {
		if held != nil {
			held.Release()
		}
		if own != 0 {
			err = errors.Join(err, s.Destroy(own))
		}
	}()
	for ; next < last; next++ {
		step := path.Step(next)
		keyType, length := pkcs11Type(step.Key)
		if step.ID.Counter&1 == 1 {
			if own, err = s.Derive(parent, step.Data[:step.DataLen], keyType, length, token.MayDerive); err != nil {
				return 0, err
			}
			parent = own
			continue
		}
		object, err := s.DeriveKept(parent, step.Data[:step.DataLen], keyType, length, token.MayDerive)
		if err != nil {
			return 0, err
		}
		fresh := k.derived.Add(derivation{bdk.Header.Fingerprint, step.ID}, struct{}{}, token.Objects{object})
		if held != nil {
			held.Release()
		}
		held, parent = fresh, fresh.Objects[0]
	}
	step := path.Step(last)
	keyType, length := pkcs11Type(step.Key)
	return s.Derive(parent, step.Data[:step.DataLen], keyType, length, rights)
}
