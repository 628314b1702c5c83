package voids

import (
	"fmt"
	"strings"

	"keyd/dukpt"
	"keyd/hsm"
	"keyd/keys"
	"keyd/keyuse"
	"keyd/pinrecord"
	"keyd/voidtoken"
)

// PIN is a PIN that was typed at a terminal for a void, with the terminal's MAC that binds it
// (pinrecord.Bound). Exactly one of Supervisor and Cardholder is set. A cardholder whose PIN has a
// record is a subject, too.
type PIN struct {
	KeyID  string
	DUKPT  *keyuse.DUKPT
	Format int32 // keyd.v1.PinBlockFormat
	Block  []byte

	MAC MAC

	Subject    *pinrecord.Subject
	Cardholder *Cardholder
}

// MAC is a terminal's MAC.
type MAC struct {
	KeyID     string
	DUKPT     *keyuse.DUKPT
	Algorithm int32 // keyd.v1.MacKey.Algorithm
	Direction int32 // keyd.v1.MacKey.Direction
	Padding   int32 // method of ISO 9797-1; 0 is 1
	MAC       []byte
}

// Cardholder is a cardholder whose PIN is verified by a value of the issuer's.
type Cardholder struct {
	KeyID   string
	PAN     string
	VisaPVV *hsm.VisaPVV
	IBM3624 *hsm.IBM3624
}

// Sizes of MACs in bytes: the least that binds a void, and the largest of any.
const (
	leastMAC = 8
	mostMAC  = 32
)

// cardholder is how a token names one whose PIN has no record.
const cardholder = "cardholder"

// method is the way in which the PIN authorises.
func (p *PIN) method() voidtoken.Method {
	if p.Subject != nil && p.Subject.Kind == pinrecord.Supervisor {
		return voidtoken.SupervisorPIN
	}
	return voidtoken.CardholderPIN
}

// who is who authorises by it, as the token says.
func (p *PIN) who() string {
	if p.Subject != nil {
		return p.Subject.Name
	}
	return cardholder
}

// check is about the shape alone, that of the key serial numbers last.
func (p *PIN) check(field string) (serial dukpt.KSN, err error) {
	format := hsm.Format(p.Format - 1)
	if err := keyuse.CheckKeyID(field+".incoming.key_id", p.KeyID); err != nil {
		return serial, err
	}
	switch {
	case p.Format < 1 || p.Format > 5:
		return serial, keyuse.Invalid(field + ".incoming.format is one of ISO_FORMAT_0 to ISO_FORMAT_4")
	case len(p.Block) != format.BlockSize():
		return serial, keyuse.Invalid(fmt.Sprintf("%s.encrypted_pin_block has %d bytes in this format", field, format.BlockSize()))
	}
	if err := p.DUKPT.Check(field + ".incoming"); err != nil {
		return serial, err
	}
	if err := p.MAC.check(field); err != nil {
		return serial, err
	}
	if err := p.checkWhose(field); err != nil {
		return serial, err
	}
	if serial, err = p.DUKPT.Serial(field + ".incoming"); err != nil {
		return serial, err
	}
	other, err := p.MAC.DUKPT.Serial(field + ".mac_key")
	if err == nil && other != serial {
		err = keyuse.Invalid(field + ".mac_key has the key serial number of the PIN block, and none where that has none")
	}
	return serial, err
}

func (p *PIN) checkWhose(field string) error {
	if (p.Subject == nil) == (p.Cardholder == nil) {
		return keyuse.Invalid(field + " is of a supervisor or of a cardholder")
	}
	if p.Subject != nil {
		if err := p.Subject.Validate(); err != nil {
			return keyuse.Invalid(field + ": " + strings.TrimPrefix(err.Error(), pinrecord.ErrSubject.Error()+": "))
		}
		if p.Subject.Kind == pinrecord.Passkey {
			return keyuse.Invalid(field + ": a passkey is no PIN; it is used on a phone")
		}
		return nil
	}
	h := p.Cardholder
	if err := keyuse.CheckKeyID(field+".cardholder.verification_key_id", h.KeyID); err != nil {
		return err
	}
	switch {
	case len(h.PAN) < 1 || len(h.PAN) > 19 || !keyuse.Decimal(h.PAN):
		return keyuse.Invalid(field + ".cardholder.primary_account_number has 1 to 19 decimal digits and nothing else")
	case (h.VisaPVV == nil) == (h.IBM3624 == nil):
		return keyuse.Invalid(field + ".cardholder.expected has exactly one of visa_pvv and ibm3624")
	case h.VisaPVV != nil && (h.VisaPVV.KeyIndex > 9 || !keyuse.Fits(h.VisaPVV.PVV, 4, "0123456789")):
		return keyuse.Invalid(field + ".cardholder.expected.visa_pvv has a key_index (PVKI) of 0 to 9 and a pvv of 4 decimal digits")
	case h.IBM3624 != nil && (len(h.IBM3624.Offset) < 4 || len(h.IBM3624.Offset) > 12 || !keyuse.Decimal(h.IBM3624.Offset)):
		return keyuse.Invalid(field + ".cardholder.expected.ibm3624.offset has 4 to 12 decimal digits")
	}
	return nil
}

func (m *MAC) check(field string) error {
	if err := keyuse.CheckKeyID(field+".mac_key.key_id", m.KeyID); err != nil {
		return err
	}
	const request = 1 // keyd.v1.MacKey.Direction
	switch {
	case m.Algorithm < int32(hsm.MACAlgorithm1) || m.Algorithm > int32(hsm.HMACSHA256):
		return keyuse.Invalid(field + ".mac_key.algorithm is one of ISO9797_ALGORITHM1, ISO9797_ALGORITHM3, CMAC, HMAC_SHA256")
	case m.Padding < 0 || m.Padding > 2 || m.Padding != 0 && m.Algorithm > int32(hsm.MACAlgorithm3):
		return keyuse.Invalid(field + ".mac_key.padding_method is 1 or 2 of ISO 9797-1, and nothing for CMAC and HMAC")
	case m.DUKPT != nil && m.Direction != request || m.DUKPT == nil && m.Direction != 0:
		return keyuse.Invalid(field + ".mac_key.direction is REQUEST under a BDK, and nothing otherwise")
	case len(m.MAC) < leastMAC || len(m.MAC) > mostMAC:
		return keyuse.Invalid(fmt.Sprintf("%s.mac has %d to %d bytes", field, leastMAC, mostMAC))
	}
	return m.DUKPT.Check(field + ".mac_key")
}

// named are the keys of the PIN as the policy is asked about them.
func (p *PIN) named(field string) []keyuse.Named {
	list := []keyuse.Named{{Field: field + ".incoming.key_id", Name: p.KeyID}, {Field: field + ".mac_key.key_id", Name: p.MAC.KeyID}}
	if p.Cardholder != nil {
		list = append(list, keyuse.Named{Field: field + ".cardholder.verification_key_id", Name: p.Cardholder.KeyID})
	}
	return list
}

// with returns the PIN as a module gets it, without its record, and how many of the keys are its own.
func (p *PIN) with(found []keys.Key, serial dukpt.KSN) (hsm.VoidPIN, int) {
	v := hsm.VoidPIN{
		Key: hsm.PINKey{Key: keyuse.Sealed(found[0]), KSN: serial, WorkingType: p.DUKPT.WorkingType(), Format: hsm.Format(p.Format - 1)}, Block: p.Block,
		MACKey: hsm.MACKey{
			Key: keyuse.Sealed(found[1]), KSN: serial, WorkingType: p.MAC.DUKPT.WorkingType(), Algorithm: hsm.MACAlgorithm(p.MAC.Algorithm), Padding: uint8(max(1, p.MAC.Padding)),
		},
		MAC: p.MAC.MAC,
	}
	if h := p.Cardholder; h != nil {
		v.Cardholder = &hsm.CardholderPIN{Verification: keyuse.Sealed(found[2]), PAN: h.PAN, VisaPVV: h.VisaPVV, IBM3624: h.IBM3624}
		return v, 3
	}
	return v, 2
}

// identify adds the PIN to the identity of a request.
func (p *PIN) identify(i keyuse.Identity, found []keys.Key, v *hsm.VoidPIN) keyuse.Identity {
	i = append(i.Key(found[0]).Serial(v.Key.KSN), uint8(v.Key.WorkingType), uint8(v.Key.Format))
	i = keyuse.AppendField(keyuse.AppendField(i, p.Block), p.MAC.MAC)
	i = append(i.Key(found[1]), uint8(v.MACKey.WorkingType), uint8(v.MACKey.Algorithm), v.MACKey.Padding)
	if p.Subject != nil {
		digest := p.Subject.Digest()
		return keyuse.AppendField(i, digest[:])
	}
	h := p.Cardholder
	i = keyuse.AppendField(i.Key(found[2]), h.PAN)
	if h.VisaPVV != nil {
		return keyuse.AppendField(append(keyuse.AppendField(i, "PVV"), h.VisaPVV.KeyIndex), h.VisaPVV.PVV)
	}
	return keyuse.AppendField(keyuse.AppendField(i, "offset"), h.IBM3624.Offset)
}
