package pinrecords

import (
	"encoding/hex"

	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/ledger"
	"keyd/hsm/module/internal/pinops"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/pinblock"
	"keyd/pinrecord"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// Set sets the PIN of a pending record, if the code is right.
func (e *Engine) Set(r hsm.SetPIN) (answer hsm.SetRecord, err error) {
	if err := together(&r.Code, &r.PIN); err != nil {
		return hsm.SetRecord{}, err
	}
	counted := false
	err = e.do(func(s *token.Session) error {
		answer = hsm.SetRecord{}
		return e.set(s, &r, &counted, &answer)
	})
	if err != nil {
		return hsm.SetRecord{}, err
	}
	return answer, nil
}

func (e *Engine) set(s *token.Session, r *hsm.SetPIN, counted *bool, answer *hsm.SetRecord) error {
	p, verdict, err := e.shownPending(s, r.Pending)
	if err != nil {
		return err
	}
	if p.Subject.Kind == pinrecord.Passkey {
		return fault.New(fault.RequestInvalid, "who has a passkey sets no PIN")
	}
	if e.register.Now().Unix() >= p.NotAfter {
		verdict.refuse(fault.New(fault.ApprovalInvalid, pinrecord.ErrExpired.Error()))
	}
	key, err := e.datumKey(s, r.DatumKey, &p.Key)
	if err != nil {
		return err
	}
	defer key.Release()
	version, approval := ledger.Version{Subject: p.Subject.Digest(), Number: p.Version}, device(p.Approval)
	if err := verdict.asked(e.ledger.Pending(version, approval)); err != nil {
		return err
	}
	code, err := e.entry(s, &r.Code, &p.Subject, r.Demands, pinrecord.OfCode(approval, &p.Subject))
	if err != nil {
		return err
	}
	pin, err := e.entry(s, &r.PIN, &p.Subject, r.Demands, pinrecord.OfNewPIN(approval, &p.Subject))
	if err != nil {
		return err
	}
	count := func() error { return once(counted, func() bool { return e.tries.Code(version.Subject) }) }
	var made *pinrecord.Record
	err = e.pins.Open(s, []pinops.Opening{code, pin}, nil, count, func(pins []*pinblock.PIN, room []byte) error {
		code, pin := pins[0], pins[1]
		datum, err := codeDatum(s, key.Object, room, code, &p.Subject, p.Version, approval[:])
		if err != nil || !verdict.live() || !right(datum, p.Code, code) {
			return err
		}
		answer.Verified = true
		made, err = newRecord(s, &key, room, pin, code, &p.Subject, p.Version)
		return err
	})
	if err != nil || made == nil {
		return verdict.or(err)
	}
	body, err := made.Encode()
	if err != nil {
		return err
	}
	fresh, err := e.ledger.Set(version, approval, digestOf(body))
	if err := ledger.Refusal(err); err != nil {
		return err
	}
	if fresh {
		// Tries before this PIN were of another, or of none. Without room in the table they count on.
		e.tries.ResetRecord(version.Subject)
	}
	answer.Record, err = e.seal(s, ofRecord, body)
	return err
}

// newRecord makes a record of a new PIN. The other one, a code or the PIN before, is none that it
// may be. Errors are [fault.PINBlockInvalid] for digits that are none, and [fault.PINWeak].
func newRecord(s *token.Session, key *sealing.Key, room []byte, pin, other *pinblock.PIN, subject *pinrecord.Subject, version uint32) (*pinrecord.Record, error) {
	if !pin.Decimal() {
		return nil, fault.New(fault.PINBlockInvalid, "")
	}
	if pin.Len() < subject.MinPIN() || weak(pin, subject) || pin.Equal(other) {
		return nil, fault.New(fault.PINWeak, "")
	}
	datum, err := pinDatum(s, key.Object, room, pin, subject, version)
	if err != nil {
		return nil, err
	}
	return &pinrecord.Record{Subject: *subject, Version: version, Key: datumKeyOf(key.Header), Length: uint8(pin.Len()), Datum: hexOf(datum)}, nil
}
