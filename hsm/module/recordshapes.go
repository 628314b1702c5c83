package module

import (
	"math"

	"keyd/hsm"
	"keyd/hsm/internal/wire"
	"keyd/hsm/module/internal/pinrecords"
	"keyd/pinrecord"
	"keyd/trust"
	"keyd/voidtoken"
)

func beginPIN(m *wire.BeginPin) (r hsm.BeginPIN, err error) {
	if r.Approvals, err = twoApprovals(m.Approvals); err != nil {
		return r, err
	}
	r.DatumKey, err = key(m.DatumKey)
	return r, err
}

func twoApprovals(list []*wire.Approval) ([]hsm.Approval, error) {
	if len(list) != 2 {
		return nil, malformed
	}
	var two []hsm.Approval
	for _, m := range list {
		a, err := approval(m)
		if err != nil {
			return nil, err
		}
		two = append(two, a)
	}
	return two, nil
}

func approval(m *wire.Approval) (hsm.Approval, error) {
	size := 0
	for _, der := range m.GetCertificates() {
		size += len(der)
	}
	if len(m.GetDocument()) == 0 || len(m.Document) > pinrecord.MaxDocument || len(m.Signature) == 0 || len(m.Signature) > pinrecord.MaxSignature ||
		len(m.Certificates) == 0 || len(m.Certificates) > trust.MaxChain || size > pinrecord.MaxCertificates {
		return hsm.Approval{}, malformed
	}
	return hsm.Approval{Document: m.Document, Signature: m.Signature, Certificates: m.Certificates}, nil
}

func setPIN(m *wire.SetPin) (r hsm.SetPIN, err error) {
	if r.Pending, err = sealedRecord(m.Pending); err != nil {
		return r, err
	}
	if r.DatumKey, err = key(m.DatumKey); err != nil {
		return r, err
	}
	if r.Code, err = recordBlock(m.Code); err != nil {
		return r, err
	}
	r.PIN, err = recordBlock(m.Pin)
	r.Demands = demands(m.Demands)
	return r, err
}

func verifyRecord(m *wire.VerifyRecord) (r hsm.VerifyRecord, err error) {
	if r.Record, err = sealedRecord(m.Record); err != nil {
		return r, err
	}
	if r.DatumKey, err = key(m.DatumKey); err != nil {
		return r, err
	}
	r.PIN, err = recordBlock(m.Pin)
	r.Demands = demands(m.Demands)
	return r, err
}

func changeRecord(m *wire.ChangeRecord) (r hsm.ChangeRecord, err error) {
	if r.Record, err = sealedRecord(m.Record); err != nil {
		return r, err
	}
	if r.DatumKey, err = key(m.DatumKey); err != nil {
		return r, err
	}
	if r.Current, err = recordBlock(m.Current); err != nil {
		return r, err
	}
	r.New, err = recordBlock(m.New)
	r.Demands = demands(m.Demands)
	return r, err
}

func revokeRecord(m *wire.RevokeRecord) ([]byte, error) { return sealedRecord(m.Record) }

func resealRecord(m *wire.ResealRecord) ([]byte, error) { return sealedRecord(m.Record) }

type unblocking struct {
	record    []byte
	approvals []hsm.Approval
}

func unblockRecord(m *wire.UnblockRecord) (u unblocking, err error) {
	if u.record, err = sealedRecord(m.Record); err != nil {
		return u, err
	}
	u.approvals, err = twoApprovals(m.Approvals)
	return u, err
}

func sealedRecord(b []byte) ([]byte, error) {
	if len(b) <= pinrecord.MACSize || len(b) > pinrecord.MaxRecord+pinrecord.MACSize {
		return nil, malformed
	}
	return b, nil
}

func recordBlock(m *wire.RecordBlock) (b hsm.RecordBlock, err error) {
	if b.Key, err = pinKey(m.GetKey()); err != nil {
		return b, err
	}
	if b.Phone, err = phonePoint(m.Phone); err != nil {
		return b, err
	}
	b.Block = m.Block
	return b, checkBlock(b.Block, &b.Key)
}

// phonePoint is nil where the PIN comes from a terminal.
func phonePoint(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if _, err := pinrecord.PhonePoint(b); err != nil {
		return nil, malformed
	}
	return b, nil
}

func voidFields(m *wire.VoidFields) (f voidtoken.Fields, err error) {
	if m.GetCurrency() > math.MaxUint16 {
		return f, malformed
	}
	f = voidtoken.Fields{Void: m.GetVoid(), Merchant: m.GetMerchant(), Terminal: m.GetTerminal(), Reference: m.GetReference(), Amount: m.GetAmount(), Currency: voidtoken.Currency(m.GetCurrency())}
	if f.Validate() != nil {
		return f, malformed
	}
	return f, nil
}

func authorizeVoid(m *wire.AuthorizeVoid) (r hsm.AuthorizeVoid, err error) {
	if r.Fields, err = voidFields(m.Fields); err != nil {
		return r, err
	}
	if r.TokenKey, err = key(m.TokenKey); err != nil {
		return r, err
	}
	if len(m.Pins) == 0 || len(m.Pins) > pinrecords.MaxPINs {
		return r, malformed
	}
	for _, p := range m.Pins {
		pin, err := voidPIN(p)
		if err != nil {
			return r, err
		}
		r.PINs = append(r.PINs, pin)
	}
	r.ExpiresAt, r.Demands = m.ExpiresAt, demands(m.Demands)
	return r, nil
}

func voidPIN(m *wire.VoidPin) (p hsm.VoidPIN, err error) {
	if p.Key, err = pinKey(m.Incoming); err != nil {
		return p, err
	}
	if p.Phone, err = phonePoint(m.Phone); err != nil {
		return p, err
	}
	if p.Phone == nil || m.MacKey != nil {
		if p.MACKey, err = macKey(m.MacKey); err != nil {
			return p, err
		}
	}
	if len(m.Mac) > 32 {
		return p, malformed
	}
	p.Block, p.MAC = m.Block, m.Mac
	if err := checkBlock(p.Block, &p.Key); err != nil {
		return p, err
	}
	switch whose := m.Whose.(type) {
	case *wire.VoidPin_Record:
		p.Record = new(hsm.RecordPIN)
		if p.Record.Record, err = sealedRecord(whose.Record.GetRecord()); err == nil {
			p.Record.DatumKey, err = key(whose.Record.GetDatumKey())
		}
	case *wire.VoidPin_Cardholder:
		p.Cardholder, err = cardholderPIN(whose.Cardholder)
	default:
		err = malformed
	}
	return p, err
}

func cardholderPIN(m *wire.CardholderPin) (c *hsm.CardholderPIN, err error) {
	c = &hsm.CardholderPIN{PAN: m.GetPan()}
	if !digits(c.PAN, 1, 19) {
		return nil, malformed
	}
	if c.Verification, err = key(m.Verification); err != nil {
		return nil, err
	}
	switch expected := m.Expected.(type) {
	case *wire.CardholderPin_VisaPvv:
		c.VisaPVV, err = visaPVV(expected.VisaPvv, 4)
	case *wire.CardholderPin_Ibm3624:
		c.IBM3624, err = ibm3624(expected.Ibm3624)
	default:
		err = malformed
	}
	return c, err
}

func approveVoid(m *wire.ApproveVoid) (r hsm.ApproveVoid, err error) {
	if r.Fields, err = voidFields(m.Fields); err != nil {
		return r, err
	}
	if r.Approval, err = approval(m.Approval); err != nil {
		return r, err
	}
	r.ExpiresAt = m.ExpiresAt
	r.TokenKey, err = key(m.TokenKey)
	return r, err
}

func signCode(m *wire.SignCode) (r hsm.SignCode, err error) {
	if len(m.Identifier) != len(r.Identifier) || len(m.Audience) != len(r.Audience) {
		return r, malformed
	}
	r.Identifier, r.Audience, r.ExpiresAt = [16]byte(m.Identifier), [8]byte(m.Audience), m.ExpiresAt
	r.Key, err = key(m.Key)
	return r, err
}
