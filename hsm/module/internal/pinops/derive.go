package pinops

import (
	"github.com/miekg/pkcs11"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/working"
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
	b.derive(func(l *lane) (*cipher, *sealing.Key, *hsm.PINKey) { return &l.incoming, &l.inKey, l.in })
}

func (b *batch) deriveOutgoing() {
	b.derive(func(l *lane) (*cipher, *sealing.Key, *hsm.PINKey) { return &l.outgoing, &l.outKey, l.out })
}

// derive makes a cipher for one PIN key of each lane that has one.
func (b *batch) derive(side func(*lane) (*cipher, *sealing.Key, *hsm.PINKey)) {
	var halves []ecb
	for l := range b.going {
		c, k, p := side(l)
		switch {
		case p == nil:
		case l.phone != nil:
			if err := b.agree(l, c); err != nil {
				b.fail(l, err)
			}
		case k.Header.Usage != "B0":
			*c = cipher{mechanism: k.Mechanism(), object: k.Object}
		case k.Header.Algorithm == "T":
			// ANSI X9.24-1:2009 §A.6: the token enciphers the initial key ID under the BDK and
			// the masked BDK, which gives the initial key's halves.
			l.id = p.KSN.InitialKeyID()
			halves = append(halves,
				ecb{l, pkcs11.CKM_DES3_ECB, k.Object, l.ik[:8], l.id[:]},
				ecb{l, pkcs11.CKM_DES3_ECB, k.Twin, l.ik[8:], l.id[:]})
			*c = cipher{memory: true, ksn: p.KSN}
		default:
			if err := b.deriveAES(c, k, p, rights(l.way, p.Format, p == l.in)); err != nil {
				b.fail(l, err)
			}
		}
	}
	b.together(encrypt, halves)
}

// expand computes the PIN encryption key of ANSI X9.24-1:2009 §A.4 from the initial key
// in the workspace, which it forgets. It is called within erase.Do.
func (l *lane) expand(key *software.TDESKey, ksn dukpt.KSN) error {
	return working.ExpandTDES(key, l.ik[:], ksn, dukpt.VariantPIN)
}

// deriveAES makes a cipher with a PIN key of AES DUKPT in the token.
func (b *batch) deriveAES(c *cipher, k *sealing.Key, p *hsm.PINKey, may token.Rights) error {
	kind := working.Type(p.WorkingType)
	object, err := b.keys.DeriveAES(b.session, k, p.KSN, dukpt.UsagePIN, kind, may)
	if err != nil {
		return err
	}
	algorithm := "A"
	if kind.IsTDES() {
		algorithm = "T"
	}
	*c = cipher{mechanism: sealing.ECB(algorithm), object: object, derived: true}
	return nil
}
