package pinops

import (
	"errors"

	"github.com/miekg/pkcs11"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
)

// cipher says what enciphers PIN blocks under the key that an operation names: a key
// in the token, static or an AES DUKPT working key, or a TDES DUKPT working key in the
// lane's workspace, since no PKCS#11 mechanism derives one.
type cipher struct {
	mechanism uint
	object    token.Object
	derived   bool      // object was made for this operation
	memory    bool      // instead of object: derived from the workspace's initial key
	ksn       dukpt.KSN // memory only
}

func (b *batch) deriveIncoming() {
	b.derive(func(l *lane) (*cipher, *sealing.Key, *hsm.PINKey) {
		key, _ := l.input()
		return &l.incoming, &l.keys[0], key
	})
}

func (b *batch) deriveOutgoing() {
	b.derive(func(l *lane) (*cipher, *sealing.Key, *hsm.PINKey) {
		if l.op.Translate == nil {
			return nil, nil, nil
		}
		return &l.outgoing, &l.keys[1], &l.op.Translate.Outgoing
	})
}

// derive makes a cipher for one PIN key of each lane that has one.
func (b *batch) derive(side func(*lane) (*cipher, *sealing.Key, *hsm.PINKey)) {
	var halves []ecb
	for l := range b.going {
		c, k, p := side(l)
		switch {
		case c == nil:
		case k.Header.Usage != "B0":
			*c = cipher{mechanism: k.Mechanism(), object: k.Object}
		case isDUKPT(k, dukpt.TDES):
			// ANSI X9.24-1:2009 §A.6: the token enciphers the initial key ID under the BDK and
			// the masked BDK, which gives the initial key's halves.
			id := p.KSN.InitialKeyID()
			copy(l.working[:8], id[:])
			halves = append(halves,
				ecb{l, pkcs11.CKM_DES3_ECB, k.Object, l.ik[:8], l.working[:8]},
				ecb{l, pkcs11.CKM_DES3_ECB, k.Masked, l.ik[8:], l.working[:8]})
			*c = cipher{memory: true, ksn: p.KSN}
		default:
			if err := b.deriveAES(c, k, p); err != nil {
				b.fail(l, err)
			}
		}
	}
	b.together(encrypt, halves)
}

// expand computes the PIN encryption key of ANSI X9.24-1:2009 §A.4 from the initial key
// in the workspace, which it forgets. It is called within erase.Do.
func (l *lane) expand(key *software.TDESKey, ksn dukpt.KSN) error {
	err := errors.Join(
		software.TDESTransactionKey(l.working[:], l.ik[:], ksn),
		software.TDESWorkingKey(l.working[:], l.working[:], dukpt.VariantPIN),
		key.Set(l.working[:]))
	clear(l.ik[:])
	clear(l.working[:])
	return err
}

// derivation names a key that was derived from a BDK: what is kept under it is the
// same whichever sealed key the BDK came from.
type derivation struct {
	bdk string // fingerprint of the BDK's value
	id  dukpt.KeyID
}

// deriveAES walks the derivation path of ANSI X9.24-3:2017 inside the token: each key
// is made by enciphering public data under the one before. Derivation keys from which
// those of later counters are derived are kept.
func (b *batch) deriveAES(c *cipher, k *sealing.Key, p *hsm.PINKey) (err error) {
	working := workingType(p.WorkingType)
	path, err := dukpt.NewPath(p.KSN, bdkType(k.Header), dukpt.UsagePIN, working)
	if err != nil {
		return err
	}
	last := path.Len() - 1
	parent, next := k.Object, 0
	var held *token.Held[derivation, struct{}]
	for i := last - 1; i >= 0 && held == nil; i-- {
		if held = b.derived.Get(derivation{k.Header.Fingerprint, path.Step(i).ID}); held != nil {
			parent, next = held.Objects[0], i+1
		}
	}
	var own token.Object // a derivation key that no later counter needs
	defer func() {
		if held != nil {
			held.Release()
		}
		if own != 0 {
			err = errors.Join(err, b.session.Destroy(own))
		}
	}()
	for ; next < last; next++ {
		step := path.Step(next)
		keyType, length := pkcs11Type(step.Key)
		if step.ID.Counter&1 == 1 {
			if own, err = b.session.Derive(parent, step.Data[:step.DataLen], keyType, length, token.MayDerive); err != nil {
				return err
			}
			parent = own
			continue
		}
		object, err := b.session.DeriveKept(parent, step.Data[:step.DataLen], keyType, length, token.MayDerive)
		if err != nil {
			return err
		}
		fresh := b.derived.Add(derivation{k.Header.Fingerprint, step.ID}, struct{}{}, [2]token.Object{object})
		if held != nil {
			held.Release()
		}
		held, parent = fresh, fresh.Objects[0]
	}
	step := path.Step(last)
	keyType, length := pkcs11Type(step.Key)
	object, err := b.session.Derive(parent, step.Data[:step.DataLen], keyType, length, token.MayEncrypt|token.MayDecrypt)
	if err != nil {
		return err
	}
	algorithm := "A"
	if working.IsTDES() {
		algorithm = "T"
	}
	*c = cipher{mechanism: sealing.ECB(algorithm), object: object, derived: true}
	return nil
}
